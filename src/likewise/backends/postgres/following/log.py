"""Follows a collection by PostgreSQL's log: a logical replication slot, in whose snapshot the first rows are read.

The slot's snapshot and its first change fit exactly: what was committed before the slot's consistent point is in the snapshot, what was committed
later is told by the log, nothing is in both. The exported snapshot lives until the next command of the replication connection, so the stream
starts when the rows are read; what happens meanwhile the slot keeps.

A position is a place in the log. It moves on with each commit, and between commits by the server's keepalives: what those say was sent is
all that had been committed until there. The server asks us how far we are, and so tells how far it is, whenever it has read all that there is and
we have confirmed less; so a quiet collection in a busy database is behind for no longer than an answer takes.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Any

from psycopg import AsyncConnection, sql

from likewise.abc.feeds import Commit, Feed, Payload, Position, Rows
from likewise.backends.postgres._errors import translating
from likewise.backends.postgres._table import Table
from likewise.backends.postgres.following import _slots
from likewise.backends.postgres.following._held import check_holds, mismatch
from likewise.backends.postgres.following._positions import log_place, log_position
from likewise.backends.postgres.following._table import PATIENT, Followed, close, connect, look, read_rows
from likewise.backends.postgres.following._transactions import IN_MEMORY, Transactions
from likewise.backends.postgres.following.stream import Keepalive, Replication, read, status
from likewise.errors import BackendError, CollectionNotFound, InvalidArgument, LikewiseError

__all__ = ["LogFeed"]

#: Seconds between looks at the table: whether it is there, and still published. Somebody in a hurry has it looked at sooner.
_LOOK_SECONDS, _HURRIED_LOOK_SECONDS = 1.0, 0.1
#: Seconds after which the server is told how far we are though it has not asked: it gives up on a reader that says nothing for a minute.
_BEAT_SECONDS = 10.0
#: The least time between two answers to the server's questions: in a busy database they would come with each commit.
_ANSWER_SECONDS = 0.002
#: Frames after which what has come is told, though there is more.
_TAKEN_TOGETHER = 5_000


class LogFeed(Feed):
    """One collection by its log. ``name``: the slot is kept between connections, under this name; without one it ends with the connection."""

    def __init__(self, conninfo: str, table: Table, holds: frozenset[Payload], *, name: str | None = None) -> None:
        check_holds(table.spec, holds)
        self._conninfo = conninfo
        self._schema, self._spec, self._holds = table.schema, table.spec, holds
        self._name = None if name is None else _slots.check_name(name)
        self._application = f"likewise copy of {table.spec.name}"[:63]
        self._sql: AsyncConnection[Any] | None = None
        self._stream: Replication | None = None
        self._followed: Followed | None = None
        self._publication = 0
        self._slot = ""
        self._snapshot: str | None = None
        self._rows: AsyncGenerator[Rows, None] | None = None
        self._start = self._kept = 0
        self._transactions: Transactions | None = None
        self._answer_due: float | None = None
        self._answered_at = 0.0
        self._asked = self._told = False
        self._watch: asyncio.Task[None] | None = None
        self._look_soon = asyncio.Event()
        self._failure: LikewiseError | None = None

    async def begin(self, after: Position | None) -> bool:
        """As ``Feed.begin``. Making a slot takes until the transactions that write now have ended.

        Raises:
            BackendConflict: the slot of this name is being read by somebody else.
            BackendError: the role may not replicate, or the server is not set up for logical decoding; the text has the cure.
        """
        await self.aclose()
        self._failure = None
        self._sql = await connect(self._conninfo, self._application)
        followed = self._followed = await look(self._sql, self._schema, self._spec, self._holds)
        _slots.check_server(followed)
        _slots.check_identity(self._spec.name, followed)
        self._publication = await _slots.publish(self._sql, self._schema, self._spec.name, followed)
        self._stream = await Replication.connect(
            self._conninfo, name=self._application, reader="the copy of a collection", cures=_slots.CURES
        )
        await self._stream.command(PATIENT)
        self._slot = _slots.temporary_name()
        if self._name is not None:
            self._slot = _slots.slot_name(self._name, followed.oid, self._publication)
            place = None if after is None else _place(after)
            if await _slots.ready(self._sql, self._name, self._slot, place):
                assert place is not None
                self._start = self._kept = place
                return True
            await _slots.clear(self._sql, self._name, self._slot, followed.oid)
        made = await self._stream.command(_slots.create_command(self._slot, temporary=self._name is None))
        self._start = self._kept = log_place(Position(made[1] or ""))
        self._snapshot = made[2]
        return False

    def snapshot(self) -> AsyncIterator[Rows]:
        if self._followed is None or self._snapshot is None:
            raise InvalidArgument("a snapshot is read once, when begin() has said that it is needed, before commits()")
        self._rows = self._read_rows(self._followed, self._snapshot)
        self._snapshot = None
        return self._rows

    async def _read_rows(self, followed: Followed, snapshot: str) -> AsyncGenerator[Rows, None]:
        connection = await connect(self._conninfo, self._application)
        rows = read_rows(connection, self._schema, followed)
        try:
            with translating(self._spec.name):
                await connection.execute("begin isolation level repeatable read read only")
                await connection.execute(sql.SQL("set transaction snapshot {}").format(sql.Literal(snapshot)))
            async for part in rows:
                yield part
        finally:
            await rows.aclose()
            await close(connection)

    @property
    def position(self) -> Position:
        return log_position(self._start)

    async def commits(self) -> AsyncIterator[Sequence[Commit]]:
        stream, followed = self._stream, self._followed
        if stream is None or followed is None:
            raise InvalidArgument("begin() comes before commits()")
        await stream.command(_slots.start_command(self._slot, self._start, followed.oid))
        self._snapshot = None
        transactions = self._transactions = Transactions(followed.held, followed.oid, self._start, in_memory=IN_MEMORY)
        self._watch = asyncio.create_task(self._keep_watch(stream, followed))
        told = self._start
        while True:
            try:
                commits, taken = self._take(stream, transactions)
            except BackendError:
                # If the table or its publication is no more, that is the better error.
                await self._check(followed)
                raise
            if self._told or transactions.read > (log_place(commits[-1].position) if commits else told):
                self._told = False
                commits.append(Commit(log_position(transactions.read)))
            if self._answer_due is not None and self._answer_due <= time.monotonic():
                await self._answer(stream)
            if commits:
                told = transactions.read
                yield commits
            elif self._failure is not None:
                raise self._failure
            elif taken:
                # In the midst of a large transaction: let others of this loop have their turn.
                await asyncio.sleep(0)
            else:
                due = self._answer_due
                await stream.wait(_LOOK_SECONDS if due is None else max(0.0, due - time.monotonic()))

    def _take(self, stream: Replication, transactions: Transactions) -> tuple[list[Commit], int]:
        """The commits that have come, and the number of frames."""
        commits: list[Commit] = []
        taken = 0
        while taken < _TAKEN_TOGETHER and (frames := stream.receive()):
            taken += len(frames)
            for frame in map(read, frames):
                if (commit := transactions.take(frame)) is not None:
                    commits.append(commit)
                elif isinstance(frame, Keepalive):
                    if frame.wants_reply and self._answer_due is None:
                        self._answer_due = self._answered_at + _ANSWER_SECONDS
                    if self._asked:
                        # Who is in a hurry is told where we are even if that is where we were: it shows that the server is there.
                        self._asked, self._told = False, True
        return commits, taken

    async def _answer(self, stream: Replication, *, reply: bool = False) -> None:
        """Tell the server how far we have read, and what need not be told again."""
        assert self._transactions is not None
        reached = self._transactions.read
        self._answer_due, self._answered_at = None, time.monotonic()
        await stream.send(status(reached, reached if self._name is None else self._kept, reply=reply))

    async def _keep_watch(self, stream: Replication, followed: Followed) -> None:
        """See that the table stays what it is, and that the server does not give us up while the reader is busy."""
        try:
            while True:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_LOOK_SECONDS):
                        await self._look_soon.wait()
                self._look_soon.clear()
                await self._check(followed)
                if time.monotonic() - self._answered_at > _BEAT_SECONDS:
                    await self._answer(stream)
                await asyncio.sleep(_HURRIED_LOOK_SECONDS)
        except LikewiseError as error:
            self._failure = error
            stream.wake()

    async def _check(self, followed: Followed) -> None:
        assert self._sql is not None
        now = await look(self._sql, self._schema, self._spec, self._holds)
        if now.oid != followed.oid:
            raise CollectionNotFound(self._spec.name)
        if now.held != followed.held:
            raise mismatch(self._spec.name, ["its columns were altered"])
        _slots.check_identity(self._spec.name, now)
        if now.facts["publication"] != self._publication or not now.facts["published"]:
            raise mismatch(self._spec.name, [f"the publication {_slots.publication_name(now.oid)} was altered"])

    async def kept(self, position: Position) -> None:
        self._kept = max(self._kept, log_place(position))
        if self._transactions is not None and self._stream is not None:
            self._kept = min(self._kept, self._transactions.read)
            await self._answer(self._stream)

    async def hurry(self) -> None:
        if self._transactions is not None and self._stream is not None:
            self._look_soon.set()
            self._asked = True
            await self._answer(self._stream, reply=True)

    def reached(self, position: Position, wanted: Position) -> bool:
        return log_place(position) >= log_place(wanted)

    async def forget(self) -> None:
        """As ``Feed.forget``: the slot is dropped, and the table's publication if no other slot needs it."""
        oid, publication = 0 if self._followed is None else self._followed.oid, self._publication
        await self.aclose()
        connection = await connect(self._conninfo, self._application)
        try:
            if not oid:
                # Of a table that is no more, the slot is dropped all the same.
                with contextlib.suppress(CollectionNotFound):
                    followed = await look(connection, self._schema, self._spec, self._holds)
                    oid, publication = followed.oid, followed.facts["publication"] or 0
            if self._name is not None:
                slot = _slots.slot_name(self._name, oid, publication)
                await _slots.ready(connection, self._name, slot, None)
                await _slots.clear(connection, self._name, slot, oid)
            await _slots.drop_publication(connection, oid)
        finally:
            await close(connection)

    async def aclose(self) -> None:
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.cancel()
            await asyncio.wait([watch])
        rows, self._rows = self._rows, None
        if rows is not None:
            await rows.aclose()
        stream, self._stream = self._stream, None
        self._transactions, self._followed = None, None
        if stream is not None:
            await stream.aclose()
        connection, self._sql = self._sql, None
        await close(connection)


def _place(position: Position) -> int | None:
    """The place in the log, or None for a position of another kind of feed."""
    try:
        return log_place(position)
    except InvalidArgument:
        return None
