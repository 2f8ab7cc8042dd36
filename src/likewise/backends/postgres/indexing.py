# Generated from src/likewise/backends/postgres/indexing_async.py by tools/async_to_sync.py; edit that file instead.
"""Builds indexes: one at a time in a collection, without keeping others from writing where somebody might, and in memory where there is room.

The statements are in ``_ddl``, the figures in ``_indexing``.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import Connection, errors, sql

from likewise._deadline import check_deadline, deadline, remaining
from likewise.abc.running import meanwhile
from likewise.abc.stores import IndexWatch
from likewise.backends.postgres import _ddl
from likewise.backends.postgres._indexing import SMALL_TABLE, build_memory, plan_of, room_for
from likewise.backends.postgres._install import resource
from likewise.backends.postgres._parameters import own_sql
from likewise.backends.postgres._statements import Statement
from likewise.backends.postgres._table import Table
from likewise.backends.postgres.borrowed import borrow
from likewise.backends.postgres.connection import Database, Row, rows
from likewise.errors import InvalidArgument, LikewiseError
from likewise.filters import Filter
from likewise.schema import Hnsw, IndexProgress, IvfFlat

__all__ = ["IndexBuilder", "build_again"]

_log = logging.getLogger("likewise.backends.postgres")

#: How often a watcher hears of a build.
_LOOK_SECONDS = 0.5
_POLL_SECONDS = 0.2
#: A parallel build needs its memory as shared memory, of which containers have little: the server says one of these.
_NO_SHARED_MEMORY = (errors.DiskFull, errors.OutOfMemory)


class IndexBuilder:
    """Builds what a collection lacks of the indexes wanted."""

    def __init__(
        self,
        database: Database,
        load: Callable[[Database], Table],
        *,
        concurrently: bool | None = None,
        watcher: IndexWatch | None = None,
    ) -> None:
        self._database = database
        self._load = load
        self._concurrently = concurrently
        self._watcher = watcher

    def ensure(self, table: Table, wanted: Sequence[_ddl.Wanted]) -> None:
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
            with self._database.transaction(collection=table.spec.name) as connection:
                connection.execute(_LOCK.format(sql.SQL("pg_advisory_xact_lock")), _key(table))
                for each in missing:
                    self._ensure_one(connection, each)
            return
        with self._database.session(collection=table.spec.name) as connection, _alone(connection, table):
            for each in missing:
                self._ensure_one(connection, each)

    def _ensure_one(self, connection: Connection[Any], wanted: _ddl.Wanted) -> None:
        # Somebody may have built it while we waited for the lock.
        table = self._load(Database(borrow(connection)))
        index, definition = _ddl.index_definition(table, wanted)
        if definition is None:
            return
        (room,) = rows(connection, _said("index_room.sql", schema=table.schema, name=table.spec.name))
        build = _Build(connection, table, index, definition, self._way(table, room), wanted.where)
        memory = _memory(table, wanted, room)
        with self._watched(connection, index):
            build.run(memory)
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

    @contextmanager
    def _watched(self, connection: Connection[Any], index: str) -> Iterator[None]:
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

        def look() -> None:
            try:
                with deadline(_LOOK_SECONDS * 4):
                    found = self._database.fetch(statement)
            except LikewiseError:
                # No connection is free, or the call's own deadline is over, of which the build itself hears.
                return
            for row in found:
                watcher(IndexProgress(index, row["phase"], row["done"], row["total"]))

        with meanwhile(look, _LOOK_SECONDS):
            yield
        watcher(IndexProgress(index, "done"))


def build_again(connection: Connection[Any], table: Table, name: str, definition: str, rows_now: float) -> None:
    """Build a vector index that the transaction has dropped; ``definition`` is the server's own. Settings are made for the transaction."""
    index = next((each for each in table.indexes if each.name == name), None)
    if index is not None:
        vector = next(n for n, column, _ in table.vectors if column == index.column)
        wanted = _ddl.Wanted(plan_of(index), vector)
        (room,) = rows(connection, _said("index_room.sql", schema=table.schema, name=table.spec.name))
        memory = _memory(table, wanted, room, rows_now)
        if memory is not None:
            connection.execute("select set_config('maintenance_work_mem', %s, true)", (f"{memory // 1024}kB",))
    try:
        with connection.transaction():
            connection.execute(own_sql(definition))
    except _NO_SHARED_MEMORY as error:
        if "shared memory" not in str(error):
            raise
        _log.warning("no shared memory for parallel workers", extra={"index": name, "reason": str(error)})
        connection.execute("set local max_parallel_maintenance_workers = 0")
        connection.execute(own_sql(definition))
    _log.info("index built again after a load", extra={"collection": table.spec.name, "index": name})


class _Build:
    """One index."""

    def __init__(
        self,
        connection: Connection[Any],
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

    def run(self, memory: int | None) -> None:
        if any(i.name == self._index for i in self._table.indexes):
            _log.warning("an index that was never finished is built anew", extra={"index": self._index})
            self._connection.execute(self._drop())
        settings: dict[str, str] = {} if memory is None else {"maintenance_work_mem": f"{memory // 1024}kB"}
        with self._noticing():
            try:
                self._build(settings)
            except _NO_SHARED_MEMORY as error:
                if "shared memory" not in str(error):
                    raise
                _log.warning(
                    "no shared memory for parallel workers", extra={"index": self._index, "reason": str(error)}
                )
                self._build(settings | {"max_parallel_maintenance_workers": "0"})

    def _build(self, settings: dict[str, str]) -> None:
        create = _ddl.create_index(self._index, self._definition, concurrently=self._concurrently)
        if not self._concurrently:
            with self._connection.transaction():
                with _set(self._connection, settings, local=True, back=self._lent):
                    self._connection.execute(create)
                self._finish()
            return
        try:
            with _set(self._connection, _with_deadline(settings), local=False, back=True):
                self._connection.execute(create)
                self._finish()
        except BaseException:
            # What is unfinished costs every write and serves no search.
            if not self._connection.closed:
                with contextlib.suppress(psycopg.Error):
                    self._connection.execute(self._drop())
            raise

    def _finish(self) -> None:
        if self._where is not None:
            self._connection.execute(_ddl.comment_on_index(self._table, self._index, self._where))
        # The planner of filtered searches asks the server how many rows match.
        self._connection.execute(_ddl.analyze(self._table))

    def _drop(self) -> sql.Composed:
        return _ddl.drop_leftover(self._table, self._index, concurrently=self._concurrently)

    @contextmanager
    def _noticing(self) -> Iterator[None]:
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


@contextmanager
def _alone(connection: Connection[Any], table: Table) -> Iterator[None]:
    """Hold the lock of the collection's indexes.

    Nobody waits for it inside a statement: a build that goes on beside writers waits for all older statements to end, so that both would wait.
    """
    while True:
        cursor = connection.execute(_LOCK.format(sql.SQL("pg_try_advisory_lock")), _key(table))
        if (cursor.fetchone() or (False,))[0]:
            break
        check_deadline()
        time.sleep(_POLL_SECONDS)
    try:
        yield
    finally:
        if not connection.closed:
            connection.execute(_LOCK.format(sql.SQL("pg_advisory_unlock")), _key(table))


@contextmanager
def _set(connection: Connection[Any], settings: dict[str, str], *, local: bool, back: bool) -> Iterator[None]:
    """Settings for the length of the block, for the transaction or the session; ``back``: they would outlast the block."""
    before: dict[str, str] = {}
    for name, value in settings.items():
        if back:
            cursor = connection.execute("select current_setting(%s)", (name,))
            before[name] = (cursor.fetchone() or ("",))[0]
        connection.execute("select set_config(%s, %s, %s)", (name, value, local))
    try:
        yield
    except BaseException:
        if not local and not connection.closed:
            _put_back(connection, before, local=local)
        raise
    _put_back(connection, before, local=local)


def _put_back(connection: Connection[Any], before: dict[str, str], *, local: bool) -> None:
    for name, value in before.items():
        connection.execute("select set_config(%s, %s, %s)", (name, value, local))


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
