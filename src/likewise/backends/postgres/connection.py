# Generated from src/likewise/backends/postgres/connection_async.py by tools/async_to_sync.py; edit that file instead.
"""Where connections come from, and how one statement or one transaction runs on them. No SQL about records enters here.

Three sources: our own pool (autocommit; each statement is its own transaction), a pool that the caller lends, and one connection that
the caller lends (its transaction is left as it was found, apart from what was written).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeAlias

import psycopg
from psycopg import Connection
from psycopg.rows import dict_row
from psycopg.types.json import set_json_loads
from psycopg_pool import ConnectionPool

from likewise._deadline import remaining
from likewise._json import loads
from likewise.backends.postgres._errors import translating
from likewise.backends.postgres._statements import Statement

__all__ = ["Database", "OwnPool", "Row", "Source"]

Row: TypeAlias = "dict[str, Any]"

#: How long a call waits for a connection when no deadline says otherwise.
ACQUIRE_SECONDS = 15.0


class Source(ABC):
    """Lends a connection for one call."""

    #: Whether connections are in autocommit and nobody else's, so that a statement's own settings end with it.
    private: bool = False
    #: Whether each call has a transaction of its own, so that nothing of ours comes into one of the caller's.
    separate: bool = False
    #: What connections like these are made with, where it is known.
    conninfo: str | None = None

    @abstractmethod
    def connection(self) -> AbstractContextManager[Connection[Any]]:
        """A connection for the length of the block."""

    def close(self) -> None:
        """Let go of what is ours."""


class OwnPool(Source):
    """A pool of connections of our own."""

    private = True
    separate = True

    def __init__(self, conninfo: str, *, max_connections: int) -> None:
        self.conninfo = conninfo
        self._pool = ConnectionPool(
            conninfo,
            kwargs={"autocommit": True},
            min_size=0,
            max_size=max_connections,
            open=False,
            timeout=ACQUIRE_SECONDS,
            reconnect_timeout=5.0,
            name="likewise",
            configure=_configure,
        )
        self._stale = False

    def open(self) -> None:
        """Start the pool; no connection is made yet."""
        self._pool.open()

    @property
    def checked_out(self) -> int:
        """How many connections are in use now."""
        stats = self._pool.get_stats()
        return stats.get("pool_size", 0) - stats.get("pool_available", 0)

    @contextmanager
    def connection(self) -> Iterator[Connection[Any]]:
        if self._stale:
            # A connection was lost, so the others of its age may be dead too: have the pool look at them.
            self._stale = False
            self._pool.check()
        seconds = remaining()
        connection = self._pool.getconn(None if seconds is None else min(seconds, ACQUIRE_SECONDS))
        try:
            yield connection
        except psycopg.OperationalError:
            self._stale = connection.closed
            raise
        finally:
            self._pool.putconn(connection)

    def close(self) -> None:
        self._pool.close()


def _configure(connection: Connection[Any]) -> None:
    set_json_loads(loads, connection)


class Database:
    """Runs statements on the connections of a source; the driver's errors come out as ours."""

    def __init__(self, source: Source) -> None:
        self.source = source

    def fetch(self, statement: Statement, *, collection: str | None = None) -> list[Row]:
        """The rows of one reading statement, in one round trip where the connection is ours and no deadline is set."""
        with translating(collection):
            with self.source.connection() as connection:
                seconds = remaining()
                if self.source.private and seconds is None:
                    return rows(connection, statement)
                # A transaction, or a savepoint in the caller's, that is rolled back: the settings go with it.
                with connection.transaction(force_rollback=True):
                    _limit(connection, seconds)
                    return rows(connection, statement)

    @contextmanager
    def transaction(self, *, collection: str | None = None) -> Iterator[Connection[Any]]:
        """A transaction, or a savepoint in the caller's: all of the block is stored, or nothing."""
        with translating(collection):
            with self.source.connection() as connection, connection.transaction():
                previous = _limit(connection, remaining())
                yield connection
                if previous is not None and not self.source.private:
                    _set_timeout(connection, previous)

    @contextmanager
    def session(self, *, collection: str | None = None) -> Iterator[Connection[Any]]:
        """A connection outside of any transaction, for what may be in none; the source must be private."""
        with translating(collection):
            with self.source.connection() as connection:
                yield connection

    def close(self) -> None:
        """Let go of the source."""
        self.source.close()


def rows(connection: Connection[Any], statement: Statement) -> list[Row]:
    """The rows of a statement, by column; everything in binary format."""
    cursor = connection.cursor(binary=True, row_factory=dict_row)
    cursor.execute(statement.text, statement.parameters)
    return cursor.fetchall()


def run(connection: Connection[Any], statement: Statement) -> int:
    """Run a statement that returns no rows; how many it changed."""
    with connection.cursor(binary=True) as cursor:
        cursor.execute(statement.text, statement.parameters or None)
        return cursor.rowcount


def _limit(connection: Connection[Any], seconds: float | None) -> str | None:
    """Give the transaction the rest of the deadline; the timeout that was in force before, None if nothing was changed."""
    if seconds is None:
        return None
    with connection.cursor() as cursor:
        cursor.execute("select current_setting('statement_timeout')")
        found = cursor.fetchone()
    _set_timeout(connection, str(max(1, round(seconds * 1000))))
    return str(found[0]) if found else "0"


def _set_timeout(connection: Connection[Any], value: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute("select set_config('statement_timeout', %s, true)", (value,))
