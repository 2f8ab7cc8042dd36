"""Publications and replication slots of collections: their names, how they are made, found again and dropped.

A publication belongs to a table, ``likewise_<object id of the table>``, and serves every copy of it. It has all columns: what a copy holds is its
own affair, an update that changes only other columns would be sent all the same, and a column that is added later is in it by itself.

A slot that is kept belongs to one copy: ``likewise_<name>_<object id of the table>_<object id of the publication>``. A table that was dropped and made
again, or a publication that was, has another number, so that the slot does not fit and the copy begins anew: of the time in which there was no
publication the log cannot tell.
"""

from __future__ import annotations

import asyncio
import os
import re
import secrets
from typing import Any

import psycopg
from psycopg import AsyncConnection, sql
from psycopg.rows import dict_row

from likewise.backends.postgres._errors import translating
from likewise.backends.postgres.following._positions import log_position
from likewise.backends.postgres.following._table import Followed
from likewise.errors import BackendConflict, BackendError, InvalidArgument, SchemaMismatch

__all__ = [
    "CURES",
    "check_identity",
    "check_name",
    "check_server",
    "clear",
    "create_command",
    "drop_publication",
    "publication_name",
    "publish",
    "ready",
    "slot_name",
    "start_command",
    "temporary_name",
]

#: What helps when a command of the replication protocol is refused, by SQLSTATE.
CURES = {
    "42501": "; give the role the right: ALTER ROLE … REPLICATION, or let the copy follow triggers",
    "53400": "; raise max_replication_slots or max_wal_senders, or keep fewer copies",
    "53300": "; raise max_wal_senders, or keep fewer copies",
    "55000": "; set wal_level = logical and restart, or let the copy follow triggers",
}
_NAME = re.compile(r"[a-z0-9_]+\Z")
#: PostgreSQL cuts names at 63 bytes: "likewise_", the name, and two numbers of up to ten digits.
_LONGEST_NAME = 63 - len("likewise_") - 22
#: How long a slot may be somebody else's: the server takes a moment to notice that a reader was killed.
_BUSY_SECONDS = 5.0

_FIND = """
select slot_name::text, active_pid, (restart_lsn is null or coalesce(to_jsonb(s) ->> 'wal_status', '') = 'lost') as lost,
    (confirmed_flush_lsn - '0/0')::bigint as confirmed, (pg_catalog.pg_current_wal_flush_lsn() - '0/0')::bigint as flushed,
    s.database = current_database() as ours, a.application_name, coalesce(host(a.client_addr), 'this machine') as client
from pg_catalog.pg_replication_slots as s left join pg_catalog.pg_stat_activity as a on a.pid = s.active_pid
where slot_name = %s
"""
_STALE = """
select s.slot_name::text from pg_catalog.pg_replication_slots as s
where s.database = current_database() and s.active_pid is null and s.slot_name ~ %s
    and (split_part(substr(s.slot_name, %s), '_', 1)::oid = %s
        or not exists (select from pg_catalog.pg_class as c where c.oid = split_part(substr(s.slot_name, %s), '_', 1)::oid))
"""


def check_name(name: object) -> str:
    """The name, if a slot can have it."""
    if not isinstance(name, str) or not _NAME.match(name) or len(name) > _LONGEST_NAME:
        raise InvalidArgument(
            f"{name!r:.80} cannot name a copy: use lower-case letters of the English alphabet, digits and underscores, "
            f"at most {_LONGEST_NAME} in all"
        )
    return name


def slot_name(name: str, table: int, publication: int) -> str:
    """The name of a slot that is kept."""
    return f"likewise_{name}_{table}_{publication}"


def temporary_name() -> str:
    """A name for a slot that ends with its connection."""
    return f"likewise_{os.getpid()}_{secrets.token_hex(4)}"


def publication_name(table: int) -> str:
    """The name of the publication of the table with this object id."""
    return f"likewise_{table}"


def check_server(followed: Followed) -> None:
    """``BackendError`` if the server does not decode its log, or not for this role; the text has the cure."""
    facts = followed.facts
    if facts["wal_level"] != "logical":
        raise BackendError(
            f"PostgreSQL does not decode its log: wal_level is {facts['wal_level']}{CURES['55000']}", sqlstate="55000"
        )
    if not facts["may_replicate"]:
        raise BackendError(
            f"the role {facts['role']!r} may not read the log: it lacks the attribute REPLICATION{CURES['42501']}",
            sqlstate="42501",
        )


def check_identity(collection: str, followed: Followed) -> None:
    """``SchemaMismatch`` if the log does not tell which rows were changed."""
    facts = followed.facts
    if facts["persistence"] != "p":
        raise SchemaMismatch(
            f"the table of collection {collection!r} is unlogged, so its changes are not in the log; ALTER TABLE … SET LOGGED, "
            "or let the copy follow triggers",
            collection=collection,
            differences=["the table is unlogged"],
        )
    if facts["identity"] not in ("d", "f"):
        raise SchemaMismatch(
            f"the log does not tell which rows of collection {collection!r} were changed; ALTER TABLE … REPLICA IDENTITY DEFAULT",
            collection=collection,
            differences=["the replica identity is neither the primary key nor the whole row"],
        )


async def publish(connection: AsyncConnection[Any], schema: str, collection: str, followed: Followed) -> int:
    """Have the table published, all of it; the object id of the publication."""
    facts = followed.facts
    name = sql.Identifier(publication_name(followed.oid))
    if facts["published"]:
        return int(facts["publication"])
    table = sql.Identifier(schema, collection)
    try:
        with translating(collection):
            async with connection.transaction():
                await connection.execute(
                    "select pg_advisory_xact_lock(hashtextextended('likewise.publication', %s))", (followed.oid,)
                )
                # Somebody else has altered it, or was faster: then it is made anew or as it was.
                cursor = await connection.execute(
                    "select oid::bigint from pg_catalog.pg_publication where pubname = %s and oid is distinct from %s::oid",
                    (publication_name(followed.oid), facts["publication"]),
                )
                if (found := await cursor.fetchone()) is not None:
                    return int(found[0])
                await connection.execute(sql.SQL("drop publication if exists {}").format(name))
                await connection.execute(sql.SQL("create publication {} for table only {}").format(name, table))
                cursor = await connection.execute(
                    "select oid::bigint from pg_catalog.pg_publication where pubname = %s",
                    (publication_name(followed.oid),),
                )
                (made,) = await cursor.fetchone() or (0,)
    except BackendError as error:
        if error.sqlstate != "42501":
            raise
        raise BackendError(
            f"collection {collection!r} cannot be published to its copies: {error}; as the table's owner and with the right CREATE on the "
            f"database, run: CREATE PUBLICATION {publication_name(followed.oid)} FOR TABLE ONLY {schema}.{collection}",
            sqlstate=error.sqlstate,
        ) from error
    return int(made)


async def drop_publication(connection: AsyncConnection[Any], table: int) -> None:
    """Drop the publication of a table, unless a slot that is kept has changes of it to tell."""
    with translating():
        cursor = await connection.execute(
            "select 1 from pg_catalog.pg_replication_slots where database = current_database() and slot_name ~ %s limit 1",
            (f"^likewise_[a-z0-9_]+_{table}_[0-9]+$",),
        )
        if await cursor.fetchone() is None:
            await connection.execute(
                sql.SQL("drop publication if exists {}").format(sql.Identifier(publication_name(table)))
            )


async def ready(connection: AsyncConnection[Any], name: str, slot: str, after: int | None) -> bool:
    """Whether the slot can tell what was committed after this place in the log.

    Raises:
        BackendConflict: somebody else is reading it.
    """
    waited = 0.0
    while True:
        with translating():
            cursor = connection.cursor(row_factory=dict_row)
            await cursor.execute(_FIND, (slot,))
            found = await cursor.fetchone()
        if found is None:
            return False
        if not found["ours"]:
            raise BackendConflict(
                f"another database of this server has a copy with the name {name!r} and the slot {slot!r}; give this one another name"
            )
        if found["active_pid"] is None:
            break
        if waited >= _BUSY_SECONDS:
            raise BackendConflict(
                f"the slot {slot!r} is being read by {found['application_name'] or 'somebody else'!r} on {found['client']} (the server's "
                f"process {found['active_pid']}): two processes cannot share the name {name!r}; give this copy another, or stop the other"
            )
        await asyncio.sleep(0.05)
        waited += 0.05
    return after is not None and not found["lost"] and found["confirmed"] <= after <= found["flushed"]


async def clear(connection: AsyncConnection[Any], name: str, slot: str, table: int) -> None:
    """Drop what is left of earlier slots of this copy: of this table, or of tables that are no more."""
    skipped = len(f"likewise_{name}_") + 1
    with translating():
        cursor = await connection.execute(_STALE, (f"^likewise_{name}_[0-9]+_[0-9]+$", skipped, table, skipped))
        for (stale,) in await cursor.fetchall():
            try:
                await connection.execute("select pg_drop_replication_slot(%s)", (stale,))
            except (psycopg.errors.UndefinedObject, psycopg.errors.ObjectInUse):
                if stale == slot:
                    raise


def create_command(slot: str, *, temporary: bool) -> str:
    """Makes a slot, and a snapshot of the moment at which it begins."""
    return f"CREATE_REPLICATION_SLOT {slot} {'TEMPORARY ' if temporary else ''}LOGICAL pgoutput EXPORT_SNAPSHOT"


def start_command(slot: str, start: int, table: int) -> str:
    """Has the server send the changes of a table from a place in the log on."""
    return (
        f"START_REPLICATION SLOT {slot} LOGICAL {log_position(start)}"
        f" (proto_version '1', publication_names '{publication_name(table)}', binary 'true')"
    )
