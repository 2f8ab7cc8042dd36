"""Loading into a collection that has an HNSW index: inserting live, building the index anew, and what ``upsert`` chooses.

    python benchmarks/load_indexed.py [--rows 30000] [--new 1500,3000,6000,7500,10000,15000,30000] [--vectors vectors.npy | --texts lines.txt]

For each number of new rows the collection is put back as it was, and written to in each of the three ways, in an order that changes. The
choice is made by size; what it costs beyond the better way is the last column.
"""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import random
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import _vectors
import numpy as np
import psycopg
from numpy.typing import NDArray

import likewise
from likewise import Collection, CollectionSpec, Hnsw, VectorStore
from likewise.testing.database import empty_database, server_url

#: Any, for its choice is replaced below.
loading: Any = importlib.import_module("likewise.backends.postgres.loading")
ALL = 1 << 60
WAYS: dict[str, Callable[[int], int] | None] = {"live": lambda new: 0, "anew": lambda new: ALL, "chosen": None}


@contextmanager
def forced(way: str) -> Iterator[None]:
    """Have loads take this way, whatever the sizes."""
    chosen = loading.most_known
    loading.most_known = WAYS[way] or chosen
    try:
        yield
    finally:
        loading.most_known = chosen


def put_back(store: VectorStore, collection: Collection) -> None:
    """The rows and the index as before the first load, and caches as warm."""
    with store.transaction() as connection:
        connection.execute("drop index if exists idx_bench_vector_hnsw")
        connection.execute("truncate bench")
        connection.execute("insert into bench select * from kept")
    collection.ensure_indexes(vector=Hnsw())
    with store.transaction() as connection:
        connection.execute("select count(*) from bench where vector is not null")


def write(collection: Collection, vectors: NDArray[np.float32]) -> tuple[float, bool]:
    """Seconds, and whether an index was built."""
    phases: set[str] = set()
    started = time.perf_counter()
    collection.upsert_columns(
        ids=[f"n{i}" for i in range(len(vectors))],
        vectors=vectors,
        metadata=[{"number": i} for i in range(len(vectors))],
        content=[f"The content of record {i}, about as long as a sentence." for i in range(len(vectors))],
        progress=lambda progress: phases.add(progress.phase),
    )
    return time.perf_counter() - started, "index" in phases


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=30_000)
    parser.add_argument("--dimension", type=int, default=384)
    parser.add_argument("--new", default="1500,3000,6000,7500,10000,15000,30000")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--url", help="a server to create a temporary database on; an embedded one if left out")
    _vectors.add_arguments(parser)
    options = parser.parse_args()
    sizes = [int(each) for each in options.new.split(",")]
    vectors = _vectors.chosen(options, options.rows + max(sizes), options.dimension)
    stored, more = vectors[: options.rows], vectors[options.rows :]
    with server_url(options.url) as server, empty_database(server) as url, likewise.connect(url) as store:
        collection = store.ensure_collection(CollectionSpec("bench", dimension=stored.shape[1]))
        collection.upsert_columns(ids=[f"r{i}" for i in range(len(stored))], vectors=stored)
        with store.transaction() as connection:
            connection.execute("create table kept as table bench")
        print(
            f"{len(stored):,} x {stored.shape[1]} rows and an HNSW index; seconds, medians of {options.rounds} rounds"
        )
        print(f"{'new rows':>10}{'live':>10}{'anew':>10}{'chosen':>10}{'ratio':>8}  way")
        for new in sizes:
            taken: dict[str, list[float]] = {way: [] for way in WAYS}
            anew = False
            for number in range(options.rounds):
                order = list(WAYS)
                random.Random(number).shuffle(order)
                for way in order:
                    put_back(store, collection)
                    with forced(way):
                        seconds, built = write(collection, more[:new])
                    taken[way].append(seconds)
                    anew = built if way == "chosen" else anew
            live, rebuilt, chosen = (statistics.median(taken[way]) for way in WAYS)
            way = "anew" if anew else "live"
            # The same way, measured twice: both times say what it costs.
            same = statistics.median(taken["chosen"] + taken[way])
            ratio = same / min(live if way == "anew" else rebuilt, same)
            print(f"{new:10,}{live:10.2f}{rebuilt:10.2f}{chosen:10.2f}{ratio:8.2f}  {way}", flush=True)
        info = store.info()
        print(
            f"PostgreSQL {info.version}, pgvector {info.vector_extension}, psycopg {psycopg.__version__} ({psycopg.pq.__impl__}), "
            f"Python {platform.python_version()}, {os.cpu_count()} cores, {platform.machine()}"
        )


if __name__ == "__main__":
    main()
