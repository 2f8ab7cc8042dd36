"""The worker's connections for watched tables: what writes, and what reads the tables.

What reads runs code of the tables' owners: the expressions of a watch. It does so with their rights (``likewise.call_reader``), in
transactions that may not write and are rolled back, on a connection that is used for nothing else; and it does not wait long for a lock.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import dict_row

from likewise.worker._watching import Row, pack_texts, said

__all__ = ["Connections", "Reader", "open_connections"]

#: Classes of SQLSTATE that may be the fault of one row: data, cardinality, limits, and what functions raise.
_OF_A_ROW = ("22", "21", "54", "P0", "38", "39", "2F")
_READER = b"set search_path = pg_catalog; set lock_timeout = '2s'; set statement_timeout = '10min'"
#: A batch is one transaction, in which a model may take its time; a worker that hangs in it is to let its rows go some day.
_WRITER = b"set search_path = pg_catalog; set idle_in_transaction_session_timeout = '1h'; set statement_timeout = 0"


class Reader:
    """Reads watched tables on a connection of its own."""

    def __init__(self, connection: AsyncConnection[Any]) -> None:
        self._connection = connection

    async def page(self, watch: int, after: str | None, most: int) -> list[str]:
        """Keys after a key, in the order of the table's key."""
        found = await self._fetch("page", {"watch": watch, "after": after, "most": most})
        return [row["key"] for row in found]

    async def rows(self, watch: int, keys: Sequence[str]) -> tuple[dict[str, Row], dict[str, str]]:
        """The rows of these keys that are there, and what is wrong with those whose expressions fail."""
        found, unread = await self._read(watch, keys, contents=True)
        return {row["key"]: Row(**row) for row in found}, unread

    async def fingerprints(self, watch: int, keys: Sequence[str]) -> tuple[dict[str, bytes], dict[str, str]]:
        """The same, of each row only what tells whether it has changed."""
        found, unread = await self._read(watch, keys, contents=False)
        return {row["key"]: bytes(row["fingerprint"]) for row in found}, unread

    async def _read(
        self, watch: int, keys: Sequence[str], *, contents: bool
    ) -> tuple[list[dict[str, Any]], dict[str, str]]:
        found: list[dict[str, Any]] = []
        unread: dict[str, str] = {}
        waiting = [list(keys)] if keys else []
        while waiting:
            part = waiting.pop()
            try:
                rows = await self._fetch("read", {"watch": watch, "keys": pack_texts(part), "contents": contents})
            except psycopg.Error as error:
                if not (error.sqlstate or "").startswith(_OF_A_ROW):
                    raise
                if len(part) == 1:
                    unread[part[0]] = error.diag.message_primary or str(error)
                else:
                    waiting += [part[len(part) // 2 :], part[: len(part) // 2]]
            else:
                asked = set(part)
                # Where letters of either case are one key, a row may come under the other.
                found += [row for row in rows if row["key"] in asked]
        return found, unread

    async def _fetch(self, name: str, parameters: Mapping[str, Any]) -> list[dict[str, Any]]:
        cursor = self._connection.cursor(binary=True, row_factory=dict_row)
        async with self._connection.pipeline(), self._connection.transaction(force_rollback=True):
            await cursor.execute(said(name), parameters)
        return await cursor.fetchall()


class Connections:
    """One line of work: a connection that writes, a reader for what is to be embedded, and one for what is to be written."""

    def __init__(self, writer: AsyncConnection[Any], reader: Reader, checker: Reader) -> None:
        self.writer = writer
        self.reader = reader
        self.checker = checker

    @property
    def lost(self) -> bool:
        """Whether a connection has ended."""
        return any(c.closed for c in (self.writer, self.reader._connection, self.checker._connection))

    async def fetch(self, name: str, parameters: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """The rows of a statement under ``sql/``."""
        cursor = self.writer.cursor(row_factory=dict_row)
        await cursor.execute(said(name), parameters or {})
        return await cursor.fetchall()

    async def run(self, name: str, parameters: Mapping[str, Any] | None = None) -> int:
        """Run a statement under ``sql/``; how many rows it changed."""
        cursor = await self.writer.execute(said(name), parameters or {})
        return cursor.rowcount


@asynccontextmanager
async def open_connections(conninfo: str, *, ahead: bool) -> AsyncIterator[Connections]:
    """The connections for the length of the block; with ``ahead``, rows can be read while others are written."""
    async with AsyncExitStack() as stack:
        opened = []
        for settings in (_WRITER, _READER, *([_READER] if ahead else [])):
            connection: AsyncConnection[Any] = await AsyncConnection.connect(
                conninfo,
                autocommit=True,
                prepare_threshold=None,
                connect_timeout=10,
                application_name="likewise watching",
            )
            stack.push_async_callback(connection.close)
            await connection.execute(settings)
            await connection.set_read_only(settings is _READER)
            opened.append(connection)
        writer, reader, checker = opened[0], Reader(opened[1]), Reader(opened[-1])
        yield Connections(writer, reader, checker)
