"""A table that is followed, as the catalogue has it: whether it can be, and whether it still is what it was."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import AsyncConnection, sql
from psycopg.conninfo import make_conninfo
from psycopg.rows import dict_row

from likewise.abc.feeds import Payload, Rows
from likewise.backends.postgres._errors import translating
from likewise.backends.postgres._install import resource
from likewise.backends.postgres._parameters import own_sql
from likewise.backends.postgres.following._held import Held, RowsReader, held_columns, mismatch
from likewise.errors import BackendUnavailable, CollectionNotFound, UnsupportedFeature
from likewise.schema import CollectionSpec

__all__ = ["PATIENT", "Followed", "close", "connect", "look", "read_rows"]

#: Rows of a snapshot that are given together.
SNAPSHOT_ROWS = 5_000
#: For a connection that may be quiet, or read, for long; and a policy that hides rows is an error then, not a shorter copy.
PATIENT = (
    "select set_config(name, case name when 'row_security' then 'off' else '0' end, false) from pg_catalog.pg_settings"
    " where name in ('statement_timeout', 'lock_timeout', 'idle_in_transaction_session_timeout', 'idle_session_timeout',"
    " 'transaction_timeout', 'row_security')"
)


@dataclass(frozen=True, slots=True)
class Followed:
    """The table and what of it is read."""

    oid: int
    held: Held
    facts: Mapping[str, Any]


async def connect(conninfo: str, name: str) -> AsyncConnection[Any]:
    """An ordinary connection of a feed's own; ``name`` is its ``application_name``."""
    with translating():
        connection = await AsyncConnection.connect(
            make_conninfo(conninfo, application_name=name, client_encoding="UTF8"), autocommit=True
        )
        await connection.execute(PATIENT)
    return connection


async def look(
    connection: AsyncConnection[Any], schema: str, spec: CollectionSpec, holds: frozenset[Payload]
) -> Followed:
    """The table as it is now.

    Raises:
        CollectionNotFound: it is not there.
        SchemaMismatch: it has not the columns that the specification says.
        UnsupportedFeature: a table of this kind cannot be followed; the text says what can be done.
    """
    with translating(spec.name):
        cursor = connection.cursor(binary=True, row_factory=dict_row)
        await cursor.execute(own_sql(resource("following_table.sql")), {"schema": schema, "name": spec.name})
        facts = await cursor.fetchone()
    if facts is None:
        raise CollectionNotFound(spec.name)
    if facts["in_recovery"]:
        raise _cannot("following a collection on a hot standby", "connect to the primary")
    if facts["kind"] == "p":
        raise _cannot("following a table that is partitioned", "search it in the database, or keep it in one table")
    if facts["row_security"]:
        raise _cannot(
            f"following a table whose row security hides rows from the role {facts['role']!r}",
            "connect as the table's owner, or as a role with BYPASSRLS",
        )
    held = held_columns(spec, holds, facts["columns"] or ())
    if list(facts["primary_key"]) != ["id"]:
        raise mismatch(spec.name, ["the primary key is not (id)"])
    return Followed(facts["oid"], held, facts)


def _cannot(what: str, hint: str) -> UnsupportedFeature:
    return UnsupportedFeature(what, backend="postgres", hint=hint)


async def read_rows(connection: AsyncConnection[Any], schema: str, followed: Followed) -> AsyncGenerator[Rows, None]:
    """The table's rows in the transaction that the connection is in, some thousands at a time; the connection is closed at the end."""
    reader = RowsReader(followed.held)
    columns = sql.SQL(", ").join(map(sql.Identifier, followed.held.columns))
    statement = sql.SQL("COPY {} ({}) TO STDOUT (FORMAT binary)").format(
        sql.Identifier(schema, followed.held.collection), columns
    )
    try:
        with translating(followed.held.collection):
            async with connection.cursor() as cursor, cursor.copy(statement) as copy:
                pieces: list[bytes] = []
                async for piece in copy:
                    pieces.append(bytes(piece))
                    if len(pieces) >= SNAPSHOT_ROWS:
                        rows = reader.read(b"".join(pieces))
                        pieces.clear()
                        if rows is not None:
                            yield rows
            if (rows := reader.read(b"".join(pieces))) is not None:
                yield rows
        if not reader.ended:
            raise BackendUnavailable("the server sent a part of the rows only")
    finally:
        await close(connection)


async def close(connection: AsyncConnection[Any] | None) -> None:
    """Close a connection, whatever state it is in."""
    if connection is not None:
        # One that was lost before may say so.
        with contextlib.suppress(psycopg.Error):
            await connection.close()
