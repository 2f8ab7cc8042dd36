"""The triggers that note which rows of a collection changed, the copies that are registered to read the notes, and the statements for both.

The table ``likewise.change`` has the id and the transaction of each change. A copy that stands at a snapshot asks in one statement, which is one
later snapshot, for the ids noted by transactions that its own does not see, and for those rows as they are: that takes it from the one snapshot to
the other, exactly, whatever was going on between.

That a writer never misses a copy: the triggers are enabled under a lock that waits for all who have written to the table and excludes others;
whoever writes after that notes it, whatever the age of the writer's snapshot, for triggers are not looked up by snapshot. Only then does
the copy take its first snapshot. They are disabled under the same lock, when no copy is registered. A copy that finds another one registered
needs no lock: the triggers have been noting without a gap. Who comes and goes at the same time waits for the other by an advisory lock.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import AsyncConnection, sql

from likewise.abc.feeds import Position
from likewise.backends.postgres._errors import translating
from likewise.backends.postgres._install import resource
from likewise.backends.postgres._parameters import own_sql
from likewise.backends.postgres.following._held import Held
from likewise.backends.postgres.following._positions import snapshot_in, snapshot_reached
from likewise.backends.postgres.following._table import Followed
from likewise.errors import BackendConflict, BackendError, SchemaMismatch

__all__ = ["TRIGGERS", "arm", "beat", "changed", "claim", "disarm", "explained", "go_on", "origin"]

#: Each trigger and what it fires on.
TRIGGERS: Mapping[str, str] = {
    "likewise_copies_insert": "insert on {} referencing new table as new_rows",
    "likewise_copies_update": "update on {} referencing old table as old_rows new table as new_rows",
    "likewise_copies_delete": "delete on {} referencing old table as old_rows",
    "likewise_copies_truncate": "truncate on {}",
}
#: Seconds for which the triggers' lock is waited for at a time, so that writers do not queue up behind us for longer, and in all.
_LOCK_SECONDS, _PATIENCE_SECONDS = 1.0, 30.0
#: How long a name may be somebody else's: the server takes a moment to notice that a reader was killed.
_BUSY_SECONDS = 5.0
_ALIVE = "seen_at > clock_timestamp() - interval '55 minutes'"
_REGISTER = """
insert into likewise.feed (source, name, origin, passed) values (%s, %s, %s, pg_catalog.pg_current_snapshot())
on conflict (source, name) do update set origin = excluded.origin, passed = excluded.passed, seen_at = now()
"""
_CLAIM = "select pg_try_advisory_lock(hashtextextended('likewise.feed ' || %s::oid || ' ' || %s, 0))"
_SEEN = "select setval('likewise.copies_seen', extract(epoch from clock_timestamp())::bigint)"


async def origin(connection: AsyncConnection[Any], followed: Followed) -> tuple[bool, str]:
    """Whether all triggers are enabled, and by what the server, its history and the triggers are known."""
    with translating():
        cursor = await connection.execute(
            own_sql(resource("following_triggers.sql")), {"oid": followed.oid, "names": list(TRIGGERS)}
        )
        enabled, known = await cursor.fetchone() or (0, "")
    return enabled == len(TRIGGERS), known


async def claim(connection: AsyncConnection[Any], oid: int, name: str) -> None:
    """Make the name this connection's, for as long as that lasts. ``BackendConflict`` if it is another's."""
    waited = 0.0
    while True:
        with translating():
            cursor = await connection.execute(_CLAIM, (oid, name))
            if await cursor.fetchone() == (True,):
                return
        if waited >= _BUSY_SECONDS:
            raise BackendConflict(
                f"another process reads the changes for the copy {name!r}: two cannot share a name; give this copy another, or stop the other"
            )
        await asyncio.sleep(0.05)
        waited += 0.05


async def go_on(connection: AsyncConnection[Any], followed: Followed, name: str, after: Position) -> bool:
    """Whether all that was changed after this snapshot is noted; the copy is registered again then."""
    wanted = snapshot_in(after)
    enabled, known = await origin(connection, followed)
    if not enabled:
        return False
    with translating():
        cursor = await connection.execute(
            sql.SQL(
                "update likewise.feed set seen_at = clock_timestamp() where source = %s and name = %s and origin = %s and {}"
                " returning passed::text, pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())::text::numeric"
            ).format(own_sql(_ALIVE)),
            (followed.oid, name, known),
        )
        found = await cursor.fetchone()
        await connection.execute(_SEEN)
    if found is None:
        return False
    passed, most = found
    return wanted.most <= most and snapshot_reached(wanted, snapshot_in(Position(passed)))


async def arm(connection: AsyncConnection[Any], schema: str, collection: str, followed: Followed, name: str) -> str:
    """Register the copy and have the triggers note; what they are known by. Any snapshot taken from now on is one to begin with.

    Raises:
        BackendConflict: others have been writing in one transaction for so long that the triggers could not be made.
        BackendError: the role does not own the table.
    """
    waited = 0.0
    while True:
        try:
            with explained(collection):
                async with connection.transaction():
                    await _exclude_others(connection, followed.oid)
                    await connection.execute(_SEEN)
                    cursor = await connection.execute(
                        sql.SQL("select count(*) from likewise.feed where source = %s and {}").format(own_sql(_ALIVE)),
                        (followed.oid,),
                    )
                    others = await cursor.fetchone() != (0,)
                    if not (others and (await origin(connection, followed))[0]):
                        await _enable(connection, sql.Identifier(schema, collection))
                    _, known = await origin(connection, followed)
                    await connection.execute(_REGISTER, (followed.oid, name, known))
            return known
        except BackendConflict as error:
            if waited >= _PATIENCE_SECONDS:
                raise BackendConflict(
                    f"the triggers of collection {collection!r} could not be made in {waited:.0f} seconds, for a transaction has been "
                    f"writing to it all the while: {error}"
                ) from error
        # Whoever waits behind us has a turn.
        await asyncio.sleep(_LOCK_SECONDS)
        waited += 2 * _LOCK_SECONDS


async def _enable(connection: AsyncConnection[Any], table: sql.Identifier) -> None:
    await connection.execute(sql.SQL("lock table only {} in share row exclusive mode").format(table))
    for trigger, event in TRIGGERS.items():
        await connection.execute(
            sql.SQL(
                "create or replace trigger {} after {} for each statement execute function likewise.note_for_copies()"
            ).format(sql.Identifier(trigger), own_sql(event).format(table))
        )
        # Whatever session_replication_role says, which some set while they load.
        await connection.execute(
            sql.SQL("alter table only {} enable always trigger {}").format(table, sql.Identifier(trigger))
        )


async def disarm(connection: AsyncConnection[Any], schema: str, collection: str, oid: int, name: str) -> None:
    """Forget the copy; if it was the last one, have the triggers note nothing more.

    If somebody writes in one transaction for long, the triggers stay enabled: they fall silent by themselves after an hour without a copy.
    """
    with translating():
        async with connection.transaction():
            await _exclude_others(connection, oid)
            await connection.execute("delete from likewise.feed where source = %s and name = %s", (oid, name))
            cursor = await connection.execute("select 1 from likewise.feed where source = %s limit 1", (oid,))
            if await cursor.fetchone() is not None:
                return
            table = sql.Identifier(schema, collection)
            try:
                async with connection.transaction():
                    cursor = await connection.execute(
                        "select to_regclass(%s)::oid = %s", (table.as_string(connection), oid)
                    )
                    if await cursor.fetchone() == (True,):
                        await connection.execute(
                            sql.SQL("lock table only {} in share row exclusive mode").format(table)
                        )
                        for trigger in TRIGGERS:
                            await connection.execute(
                                sql.SQL("alter table only {} disable trigger {}").format(table, sql.Identifier(trigger))
                            )
            except (psycopg.errors.LockNotAvailable, psycopg.errors.UndefinedObject):
                pass
            await connection.execute("delete from likewise.change where source = %s", (oid,))


async def _exclude_others(connection: AsyncConnection[Any], oid: int) -> None:
    await connection.execute("select set_config('lock_timeout', %s, true)", (f"{int(_LOCK_SECONDS * 1000)}ms",))
    await connection.execute("select pg_advisory_xact_lock(hashtextextended('likewise.feed', %s))", (oid,))


async def beat(connection: AsyncConnection[Any], oid: int, name: str, passed: Position) -> None:
    """Say that the copy is there and what it has passed; delete what nobody needs.

    Raises:
        BackendConflict: the copy was not seen for so long that it was forgotten.
    """
    with translating():
        cursor = await connection.execute(
            sql.SQL(
                "update likewise.feed set seen_at = clock_timestamp(), passed = %s::pg_snapshot where source = %s and name = %s and {}"
            ).format(own_sql(_ALIVE)),
            (str(passed), oid, name),
        )
        if cursor.rowcount != 1:
            raise BackendConflict(
                f"the copy {name!r} was not seen for an hour, so that changes may not have been noted for it"
            )
        await connection.execute(_SEEN)
        await connection.execute(own_sql(resource("following_clean.sql")), {"oid": oid})


def changed(schema: str, collection: str, held: Held) -> sql.Composed:
    """The statement that takes a copy from one snapshot to the next; %(oid)s is the table and %(since)s the snapshot.

    Its columns: the next snapshot, the id (null: every row was deleted), whether there is such a row, and the row's vectors and payload.
    """
    columns: list[sql.Composable] = [sql.SQL("t.{}").format(sql.Identifier(column)) for _, column, _, _ in held.vectors]
    columns += [
        sql.SQL("pg_catalog.convert_to(t.{}::text, 'UTF8')").format(sql.Identifier(part)) for part in held.payload
    ]
    return sql.SQL(
        "select s.position, n.id, n.source is not null as noted, t.id is not null as there{}"
        " from (select pg_catalog.pg_current_snapshot()::text as position) as s"
        " left join ("
        "select distinct c.source, c.id from likewise.change as c where c.source = %(oid)s"
        " and c.xid >= pg_catalog.pg_snapshot_xmin(%(since)s::pg_snapshot)"
        " and not pg_catalog.pg_visible_in_snapshot(c.xid, %(since)s::pg_snapshot)"
        ") as n on true left join only {} as t on t.id = n.id"
    ).format(sql.SQL("").join(sql.SQL(", {}").format(column) for column in columns), sql.Identifier(schema, collection))


@contextmanager
def explained(collection: str) -> Iterator[None]:
    """Errors with what helps."""
    try:
        with translating():
            yield
    except BackendError as error:
        if error.sqlstate == "42501":
            raise BackendError(
                f"the changes of collection {collection!r} cannot be noted for its copies: {error}; it takes the table's owner, with the "
                "rights to read and write likewise.feed, likewise.change and likewise.copies_seen",
                sqlstate=error.sqlstate,
            ) from error
        if error.sqlstate in ("42P01", "42883"):
            raise SchemaMismatch(
                "this database was set up by an older Likewise, which could not note changes: run `likewise install`",
                collection=collection,
            ) from error
        raise
