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

import _vectors
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


def pack(vector: NDArray[np.float32]) -> BinaryParameter:
    return BinaryParameter(struct.pack(">HH", len(vector), 0) + vector.astype(">f4").tobytes())


Search = Callable[[NDArray[np.float32]], object]
AsyncSearch = Callable[[NDArray[np.float32]], Awaitable[object]]


def timed(searches: dict[str, Search], queries: NDArray[np.float32]) -> dict[str, list[float]]:
    """Milliseconds of each search for each query: query by query, the one that goes first alternating."""
    taken: dict[str, list[float]] = {name: [] for name in searches}
    for number, query in enumerate(queries):
        for name in sorted(searches, reverse=bool(number % 2)):
            started = time.perf_counter()
            searches[name](query)
            taken[name].append((time.perf_counter() - started) * 1e3)
    return taken


async def timed_async(searches: dict[str, AsyncSearch], queries: NDArray[np.float32]) -> dict[str, list[float]]:
    """The same for coroutines, one at a time."""
    taken: dict[str, list[float]] = {name: [] for name in searches}
    for number, query in enumerate(queries):
        for name in sorted(searches, reverse=bool(number % 2)):
            started = time.perf_counter()
            await searches[name](query)
            taken[name].append((time.perf_counter() - started) * 1e3)
    return taken


def hand_written(connection: psycopg.Connection[Any]) -> Search:
    connection.execute("select '[1]'::vector")
    connection.execute(f"set hnsw.ef_search = {EF_SEARCH}")
    connection.execute("set hnsw.iterative_scan = relaxed_order")

    def search(query: NDArray[np.float32]) -> object:
        return connection.execute(HAND_WRITTEN, (pack(query),), prepare=True, binary=True).fetchall()

    return search


async def hand_written_async(connection: psycopg.AsyncConnection[Any]) -> AsyncSearch:
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
    _vectors.add_arguments(parser)
    options = parser.parse_args()
    made = _vectors.chosen(options, options.rows + options.repeat, options.dimension)
    stored, queries = made[: -options.repeat], made[-options.repeat :]
    options.dimension = stored.shape[1]
    with server_url(options.url) as server, empty_database(server) as url, likewise.connect(url) as store:
        collection: Collection = store.ensure_collection(CollectionSpec("bench", dimension=options.dimension))
        started = time.perf_counter()
        collection.upsert(
            Record(f"r{i}", v, {"n": i, "tag": f"t{i % 50}"}, f"content of record {i}") for i, v in enumerate(stored)
        )
        loaded = time.perf_counter()
        collection.ensure_indexes()
        print(
            f"{options.rows:,} x {options.dimension}: load {loaded - started:.1f} s, indexes {time.perf_counter() - loaded:.1f} s"
        )
        print(f"recall@10 at ef_search {EF_SEARCH}: {collection.recall(sample=50, ef_search=EF_SEARCH):.3f}")
        asyncio.run(compare(url, queries))
        info = store.info()
        print(
            f"PostgreSQL {info.version}, pgvector {info.vector_extension}, psycopg {psycopg.__version__} ({psycopg.pq.__impl__}), "
            f"Python {platform.python_version()}, {os.cpu_count()} cores, {platform.machine()}"
        )


async def compare(url: str, queries: NDArray[np.float32]) -> None:
    """The synchronous pair, then the asynchronous pair; the first queries warm caches and prepare statements."""
    warm_up = queries[:20]
    with psycopg.connect(url, autocommit=True) as connection, likewise.connect(url) as store:
        collection = store.collection("bench")
        searches: dict[str, Search] = {
            "sync by hand": hand_written(connection),
            "sync likewise": lambda query: collection.search_by_vector(query, ef_search=EF_SEARCH),
        }
        timed(searches, warm_up)
        report(timed(searches, queries))
    async with (
        await psycopg.AsyncConnection.connect(url, autocommit=True) as async_connection,
        await likewise.connect_async(url) as async_store,
    ):
        twin = await async_store.collection("bench")
        async_searches: dict[str, AsyncSearch] = {
            "async by hand": await hand_written_async(async_connection),
            "async likewise": lambda query: twin.search_by_vector(query, ef_search=EF_SEARCH),
        }
        await timed_async(async_searches, warm_up)
        report(await timed_async(async_searches, queries))


def report(results: dict[str, list[float]]) -> None:
    """The medians, and their ratio to the first's."""
    base = statistics.median(next(iter(results.values())))
    print(f"{'':16}{'p50 ms':>8}{'p95 ms':>8}{'ratio':>8}")
    for name, taken in results.items():
        p95 = statistics.quantiles(taken, n=20)[-1]
        print(f"{name:16}{statistics.median(taken):8.3f}{p95:8.3f}{statistics.median(taken) / base:8.2f}")


if __name__ == "__main__":
    main()
