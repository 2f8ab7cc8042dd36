"""What Likewise puts into a database: the files under ``sql/``, their order and their hashes. Pure; the store runs them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from psycopg import sql

from likewise.backends.postgres._parameters import own_sql
from likewise.backends.postgres._table import Extension

__all__ = ["LOCK", "Migration", "functions", "functions_hash", "migrations", "resource"]

#: Everything that creates something waits for this lock, so that any number of processes may start at once.
LOCK = "select pg_advisory_xact_lock(hashtextextended('likewise.install', 0))"

PREPARE = """
create schema if not exists likewise;
comment on schema likewise is 'Semantic search: collections and the functions that search them';
create table if not exists likewise.migration (
    number int primary key,
    name text not null,
    sha256 text not null,
    applied_at timestamptz not null default now()
);
create table if not exists likewise.setting (name text primary key, value text not null);
"""


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered change of the schema ``likewise``; applied once, never edited after a release."""

    number: int
    name: str
    text: str

    @property
    def sha256(self) -> str:
        """The hash that is stored when the migration is applied."""
        return hashlib.sha256(self.text.encode()).hexdigest()


@cache
def resource(name: str) -> str:
    """The text of a file under ``sql/``."""
    return files("likewise.backends.postgres").joinpath("sql", name).read_text(encoding="utf-8")


@cache
def migrations() -> tuple[Migration, ...]:
    """All migrations in order."""
    found = []
    for path in files("likewise.backends.postgres").joinpath("sql", "migrations").iterdir():
        number, _, name = path.name.removesuffix(".sql").partition("_")
        found.append(Migration(int(number), name, path.read_text(encoding="utf-8")))
    return tuple(sorted(found, key=lambda m: m.number))


def functions(extension: Extension) -> list[sql.SQL]:
    """The views and functions, in the order of their names; each creates or replaces."""
    schema = sql.Identifier(extension.schema).as_string(None)
    settings = "set hnsw.ef_search = 100"
    if extension.iterative_scan:
        settings += "\nset hnsw.iterative_scan = 'relaxed_order'"
    result = []
    for path in sorted(
        files("likewise.backends.postgres").joinpath("sql", "functions").iterdir(), key=lambda p: p.name
    ):
        text = path.read_text(encoding="utf-8").replace("@extension@", schema).replace("@settings@", settings)
        result.append(own_sql(text))
    return result


def functions_hash(extension: Extension) -> str:
    """Changes when any function does, or when pgvector's abilities do."""
    return hashlib.sha256("\n".join(f.as_string(None) for f in functions(extension)).encode()).hexdigest()
