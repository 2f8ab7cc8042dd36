"""Psycopg by hand: what a careful user would write, and the limit of what a library over PostgreSQL can reach from Python.

Binary COPY; a prepared statement with the vector in binary; filters by an iterative index scan with ef_search 100, planned for each value.
"""

from __future__ import annotations

import importlib
import struct
from collections.abc import Sequence
from typing import Any, ClassVar

from peers._serve import EF_CONSTRUCTION, TOP_K, M, Peer, Rows, Vector, serve

psycopg: Any = importlib.import_module("psycopg")
adapt: Any = importlib.import_module("psycopg.adapt")
pq: Any = importlib.import_module("psycopg.pq")
json: Any = importlib.import_module("psycopg.types.json")

PLAIN = f"""
select id, metadata, content, vector <=> %s::vector as distance from bench order by distance limit {TOP_K}
"""
FILTERED = f"""
with near as materialized (
    select id, metadata, content, vector <=> %s::vector as distance from bench where metadata @> %s order by distance limit {TOP_K}
)
select * from near order by distance + 0
"""


class Packed:
    """A vector in PostgreSQL's binary format."""

    __slots__ = ("data",)

    def __init__(self, vector: Vector) -> None:
        self.data = struct.pack(">HH", len(vector), 0) + vector.astype(">f4").tobytes()


class PackedDumper(adapt.Dumper):  # type: ignore[misc]
    format = pq.Format.BINARY
    oid = 0

    def dump(self, obj: Packed) -> bytes:
        return obj.data


psycopg.adapters.register_dumper(Packed, PackedDumper)


class HandWritten(Peer):
    distribution: ClassVar[str] = "psycopg"
    note: ClassVar[str] = (
        "COPY in binary format, `CREATE INDEX` for HNSW and GIN (`jsonb_path_ops`); prepared `SELECT` with binary parameters and "
        "results; filtered: `iterative_scan = relaxed_order`, `ef_search` 100, `plan_cache_mode = force_custom_plan`"
    )

    def _connect(self) -> None:
        self._connection: Any = psycopg.connect(self.place, autocommit=True)

    def create(self, fields: Sequence[str], dimension: int) -> None:
        self._connect()
        self._connection.execute("create extension if not exists vector")
        self._connection.execute(
            f"create table bench (id text primary key, vector vector({dimension}) not null, metadata jsonb, content text)"
        )

    def load(self, rows: Rows) -> None:
        copied = "copy bench (id, vector, metadata, content) from stdin (format binary)"
        with self._connection.cursor().copy(copied) as copy:
            for name, vector, metadata, text in zip(rows.ids, rows.vectors, rows.metadata, rows.texts, strict=True):
                copy.write_row((name, Packed(vector), json.Jsonb(metadata), text))

    def index(self) -> None:
        self._connection.execute(
            f"create index on bench using hnsw (vector vector_cosine_ops) with (m = {M}, ef_construction = {EF_CONSTRUCTION})"
        )
        self._connection.execute("create index on bench using gin (metadata jsonb_path_ops)")

    def open(self, fields: Sequence[str], dimension: int) -> None:
        self._connect()
        self._connection.execute("select '[1]'::vector")  # loads the library, which defines the settings
        self._connection.execute("set hnsw.iterative_scan = relaxed_order")
        self._connection.execute("set plan_cache_mode = force_custom_plan")

    def turn(self, value: int | None) -> None:
        self._value = 40 if value is None else value
        self._set: int | None = None

    def _settle(self, value: int) -> None:
        if self._set != value:
            self._connection.execute(f"set hnsw.ef_search = {value}")
            self._set = value

    def search(self, query: Vector) -> list[str]:
        self._settle(self._value)
        rows = self._connection.execute(PLAIN, (Packed(query),), prepare=True, binary=True).fetchall()
        return [row[0] for row in rows]

    def search_filtered(self, query: Vector, field: str, value: int) -> list[str]:
        self._settle(100)
        bound = (Packed(query), json.Jsonb({field: value}))
        rows = self._connection.execute(FILTERED, bound, prepare=True, binary=True).fetchall()
        return [row[0] for row in rows]

    def close(self) -> None:
        self._connection.close()


if __name__ == "__main__":
    serve(HandWritten)
