"""Follows a collection by triggers that note which rows change: where the log cannot be decoded, or the role may not. It takes the table's owner.

A position is a snapshot. The changes since are asked for at once when somebody is in a hurry, and else every ``_SOON`` or ``_IDLE`` seconds. Nobody
wakes us: NOTIFY would have all who commit wait for each other, and who waits for a copy asks it to hurry anyway.

What is told of a row is what it is at the next snapshot, so several commits may come as one. All that changed between two snapshots is
in memory at once: that of a load of 100,000 rows is as large as those rows. Triggers on statements do not fire for rows that a subscription of
PostgreSQL's own logical replication writes: a table that is filled so is followed by the log.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Any

from psycopg import AsyncConnection, sql

from likewise.abc.feeds import Change, Cleared, Commit, Feed, Gone, Payload, Position, Put, Rows
from likewise.backends.postgres._errors import translating
from likewise.backends.postgres._table import Table
from likewise.backends.postgres.following import _notes
from likewise.backends.postgres.following._held import check_holds, mismatch, vector_in
from likewise.backends.postgres.following._positions import snapshot_in, snapshot_reached
from likewise.backends.postgres.following._slots import check_name
from likewise.backends.postgres.following._table import Followed, close, connect, look, read_rows
from likewise.errors import BackendError, CollectionNotFound, InvalidArgument, LikewiseError

__all__ = ["TriggerFeed"]

#: Seconds between questions: while changes come, and when there have been none for ``_QUIET`` seconds.
_SOON, _IDLE, _QUIET = 0.02, 0.2, 2.0
#: Seconds between looks at the table and its triggers, and between signs of life.
_LOOK_SECONDS, _BEAT_SECONDS = 1.0, 10.0
#: The least time between two questions in a hurry.
_HURRIED = 0.001


class TriggerFeed(Feed):
    """One collection by its triggers. ``name``: the notes are kept between connections, for this name; without one until it is closed."""

    def __init__(self, conninfo: str, table: Table, holds: frozenset[Payload], *, name: str | None = None) -> None:
        check_holds(table.spec, holds)
        self._conninfo = conninfo
        self._schema, self._spec, self._holds = table.schema, table.spec, holds
        self._temporary = name is None
        self._name = f"temporary {os.getpid()} {secrets.token_hex(4)}" if name is None else check_name(name)
        self._application = f"likewise copy of {table.spec.name}"[:63]
        self._sql: AsyncConnection[Any] | None = None
        self._reading: AsyncConnection[Any] | None = None
        self._rows: AsyncGenerator[Rows, None] | None = None
        self._followed: Followed | None = None
        self._origin = ""
        self._start = self._at = self._kept = Position("")
        self._hurried = asyncio.Event()

    async def begin(self, after: Position | None) -> bool:
        """As ``Feed.begin``. Making the triggers waits for transactions that are writing to the table.

        Raises:
            BackendConflict: another process has this name, or somebody has been writing in one transaction for half a minute.
            BackendError: the role does not own the table; the text has the cure.
        """
        await self.aclose()
        connection = await connect(self._conninfo, self._application)
        try:
            followed = await look(connection, self._schema, self._spec, self._holds)
            await _notes.claim(connection, followed.oid, self._name)
            goes_on = after is not None and _is_snapshot(after) and await self._goes_on(connection, followed, after)
            if not goes_on:
                await _notes.arm(connection, self._schema, self._spec.name, followed, self._name)
        except BaseException:
            await close(connection)
            raise
        self._sql, self._followed = connection, followed
        _, self._origin = await _notes.origin(connection, followed)
        if goes_on:
            assert after is not None
            self._start = self._at = self._kept = after
        else:
            self._start = self._at = self._kept = await self._open_snapshot(followed)
        return goes_on

    async def _goes_on(self, connection: AsyncConnection[Any], followed: Followed, after: Position) -> bool:
        with _notes.explained(self._spec.name):
            return await _notes.go_on(connection, followed, self._name, after)

    async def _open_snapshot(self, followed: Followed) -> Position:
        """Begin the transaction that the rows are read in; its snapshot."""
        self._reading = await connect(self._conninfo, self._application)
        with translating(self._spec.name):
            await self._reading.execute("begin isolation level repeatable read read only")
            # Before there is a snapshot: after a TRUNCATE an older one would find no rows.
            await self._reading.execute(
                sql.SQL("lock table only {} in access share mode").format(sql.Identifier(self._schema, self._spec.name))
            )
            cursor = await self._reading.execute("select pg_catalog.pg_current_snapshot()::text")
            (position,) = await cursor.fetchone() or ("",)
        if (await look(self._reading, self._schema, self._spec, self._holds)).oid != followed.oid:
            raise CollectionNotFound(self._spec.name)
        return Position(position)

    def snapshot(self) -> AsyncIterator[Rows]:
        connection, self._reading = self._reading, None
        if self._followed is None or connection is None:
            raise InvalidArgument("a snapshot is read once, when begin() has said that it is needed, before commits()")
        self._rows = read_rows(connection, self._schema, self._followed)
        return self._rows

    @property
    def position(self) -> Position:
        return self._start

    async def commits(self) -> AsyncIterator[Sequence[Commit]]:
        connection, followed = self._sql, self._followed
        if connection is None or followed is None:
            raise InvalidArgument("begin() comes before commits()")
        reading, self._reading = self._reading, None
        await close(reading)
        statement = _notes.changed(self._schema, self._spec.name, followed.held)
        looked = beaten = float("-inf")
        changed = time.monotonic()
        while True:
            hurried = self._hurried.is_set()
            self._hurried.clear()
            now = time.monotonic()
            if now - beaten > _BEAT_SECONDS:
                await _notes.beat(connection, followed.oid, self._name, self._at if self._temporary else self._kept)
                beaten = now
            if now - looked > _LOOK_SECONDS:
                await self._check(connection, followed)
                looked = now
            commit = await self._poll(connection, followed, statement)
            if commit.changes:
                changed = now
            # Who is in a hurry is told where we are even if that is where we were: it shows that the server is there.
            if hurried or commit.changes or commit.position != self._at:
                self._at = commit.position
                yield [commit]
            await self._wait(_SOON if now - changed < _QUIET else _IDLE)

    async def _wait(self, seconds: float) -> None:
        await asyncio.sleep(_HURRIED)
        # Not wait_for, which in Python 3.11 can swallow a cancellation.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._hurried.wait()

    async def _poll(self, connection: AsyncConnection[Any], followed: Followed, statement: sql.Composed) -> Commit:
        """What has changed since the last time."""
        try:
            with translating(self._spec.name):
                cursor = connection.cursor(binary=True)
                await cursor.execute(statement, {"oid": followed.oid, "since": str(self._at)})
                rows = await cursor.fetchall()
            changes: list[Change] = []
            for row in rows:
                if row[2]:
                    changes.append(self._change(followed, row))
        except BackendError:
            # If the table is another, that is the better error.
            if not connection.closed:
                await self._check(connection, followed)
            raise
        # What is there after everything was deleted comes after that.
        changes.sort(key=lambda change: not isinstance(change, Cleared))
        return Commit(Position(rows[0][0]), changes)

    def _change(self, followed: Followed, row: Sequence[Any]) -> Change:
        _, id_, _, there, *values = row
        if id_ is None:
            return Cleared()
        if not there:
            return Gone(id_)
        held = followed.held
        vectors = {
            name: None if value is None else vector_in(value, element, dimension)
            for (name, _, element, dimension), value in zip(held.vectors, values, strict=False)
        }
        payload = dict(zip(held.payload, values[len(held.vectors) :], strict=True))
        return Put(id_, vectors, payload)

    async def _check(self, connection: AsyncConnection[Any], followed: Followed) -> None:
        # The triggers first: they may go with the table, which is the better error.
        enabled, origin = await _notes.origin(connection, followed)
        now = await look(connection, self._schema, self._spec, self._holds)
        if now.oid != followed.oid:
            raise CollectionNotFound(self._spec.name)
        if now.held != followed.held:
            raise mismatch(self._spec.name, ["its columns were altered"])
        if not enabled or origin != self._origin:
            raise mismatch(self._spec.name, ["the triggers that note its changes were altered"])

    async def kept(self, position: Position) -> None:
        snapshot_in(position)
        self._kept = position

    async def hurry(self) -> None:
        self._hurried.set()

    def reached(self, position: Position, wanted: Position) -> bool:
        return snapshot_reached(snapshot_in(position), snapshot_in(wanted))

    async def forget(self) -> None:
        """As ``Feed.forget``: the copy is registered no longer; if it was the last, the triggers note nothing more."""
        followed = self._followed
        await self._let_go()
        connection = await connect(self._conninfo, self._application)
        try:
            followed = followed or await look(connection, self._schema, self._spec, self._holds)
            await _notes.claim(connection, followed.oid, self._name)
            with _notes.explained(self._spec.name):
                await _notes.disarm(connection, self._schema, self._spec.name, followed.oid, self._name)
        finally:
            await close(connection)

    async def aclose(self) -> None:
        connection, followed = self._sql, self._followed
        if self._temporary and connection is not None and followed is not None and not connection.closed:
            # If it cannot be done now, the copy is forgotten an hour after it was last seen.
            with contextlib.suppress(LikewiseError):
                await _notes.disarm(connection, self._schema, self._spec.name, followed.oid, self._name)
        await self._let_go()

    async def _let_go(self) -> None:
        rows, self._rows = self._rows, None
        if rows is not None:
            await rows.aclose()
        for connection in (self._reading, self._sql):
            await close(connection)
        self._reading = self._sql = None
        self._followed = None


def _is_snapshot(position: Position) -> bool:
    try:
        snapshot_in(position)
    except InvalidArgument:
        return False
    return True
