"""Where a row's parts are kept, and what an exact search costs then: PostgreSQL's default, what Likewise sets, and ids with vectors alone.

    python benchmarks/storage.py [--rows 20000] [--dimension 384] [--content 1500]

PostgreSQL moves the largest part of a row of more than 2 kB out of it, which is the vector. ``likewise`` keeps vectors (PLAIN) and metadata
(MAIN) in the row, so that the content moves out. ``narrow`` is a table of ids and vectors only, the least that can be read, beside a table with
the rest. One process compares every row, or those that a GIN index finds for 1 % of them, or every row that passes a condition that no index
serves. ``ids first`` is what Likewise says: whole rows are fetched for the nearest only, where otherwise the sort copies every row.
"""

from __future__ import annotations

import argparse
import random
import statistics
import struct
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from likewise.backends.postgres._rows import BinaryParameter
from likewise.testing.database import empty_database, server_url

LAYOUTS: Mapping[str, bytes] = {
    "default": b"alter table layout_default alter vector set storage external",
    "likewise": b"alter table layout_likewise alter vector set storage plain, alter metadata set storage main",
    "narrow": b"alter table layout_narrow alter vector set storage plain",
}
CONDITIONS: Mapping[str, bytes] = {
    "every row": b"",
    "1 %, by GIN": b"where metadata @> '{\"hundredth\": 7}'",
    "2 %, no index": b"where (metadata ->> 'number')::int % 50 = 0",
}
ALL_AT_ONCE = b"select id, metadata, content, (vector <=> %%s::vector) + 0 as distance from layout_%s %s order by distance limit 10"
IDS_FIRST = (
    b"select id, metadata, content, nearest.distance from (select id as near, (vector <=> %%s::vector) + 0 as distance from layout_%s %s"
    b" order by distance limit 10) as nearest join layout_likewise as found on found.id = nearest.near order by nearest.distance"
)
#: What is measured: the layout, and how it is asked.
WAYS: Mapping[str, tuple[str, bytes]] = {
    "default": ("default", ALL_AT_ONCE),
    "likewise, all at once": ("likewise", ALL_AT_ONCE),
    "likewise, ids first": ("likewise", IDS_FIRST),
    "narrow": ("narrow", IDS_FIRST),
}
LETTERS = "abcdefghijklmnopqrstuvwxyz     "


def packed(vector: Any) -> BinaryParameter:
    return BinaryParameter(struct.pack(">HH", len(vector), 0) + vector.astype(">f4").tobytes())


def fill(connection: psycopg.Connection[Any], layout: str, vectors: Any, content: int) -> float:
    """Make and fill the table; rows per second."""
    table = sql.Identifier(f"layout_{layout}")
    columns = sql.SQL("id text primary key, vector vector({}) not null").format(sql.Literal(vectors.shape[1]))
    if layout != "narrow":
        columns = sql.SQL("{}, metadata jsonb not null, content text").format(columns)
    connection.execute(sql.SQL("create table {} ({})").format(table, columns))
    connection.execute(LAYOUTS[layout])
    letters = random.Random(1)
    started = time.perf_counter()
    with connection.cursor().copy(sql.SQL("copy {} from stdin (format binary)").format(table)) as copy:
        for i, vector in enumerate(vectors):
            row = [f"r{i}", packed(vector)]
            if layout != "narrow":
                row += [
                    Jsonb({"number": i, "hundredth": i % 100, "lang": "en"}),
                    "".join(letters.choices(LETTERS, k=content)),
                ]
            copy.write_row(row)
    rate = len(vectors) / (time.perf_counter() - started)
    if layout != "narrow":
        connection.execute(sql.SQL("create index on {} using gin (metadata jsonb_path_ops)").format(table))
    connection.execute(sql.SQL("vacuum analyze {}").format(table))
    return rate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--dimension", type=int, default=384)
    parser.add_argument("--content", type=int, default=1_500, help="characters of content in each row")
    options = parser.parse_args()
    vectors = np.random.default_rng(0).normal(size=(options.rows, options.dimension)).astype(np.float32)
    with (
        server_url(None) as server,
        empty_database(server) as url,
        psycopg.connect(url, autocommit=True) as connection,
    ):
        connection.execute("create extension vector")
        connection.execute("set max_parallel_workers_per_gather = 0")
        print(f"{options.rows:,} x {options.dimension}, content of {options.content:,} characters: median ms")
        print(f"{'':24}{'size MB':>8}" + "".join(f"{name:>15}" for name in CONDITIONS))
        for layout in LAYOUTS:
            fill(connection, layout, vectors, options.content)
        cells = {condition: measure(connection, where, vectors[:40]) for condition, where in CONDITIONS.items()}
        for way, (layout, _) in WAYS.items():
            (size,) = connection.execute("select pg_table_size(%s::regclass)", (f"layout_{layout}",)).fetchone() or (0,)
            print(
                f"{way:24}{size / 1e6:8.0f}" + "".join(f"{cells[c].get(way, float('nan')):15.2f}" for c in CONDITIONS)
            )


def measure(connection: psycopg.Connection[Any], where: bytes, queries: Any) -> dict[str, float]:
    """Median milliseconds of an exact search in each way, which take turns; a narrow table has no metadata to filter by."""
    taken: dict[str, list[float]] = {way: [] for way, (layout, _) in WAYS.items() if layout != "narrow" or not where}
    for query in [*queries[:5], *queries]:
        for way, each in taken.items():
            layout, text = WAYS[way]
            statement = text % (layout.encode(), where.replace(b"%", b"%%"))
            started = time.perf_counter()
            connection.execute(statement, (packed(query),), binary=True, prepare=True).fetchall()
            each.append((time.perf_counter() - started) * 1e3)
    return {way: statistics.median(each[5:]) for way, each in taken.items()}


if __name__ == "__main__":
    main()
