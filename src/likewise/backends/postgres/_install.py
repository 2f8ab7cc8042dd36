"""What Likewise puts into a database: the files under ``sql/``, their order and their hashes. Pure; the store runs them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from psycopg import sql

from likewise.backends.postgres._parameters import own_sql
from likewise.backends.postgres._table import Extension
from likewise.errors import SchemaMismatch

__all__ = ["LOCK", "Migration", "functions", "functions_hash", "migrations", "missing_migrations", "resource"]

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


def missing_migrations(applied: Mapping[int, str]) -> list[Migration]:
    """Those that a database still lacks, in order; ``applied`` has the number and hash of those it has.

    A database that this version cannot bring up to date raises ``SchemaMismatch``.
    """
    known = {migration.number: migration for migration in migrations()}
    if max(applied, default=0) > max(known):
        raise SchemaMismatch(
            f"this database was set up by a newer Likewise (migration {max(applied)}, this version knows {max(known)}): update Likewise",
            collection="",
        )
    for number, sha256 in applied.items():
        if sha256 != known[number].sha256:
            raise SchemaMismatch(
                f"migration {number} ({known[number].name}) was applied to this database with another text, by an unreleased or altered "
                "Likewise: copy its collections to a fresh database",
                collection="",
            )
    return [migration for migration in migrations() if migration.number not in applied]


def functions(extension: Extension) -> list[sql.SQL]:
    """The views and functions, in the order of their names; each creates or replaces."""
    schema = sql.Identifier(extension.schema).as_string(None)
    settings = "set hnsw.ef_search = 100\nset ivfflat.probes = 10"
    if extension.iterative_scan:
        settings += "\nset hnsw.iterative_scan = 'relaxed_order'\nset hnsw.max_scan_tuples = 20000"
        settings += "\nset ivfflat.iterative_scan = 'relaxed_order'"
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
