"""Connections that the caller lends: a psycopg connection or pool, or SQLAlchemy's engine, connection or session.

SQLAlchemy is never imported: its objects are known by their modules, and what is used of them is the driver's connection beneath.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from psycopg import AsyncConnection
from psycopg.pq import TransactionStatus
from psycopg_pool import AsyncConnectionPool

from likewise.backends.postgres.connection_async import AsyncSource
from likewise.errors import InvalidArgument

__all__ = ["AsyncBorrowedConnection", "AsyncBorrowedPool", "borrow"]


class AsyncBorrowedConnection(AsyncSource):
    """One connection of the caller's. It is never committed, rolled back or closed here; calls run in savepoints."""

    def __init__(self, lender: Any) -> None:
        self._lender = lender

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[AsyncConnection[Any]]:
        connection = await _driver_connection(self._lender)
        if connection.closed:
            raise InvalidArgument("the connection that was lent is closed")
        if not connection.autocommit and connection.info.transaction_status == TransactionStatus.IDLE:
            # Begin the caller's transaction as any statement of theirs would, so that ours is a savepoint in it.
            await connection.execute("select 1")
        yield connection


class AsyncBorrowedPool(AsyncSource):
    """A pool or engine of the caller's: each call is a transaction of its own on one of its connections."""

    separate = True

    def __init__(self, lender: Any) -> None:
        self._lender = lender

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[AsyncConnection[Any]]:
        if isinstance(self._lender, AsyncConnectionPool):
            async with self._lender.connection() as connection:
                yield connection
            return
        async with self._lender.connect() as outer:
            yield await _driver_connection(outer)
            await outer.commit()


def borrow(lender: Any) -> AsyncSource:
    """The source that a lent object makes; ``InvalidArgument`` says what may be lent."""
    if isinstance(lender, AsyncConnection):
        return AsyncBorrowedConnection(lender)
    if isinstance(lender, AsyncConnectionPool):
        return AsyncBorrowedPool(lender)
    if type(lender).__module__.partition(".")[0] == "sqlalchemy" or hasattr(lender, "get_bind"):
        if hasattr(lender, "connect"):
            if lender.dialect.driver not in ("psycopg", "psycopg_async"):
                raise InvalidArgument(
                    f"the engine uses the driver {lender.dialect.driver!r}; Likewise needs psycopg 3: "
                    "create_engine('postgresql+psycopg://…')"
                )
            return AsyncBorrowedPool(lender)
        return AsyncBorrowedConnection(lender)
    raise InvalidArgument(
        f"cannot borrow a {type(lender).__module__}.{type(lender).__qualname__}: lend psycopg's AsyncConnection or "
        "AsyncConnectionPool, or an engine, connection or session of SQLAlchemy on psycopg"
    )


async def _driver_connection(lender: Any) -> AsyncConnection[Any]:
    """The driver's connection under what was lent, its transaction begun by SQLAlchemy where that is in charge."""
    if isinstance(lender, AsyncConnection):
        return lender
    outer = await lender.connection() if hasattr(lender, "get_bind") else lender
    raw = await outer.get_raw_connection()  # async-only
    # sync-only: raw = outer.connection
    if not outer.in_transaction():
        await outer.begin()
    connection = raw.driver_connection
    if not isinstance(connection, AsyncConnection):
        raise InvalidArgument(
            f"the connection's driver is {type(connection).__module__}; Likewise needs psycopg 3: create_engine('postgresql+psycopg://…')"
        )
    return connection
