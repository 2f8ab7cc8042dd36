"""What bulk writes cost over hand-written COPY: rows per second into a new collection, and of upserts into one that is full.

    python benchmarks/load.py [--rows 50000] [--dimension 384] [--rounds 5] [--texts lines.txt] [--url postgresql://…]

The hand-written side is the fastest that psycopg allows: COPY in binary format by ``write_row``, vectors packed by NumPy; for upserts a
temporary table and ``INSERT … ON CONFLICT``. Every side starts from the same lists and arrays in memory, creates what it writes into, and
commits. Rounds are interleaved; the order within a round changes.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import statistics
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray
from psycopg.types.json import Jsonb

import likewise
from likewise import CollectionSpec, Record, VectorStore
from likewise.backends.postgres._rows import BinaryParameter
from likewise.embedding import load_embedder
from likewise.testing.database import empty_database, server_url


class Rows:
    """What is to be stored, by column."""

    def __init__(self, count: int, dimension: int, texts: Path | None) -> None:
        if texts is None:
            rng = np.random.default_rng(1)
            self.vectors: NDArray[np.float32] = rng.normal(size=(count, dimension)).astype(np.float32)
            self.content = [f"The content of record {i}, which is about as long as a sentence." for i in range(count)]
        else:
            lines = texts.read_text("utf-8").splitlines()
            self.vectors = load_embedder("mini").embed_texts(lines)
            repeats = -(-count // len(lines))
            self.vectors = np.tile(self.vectors, (repeats, 1))[:count]
            self.content = (lines * repeats)[:count]
        self.ids = [f"record-{i}" for i in range(count)]
        self.metadata = [{"lang": "en", "number": i, "tag": f"t{i % 50}", "price": i / 2} for i in range(count)]

    def records(self) -> list[Record]:
        return [
            Record(i, v, m, c) for i, v, m, c in zip(self.ids, self.vectors, self.metadata, self.content, strict=True)
        ]


def packed(vector: NDArray[np.float32]) -> BinaryParameter:
    return BinaryParameter(struct.pack(">HH", len(vector), 0) + vector.astype(">f4").tobytes())


def copy_by_hand(connection: psycopg.Connection[Any], table: str, rows: Rows) -> None:
    statement = f"copy {table} (id, vector, metadata, content) from stdin (format binary)".encode()
    with connection.cursor().copy(statement) as copy:
        for i, v, m, c in zip(rows.ids, rows.vectors, rows.metadata, rows.content, strict=True):
            copy.write_row((i, packed(v), Jsonb(m), c))


def load_by_hand(url: str, rows: Rows) -> None:
    with psycopg.connect(url) as connection:
        copy_by_hand(connection, "bench", rows)


def upsert_by_hand(url: str, rows: Rows) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("create temporary table stage (like bench) on commit drop")
        copy_by_hand(connection, "stage", rows)
        connection.execute("""
            insert into bench (id, vector, metadata, content) select id, vector, metadata, content from stage
            on conflict (id) do update set vector = excluded.vector, metadata = excluded.metadata, content = excluded.content
        """)


def measure(store: VectorStore, url: str, rows: Rows, rounds: int, *, full: bool) -> dict[str, list[float]]:
    """Rows per second of each way, by rounds."""
    spec = CollectionSpec("bench", dimension=rows.vectors.shape[1])
    records = rows.records()

    def columns() -> object:
        return store.collection("bench").upsert_columns(
            ids=rows.ids, vectors=rows.vectors, metadata=rows.metadata, content=rows.content
        )

    ways: dict[str, Callable[[], object]] = {
        "by hand": (lambda: upsert_by_hand(url, rows)) if full else (lambda: load_by_hand(url, rows)),
        "upsert(records)": lambda: store.collection("bench").upsert(records),
        "upsert_columns": columns,
    }
    results: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        names = list(ways)
        random.Random(number).shuffle(names)
        for name in names:
            store.drop_collection("bench", missing_ok=True)
            store.ensure_collection(spec)
            if full:
                load_by_hand(url, rows)
            with psycopg.connect(url, autocommit=True) as connection:
                connection.execute("checkpoint")
            started = time.perf_counter()
            ways[name]()
            taken = time.perf_counter() - started
            if number:  # the first round warms up
                results[name].append(len(rows.ids) / taken)
    return results


def report(title: str, results: dict[str, list[float]]) -> None:
    base = statistics.median(results["by hand"])
    print(f"{title:32}{'rows/s':>9}{'least':>9}{'most':>9}{'ratio':>7}")
    for name, rates in results.items():
        middle = statistics.median(rates)
        print(f"  {name:30}{middle:9,.0f}{min(rates):9,.0f}{max(rates):9,.0f}{middle / base:7.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--dimension", type=int, default=384)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--url", help="a server to create a temporary database on; an embedded one if left out")
    parser.add_argument("--texts", type=Path, help="a file of lines to embed and store, in place of made vectors")
    options = parser.parse_args()
    rows = Rows(options.rows, options.dimension, options.texts)
    with server_url(options.url) as server, empty_database(server) as url, likewise.connect(url) as store:
        print(f"{len(rows.ids):,} x {rows.vectors.shape[1]}, {options.rounds} rounds")
        report("into a new collection", measure(store, url, rows, options.rounds, full=False))
        report("over as many existing rows", measure(store, url, rows, options.rounds, full=True))
        info = store.info()
        print(
            f"PostgreSQL {info.version}, pgvector {info.vector_extension}, psycopg {psycopg.__version__} ({psycopg.pq.__impl__}), "
            f"Python {platform.python_version()}, {os.cpu_count()} cores, {platform.machine()}"
        )


if __name__ == "__main__":
    main()
