"""What the tests of loads write, and how they look at what became of it."""

from __future__ import annotations

from psycopg import sql

from likewise import (
    Collection,
    CollectionSpec,
    Record,
    VectorStore,
)
from likewise.records import Include

SPEC = CollectionSpec("things", dimension=3)
EVERYTHING: Include = ("vector", "metadata", "content")


def quiet(store: VectorStore, spec: CollectionSpec) -> Collection:
    """A collection that the server's own cleaner leaves alone: it too may be at the table when a load wants it."""
    collection = store.ensure_collection(spec)
    with store.transaction() as connection:
        connection.execute(sql.SQL("ALTER TABLE {} SET (autovacuum_enabled = off)").format(sql.Identifier(spec.name)))
    return collection


def rows(count: int, *, start: int = 0, version: int = 0) -> list[Record]:
    return [
        Record(f"r{i:06}", [1, version, i + 1], {"n": i, "version": version}, f"text {i}")
        for i in range(start, start + count)
    ]


def contents(collection: Collection) -> list[Record]:
    found: list[Record] = []
    cursor: str | None = None
    while True:
        page = collection.scan(cursor=cursor, limit=10_000, include=EVERYTHING)
        found += page
        cursor = page.cursor
        if cursor is None:
            return found


def indexes_of(store: VectorStore, table: str = "things") -> dict[str, tuple[int, str, bool]]:
    with store.transaction() as connection:
        found = connection.execute(
            "select c.relname, c.oid::bigint, pg_get_indexdef(c.oid), i.indisvalid from pg_index i join pg_class c on c.oid = i.indexrelid"
            " where i.indrelid = %s::regclass",
            (table,),
        ).fetchall()
    return {name: (oid, definition, valid) for name, oid, definition, valid in found}


def as_role(url: str, role: str) -> str:
    return url + ("&" if "?" in url else "?") + f"options=-crole%3D{role}"
