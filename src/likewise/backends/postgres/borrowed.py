# Generated from src/likewise/backends/postgres/borrowed_async.py by tools/async_to_sync.py; edit that file instead.
"""Connections that the caller lends: a psycopg connection or pool, or SQLAlchemy's engine, connection or session.

SQLAlchemy is never imported: its objects are known by their modules, and what is used of them is the driver's connection beneath.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from psycopg import Connection
from psycopg.pq import TransactionStatus
from psycopg_pool import ConnectionPool

from likewise.backends.postgres.connection import Source
from likewise.errors import InvalidArgument

__all__ = ["BorrowedConnection", "BorrowedPool", "borrow"]


class BorrowedConnection(Source):
    """One connection of the caller's. It is never committed, rolled back or closed here; calls run in savepoints."""

    def __init__(self, lender: Any) -> None:
        self._lender = lender

    @contextmanager
    def connection(self) -> Iterator[Connection[Any]]:
        connection = _driver_connection(self._lender)
        if connection.closed:
            raise InvalidArgument("the connection that was lent is closed")
        if not connection.autocommit and connection.info.transaction_status == TransactionStatus.IDLE:
            # Begin the caller's transaction as any statement of theirs would, so that ours is a savepoint in it.
            connection.execute("select 1")
        yield connection


class BorrowedPool(Source):
    """A pool or engine of the caller's: each call is a transaction of its own on one of its connections."""

    separate = True

    def __init__(self, lender: Any) -> None:
        self._lender = lender

    @contextmanager
    def connection(self) -> Iterator[Connection[Any]]:
        if isinstance(self._lender, ConnectionPool):
            with self._lender.connection() as connection:
                yield connection
            return
        with self._lender.connect() as outer:
            yield _driver_connection(outer)
            outer.commit()


def borrow(lender: Any) -> Source:
    """The source that a lent object makes; ``InvalidArgument`` says what may be lent."""
    if isinstance(lender, Connection):
        return BorrowedConnection(lender)
    if isinstance(lender, ConnectionPool):
        return BorrowedPool(lender)
    if type(lender).__module__.partition(".")[0] == "sqlalchemy" or hasattr(lender, "get_bind"):
        if hasattr(lender, "connect"):
            if lender.dialect.driver not in ("psycopg", "psycopg_async"):
                raise InvalidArgument(
                    f"the engine uses the driver {lender.dialect.driver!r}; Likewise needs psycopg 3: "
                    "create_engine('postgresql+psycopg://…')"
                )
            return BorrowedPool(lender)
        return BorrowedConnection(lender)
    raise InvalidArgument(
        f"cannot borrow a {type(lender).__module__}.{type(lender).__qualname__}: lend psycopg's Connection or "
        "ConnectionPool, or an engine, connection or session of SQLAlchemy on psycopg"
    )


def _driver_connection(lender: Any) -> Connection[Any]:
    """The driver's connection under what was lent, its transaction begun by SQLAlchemy where that is in charge."""
    if isinstance(lender, Connection):
        return lender
    outer = lender.connection() if hasattr(lender, "get_bind") else lender
    raw = outer.connection
    if not outer.in_transaction():
        outer.begin()
    connection = raw.driver_connection
    if not isinstance(connection, Connection):
        raise InvalidArgument(
            f"the connection's driver is {type(connection).__module__}; Likewise needs psycopg 3: create_engine('postgresql+psycopg://…')"
        )
    return connection
