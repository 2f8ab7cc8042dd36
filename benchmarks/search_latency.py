"""What a search costs over a hand-written prepared statement: the same index, ef_search and iterative scan, runs interleaved.

    python benchmarks/search_latency.py [--rows 20000] [--dimension 384] [--repeat 400] [--url postgresql://…]

The hand-written side is what a careful user of psycopg would write: one autocommit connection, settings made once for the session,
a prepared statement, the vector bound in binary, all result columns in binary, metadata parsed, vectors not fetched. Ratios are to be
read side by side; the absolute numbers belong to this machine and this minute.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import statistics
import struct
import time
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import psycopg
from numpy.typing import NDArray

import likewise
from likewise import Collection, CollectionSpec, Record
from likewise.backends.postgres._rows import BinaryParameter
from likewise.testing.database import empty_database, server_url

EF_SEARCH = 100
HAND_WRITTEN = b"""
select id, metadata, content, vector <=> %s::vector as distance from bench order by distance limit 10
"""


def vectors(count: int, dimension: int, seed: int) -> NDArray[np.float32]:
    """Unit vectors around 200 centres, about as hard for an index as embeddings of short texts."""
    centres = np.random.default_rng(0).normal(size=(200, dimension))
    rng = np.random.default_rng(seed)
    made = centres[rng.integers(200, size=count)] + 0.8 * rng.normal(size=(count, dimension))
    return np.asarray(made / np.linalg.norm(made, axis=1, keepdims=True), dtype=np.float32)


def pack(vector: NDArray[np.float32]) -> BinaryParameter:
    return BinaryParameter(struct.pack(">HH", len(vector), 0) + vector.astype(">f4").tobytes())


def timed(call: Callable[[NDArray[np.float32]], object], queries: NDArray[np.float32]) -> list[float]:
    taken = []
    for query in queries:
        started = time.perf_counter()
        call(query)
        taken.append((time.perf_counter() - started) * 1e3)
    return taken


async def timed_async(
    call: Callable[[NDArray[np.float32]], Awaitable[object]], queries: NDArray[np.float32]
) -> list[float]:
    taken = []
    for query in queries:
        started = time.perf_counter()
        await call(query)
        taken.append((time.perf_counter() - started) * 1e3)
    return taken


def hand_written(connection: psycopg.Connection[Any]) -> Callable[[NDArray[np.float32]], object]:
    connection.execute("select '[1]'::vector")
    connection.execute(f"set hnsw.ef_search = {EF_SEARCH}")
    connection.execute("set hnsw.iterative_scan = relaxed_order")

    def search(query: NDArray[np.float32]) -> object:
        return connection.execute(HAND_WRITTEN, (pack(query),), prepare=True, binary=True).fetchall()

    return search


async def hand_written_async(
    connection: psycopg.AsyncConnection[Any],
) -> Callable[[NDArray[np.float32]], Awaitable[object]]:
    await connection.execute("select '[1]'::vector")
    await connection.execute(f"set hnsw.ef_search = {EF_SEARCH}")
    await connection.execute("set hnsw.iterative_scan = relaxed_order")

    async def search(query: NDArray[np.float32]) -> object:
        return await (await connection.execute(HAND_WRITTEN, (pack(query),), prepare=True, binary=True)).fetchall()

    return search


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--dimension", type=int, default=384)
    parser.add_argument("--repeat", type=int, default=400)
    parser.add_argument("--url", help="a server to create a temporary database on; an embedded one if left out")
    options = parser.parse_args()
    with server_url(options.url) as server, empty_database(server) as url, likewise.connect(url) as store:
        collection: Collection = store.ensure_collection(CollectionSpec("bench", dimension=options.dimension))
        started = time.perf_counter()
        stored = vectors(options.rows, options.dimension, 1)
        collection.upsert(
            Record(f"r{i}", v, {"n": i, "tag": f"t{i % 50}"}, f"content of record {i}") for i, v in enumerate(stored)
        )
        loaded = time.perf_counter()
        collection.ensure_indexes()
        print(
            f"{options.rows:,} x {options.dimension}: load {loaded - started:.1f} s, indexes {time.perf_counter() - loaded:.1f} s"
        )
        print(f"recall@10 at ef_search {EF_SEARCH}: {collection.recall(sample=50, ef_search=EF_SEARCH):.3f}")
        asyncio.run(compare(url, collection, options))
        info = store.info()
        print(
            f"PostgreSQL {info.version}, pgvector {info.vector_extension}, psycopg {psycopg.__version__} ({psycopg.pq.__impl__}), "
            f"Python {platform.python_version()}, {os.cpu_count()} cores, {platform.machine()}"
        )


async def compare(url: str, collection: Collection, options: argparse.Namespace) -> None:
    rounds = 10
    names = ("sync by hand", "sync likewise", "async by hand", "async likewise")
    results: dict[str, list[float]] = {name: [] for name in names}
    with psycopg.connect(url, autocommit=True) as connection:
        async with (
            await psycopg.AsyncConnection.connect(url, autocommit=True) as async_connection,
            await likewise.connect_async(url) as store,
        ):
            by_hand, by_hand_async = hand_written(connection), await hand_written_async(async_connection)
            twin = await store.collection("bench")
            for number in range(rounds + 1):
                queries = vectors(max(1, options.repeat // rounds), options.dimension, 100 + number)
                measured = (
                    timed(by_hand, queries),
                    timed(lambda q: collection.search_by_vector(q, ef_search=EF_SEARCH), queries),
                    await timed_async(by_hand_async, queries),
                    await timed_async(lambda q: twin.search_by_vector(q, ef_search=EF_SEARCH), queries),
                )
                if number:  # the first round warms caches and prepares statements
                    for name, taken in zip(names, measured, strict=True):
                        results[name].extend(taken)
    print(f"{'':16}{'p50 ms':>8}{'p95 ms':>8}{'ratio':>8}")
    for name, taken in results.items():
        base = statistics.median(results[f"{name.split()[0]} by hand"])
        p95 = statistics.quantiles(taken, n=20)[-1]
        print(f"{name:16}{statistics.median(taken):8.3f}{p95:8.3f}{statistics.median(taken) / base:8.2f}")


if __name__ == "__main__":
    main()
