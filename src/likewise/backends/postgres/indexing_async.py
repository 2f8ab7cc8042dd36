"""Builds indexes: one at a time in a collection, without keeping others from writing where somebody might, and in memory where there is room.

The statements are in ``_ddl``, the figures in ``_indexing``.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import psycopg
from psycopg import AsyncConnection, errors, sql

from likewise._deadline import check_deadline, deadline, remaining
from likewise.abc.running_async import meanwhile
from likewise.abc.stores_async import IndexWatch
from likewise.backends.postgres import _ddl
from likewise.backends.postgres._indexing import SMALL_TABLE, build_memory, plan_of, room_for
from likewise.backends.postgres._install import resource
from likewise.backends.postgres._parameters import own_sql
from likewise.backends.postgres._statements import Statement
from likewise.backends.postgres._table import Table
from likewise.backends.postgres.borrowed_async import borrow
from likewise.backends.postgres.connection_async import AsyncDatabase, Row, rows
from likewise.errors import InvalidArgument, LikewiseError
from likewise.filters import Filter
from likewise.schema import Hnsw, IndexProgress, IvfFlat

__all__ = ["AsyncIndexBuilder", "build_again"]

_log = logging.getLogger("likewise.backends.postgres")

#: How often a watcher hears of a build.
_LOOK_SECONDS = 0.5
_POLL_SECONDS = 0.2
#: A parallel build needs its memory as shared memory, of which containers have little: the server says one of these.
_NO_SHARED_MEMORY = (errors.DiskFull, errors.OutOfMemory)


class AsyncIndexBuilder:
    """Builds what a collection lacks of the indexes wanted."""

    def __init__(
        self,
        database: AsyncDatabase,
        load: Callable[[AsyncDatabase], Awaitable[Table]],
        *,
        concurrently: bool | None = None,
        watcher: IndexWatch | None = None,
    ) -> None:
        self._database = database
        self._load = load
        self._concurrently = concurrently
        self._watcher = watcher

    async def ensure(self, table: Table, wanted: Sequence[_ddl.Wanted]) -> None:
        """Build those that are missing, one after the other; each that is built stays, whatever becomes of the next."""
        missing = [each for each in wanted if _ddl.index_definition(table, each)[1] is not None]
        if not missing:
            return
        private = self._database.source.private
        if self._concurrently and not private:
            raise InvalidArgument(
                "concurrently=True cannot be had inside a transaction or on a connection that is lent: "
                "build the index on a store of its own, or leave it out"
            )
        if not private:
            async with self._database.transaction(collection=table.spec.name) as connection:
                await connection.execute(_LOCK.format(sql.SQL("pg_advisory_xact_lock")), _key(table))
                for each in missing:
                    await self._ensure_one(connection, each)
            return
        async with self._database.session(collection=table.spec.name) as connection, _alone(connection, table):
            for each in missing:
                await self._ensure_one(connection, each)

    async def _ensure_one(self, connection: AsyncConnection[Any], wanted: _ddl.Wanted) -> None:
        # Somebody may have built it while we waited for the lock.
        table = await self._load(AsyncDatabase(borrow(connection)))
        index, definition = _ddl.index_definition(table, wanted)
        if definition is None:
            return
        (room,) = await rows(connection, _said("index_room.sql", schema=table.schema, name=table.spec.name))
        build = _Build(connection, table, index, definition, self._way(table, room), wanted.where)
        memory = _memory(table, wanted, room)
        async with self._watched(connection, index):
            await build.run(memory)
        _log.info("index built", extra={"collection": table.spec.name, "index": index, "memory": memory})

    def _way(self, table: Table, room: Row) -> bool | None:
        """Whether to build ``CONCURRENTLY``; None inside a transaction of the caller's."""
        if not self._database.source.private:
            return None
        if room["partitioned"]:
            return False
        if self._concurrently is not None:
            return self._concurrently
        return bool(room["used_by_others"]) and table.rows >= SMALL_TABLE

    @asynccontextmanager
    async def _watched(self, connection: AsyncConnection[Any], index: str) -> AsyncIterator[None]:
        """Tell the watcher how far the build is, as seen from another connection."""
        watcher = self._watcher
        if watcher is None:
            yield
            return
        watcher(IndexProgress(index, "begun"))
        if not self._database.source.private:
            # There is no second connection to look with.
            yield
            watcher(IndexProgress(index, "done"))
            return
        statement = _said("index_progress.sql", pid=connection.info.backend_pid)

        async def look() -> None:
            try:
                with deadline(_LOOK_SECONDS * 4):
                    found = await self._database.fetch(statement)
            except LikewiseError:
                # No connection is free, or the call's own deadline is over, of which the build itself hears.
                return
            for row in found:
                watcher(IndexProgress(index, row["phase"], row["done"], row["total"]))

        async with meanwhile(look, _LOOK_SECONDS):
            yield
        watcher(IndexProgress(index, "done"))


async def build_again(
    connection: AsyncConnection[Any], table: Table, name: str, definition: str, rows_now: float
) -> None:
    """Build a vector index that the transaction has dropped; ``definition`` is the server's own. Settings are made for the transaction."""
    index = next((each for each in table.indexes if each.name == name), None)
    if index is not None:
        vector = next(n for n, column, _ in table.vectors if column == index.column)
        wanted = _ddl.Wanted(plan_of(index), vector)
        (room,) = await rows(connection, _said("index_room.sql", schema=table.schema, name=table.spec.name))
        memory = _memory(table, wanted, room, rows_now)
        if memory is not None:
            await connection.execute("select set_config('maintenance_work_mem', %s, true)", (f"{memory // 1024}kB",))
    try:
        async with connection.transaction():
            await connection.execute(own_sql(definition))
    except _NO_SHARED_MEMORY as error:
        if "shared memory" not in str(error):
            raise
        _log.warning("no shared memory for parallel workers", extra={"index": name, "reason": str(error)})
        await connection.execute("set local max_parallel_maintenance_workers = 0")
        await connection.execute(own_sql(definition))
    _log.info("index built again after a load", extra={"collection": table.spec.name, "index": name})


class _Build:
    """One index."""

    def __init__(
        self,
        connection: AsyncConnection[Any],
        table: Table,
        index: str,
        definition: sql.Composed,
        concurrently: bool | None,
        where: Filter | None,
    ) -> None:
        self._where = where
        self._connection = connection
        self._table = table
        self._index = index
        self._definition = definition
        self._concurrently = bool(concurrently)
        self._lent = concurrently is None

    async def run(self, memory: int | None) -> None:
        if any(i.name == self._index for i in self._table.indexes):
            _log.warning("an index that was never finished is built anew", extra={"index": self._index})
            await self._connection.execute(self._drop())
        settings: dict[str, str] = {} if memory is None else {"maintenance_work_mem": f"{memory // 1024}kB"}
        async with self._noticing():
            try:
                await self._build(settings)
            except _NO_SHARED_MEMORY as error:
                if "shared memory" not in str(error):
                    raise
                _log.warning(
                    "no shared memory for parallel workers", extra={"index": self._index, "reason": str(error)}
                )
                await self._build(settings | {"max_parallel_maintenance_workers": "0"})

    async def _build(self, settings: dict[str, str]) -> None:
        create = _ddl.create_index(self._index, self._definition, concurrently=self._concurrently)
        if not self._concurrently:
            async with self._connection.transaction():
                async with _set(self._connection, settings, local=True, back=self._lent):
                    await self._connection.execute(create)
                await self._finish()
            return
        try:
            async with _set(self._connection, _with_deadline(settings), local=False, back=True):
                await self._connection.execute(create)
                await self._finish()
        except BaseException:
            # What is unfinished costs every write and serves no search.
            if not self._connection.closed:
                with contextlib.suppress(psycopg.Error):
                    await self._connection.execute(self._drop())
            raise

    async def _finish(self) -> None:
        if self._where is not None:
            await self._connection.execute(_ddl.comment_on_index(self._table, self._index, self._where))
        # The planner of filtered searches asks the server how many rows match.
        await self._connection.execute(_ddl.analyze(self._table))

    def _drop(self) -> sql.Composed:
        return _ddl.drop_leftover(self._table, self._index, concurrently=self._concurrently)

    @asynccontextmanager
    async def _noticing(self) -> AsyncIterator[None]:
        """Log what the server has to say, which is that the memory did not suffice."""

        def notice(diagnostic: psycopg.errors.Diagnostic) -> None:
            _log.warning(
                "%s", diagnostic.message_primary, extra={"index": self._index, "detail": diagnostic.message_detail}
            )

        self._connection.add_notice_handler(notice)
        try:
            yield
        finally:
            self._connection.remove_notice_handler(notice)


_LOCK = sql.SQL("select {}(hashtextextended(%(key)s, 0))")


def _key(table: Table) -> dict[str, Any]:
    return {"key": f"likewise.index.{table.schema}.{table.spec.name}"}


@asynccontextmanager
async def _alone(connection: AsyncConnection[Any], table: Table) -> AsyncIterator[None]:
    """Hold the lock of the collection's indexes.

    Nobody waits for it inside a statement: a build that goes on beside writers waits for all older statements to end, so that both would wait.
    """
    while True:
        cursor = await connection.execute(_LOCK.format(sql.SQL("pg_try_advisory_lock")), _key(table))
        if (await cursor.fetchone() or (False,))[0]:
            break
        check_deadline()
        await asyncio.sleep(_POLL_SECONDS)
    try:
        yield
    finally:
        if not connection.closed:
            await connection.execute(_LOCK.format(sql.SQL("pg_advisory_unlock")), _key(table))


@asynccontextmanager
async def _set(
    connection: AsyncConnection[Any], settings: dict[str, str], *, local: bool, back: bool
) -> AsyncIterator[None]:
    """Settings for the length of the block, for the transaction or the session; ``back``: they would outlast the block."""
    before: dict[str, str] = {}
    for name, value in settings.items():
        if back:
            cursor = await connection.execute("select current_setting(%s)", (name,))
            before[name] = (await cursor.fetchone() or ("",))[0]
        await connection.execute("select set_config(%s, %s, %s)", (name, value, local))
    try:
        yield
    except BaseException:
        if not local and not connection.closed:
            await _put_back(connection, before, local=local)
        raise
    await _put_back(connection, before, local=local)


async def _put_back(connection: AsyncConnection[Any], before: dict[str, str], *, local: bool) -> None:
    for name, value in before.items():
        await connection.execute("select set_config(%s, %s, %s)", (name, value, local))


def _with_deadline(settings: dict[str, str]) -> dict[str, str]:
    """The settings, and what is left of the caller's deadline."""
    seconds = remaining()
    return settings if seconds is None else settings | {"statement_timeout": str(max(1, round(seconds * 1000)))}


def _memory(table: Table, wanted: _ddl.Wanted, room: Row, rows_now: float | None = None) -> int | None:
    """Bytes for the build where the server's own setting is too small; None where it will do."""
    plan = wanted.plan
    if wanted.vector is None or not isinstance(plan, Hnsw | IvfFlat):
        return None
    needed = build_memory(plan, table.spec.vector_fields[wanted.vector], table.rows if rows_now is None else rows_now)
    memory = room_for(
        needed, allowed=room["allowed"], shared_buffers=room["shared_buffers"], must=isinstance(plan, IvfFlat)
    )
    return memory if memory > room["allowed"] else None


def _said(file: str, **values: object) -> Statement:
    return Statement(sql.Composed([own_sql(resource(file))]), values, {})
