"""What does a replica in the process gain over pgvector's HNSW index, how far is it behind, and what does it take?

    python benchmarks/replica.py [--rows 50000] [--queries 200] [--rounds 9] [--vectors vectors.npy] [--url postgresql://…]

All ways are ``search_by_vector`` of the library, in one process, one connection: asked the same queries in turn, a block of each at a time, in
``--rounds`` rounds. A ratio is that of the queries a second of two ways in the same round; its median and the least and the most are printed. Recall is of the exact
ten. Then writers in other processes update rows: the lag is from just before a statement is sent, which has the time in it, to when the replica
has applied it, so it has the commit in it.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import statistics
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

import _vectors
import numpy as np
import psycopg
from numpy.typing import NDArray

import likewise
from likewise import Collection, CollectionSpec, Hnsw
from likewise.abc.feeds import Commit, Put
from likewise.backends.faiss import FaissCollection
from likewise.backends.faiss.image import Image
from likewise.testing.database import empty_database, server_url

TOP_K = 10
WRITERS, WRITING_SECONDS = 4, 10.0
Field = Literal["metadata", "content"]


def resident() -> int:
    """Bytes of memory that this process has."""
    pages = Path("/proc/self/statm").read_text("ascii").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def opened(stores: ExitStack, url: str, hold: str) -> tuple[FaissCollection, float, int]:
    """A collection with a replica that holds this, the seconds until it answered, and the bytes that the process grew by."""
    before, began = resident(), time.perf_counter()
    store = stores.enter_context(likewise.connect(f"faiss+{url}&replica_hold={hold}"))
    collection = store.collection("bench")
    assert isinstance(collection, FaissCollection)
    collection.replica_wait(3_600)
    return collection, time.perf_counter() - began, resident() - before


def write(url: str, rows: int, seed: int, dimension: int, pause: float) -> None:
    """Update a row at a time until told to end by being ended."""
    rng = np.random.default_rng(seed)
    with psycopg.connect(url, autocommit=True) as connection:
        ends = time.monotonic() + WRITING_SECONDS
        while time.monotonic() < ends:
            vector = rng.normal(size=dimension)
            connection.execute(
                "update bench set vector = %s, metadata = metadata || %s where id = %s",
                (
                    str((vector / np.linalg.norm(vector)).round(6).tolist()),
                    json.dumps({"sent": time.time()}),
                    f"r{rng.integers(rows)}",
                ),
            )
            time.sleep(pause)


def lags(
    url: str, collection: FaissCollection, queries: NDArray[np.float32], rows: int, pause: float
) -> tuple[list[float], float]:
    """Seconds from sending to having applied, of each row that writers wrote, while somebody searches; and rows a second."""
    taken: list[float] = []
    apply = Image.apply
    watched = collection._kept().image

    def timed(self: Image, commit: Commit) -> None:
        apply(self, commit)
        now = time.time()
        if self is watched:
            taken.extend(
                now - json.loads(change.payload["metadata"] or b"{}")["sent"]
                for change in commit.changes
                if isinstance(change, Put)
            )

    Image.apply = timed  # type: ignore[method-assign]
    processes = [
        multiprocessing.get_context("spawn").Process(target=write, args=(url, rows, seed, queries.shape[1], pause))
        for seed in range(WRITERS)
    ]
    for process in processes:
        process.start()
    searched = 0
    while any(process.is_alive() for process in processes):
        collection.search_by_vector(queries[searched % len(queries)], include=())
        searched += 1
        time.sleep(0.002)
    for process in processes:
        process.join()
    collection.replica_wait()
    Image.apply = apply  # type: ignore[method-assign]
    return taken, len(taken) / WRITING_SECONDS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--dimension", type=int, default=384)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--ef-search", type=int, help="of pgvector's index; its default if left out")
    parser.add_argument("--url", help="a server to create a temporary database on; an embedded one if left out")
    _vectors.add_arguments(parser)
    options = parser.parse_args()
    vectors = _vectors.chosen(options, options.rows + options.queries, options.dimension)
    stored, queries = vectors[: -options.queries], vectors[-options.queries :]
    with (
        server_url(options.url) as server,
        empty_database(server) as url,
        likewise.connect(url) as store,
        ExitStack() as stores,
    ):
        collection = store.ensure_collection(CollectionSpec("bench", dimension=stored.shape[1]))
        collection.upsert_columns(
            ids=[f"r{i}" for i in range(len(stored))],
            vectors=stored,
            metadata=[{"n": i, "part": i % 100, "lang": "en"} for i in range(len(stored))],
            content=[f"The content of record {i}, about as long as a sentence." for i in range(len(stored))],
        )
        collection.ensure_indexes(vector=Hnsw())
        print(f"{len(stored):,} x {stored.shape[1]}, {len(queries)} queries, top_k {TOP_K}, {options.rounds} rounds")
        bare, seconds, grown = opened(stores, url, "none")
        describe("ids and vectors", bare, seconds, grown, stored)
        full, seconds, grown = opened(stores, url, "metadata,content")
        describe("metadata and content too", full, seconds, grown, stored)
        compare(collection, bare, full, stored, queries, options)
        for pause in (0.01, 0.0):
            taken, rate = lags(url, full, queries, len(stored), pause)
            p50, p95, p99 = np.percentile(taken, [50, 95, 99]) * 1e3
            print(f"lag at {rate:,.0f} rows written a second: p50 {p50:.1f} ms, p95 {p95:.1f} ms, p99 {p99:.1f} ms")
        report = full.verify_replica()
        print(f"verified {report.rows:,} rows in {report.seconds:.1f} s: {'all the same' if report.sound else report}")
        info = store.info()
        print(
            f"PostgreSQL {info.version}, pgvector {info.vector_extension}, psycopg {psycopg.__version__} ({psycopg.pq.__impl__}), "
            f"Python {platform.python_version()}, {os.cpu_count()} cores, {platform.machine()}"
        )


def describe(name: str, collection: FaissCollection, seconds: float, grown: int, stored: NDArray[np.float32]) -> None:
    image = collection._kept().image
    assert image is not None
    parts = image.memory
    own = sum(parts.values())
    print(
        f"replica with {name}: built in {seconds:.1f} s, {own / 1e6:,.0f} MB by its own count, the process grew by {grown / 1e6:,.0f} MB; "
        f"vectors alone {stored.nbytes / 1e6:,.0f} MB; {', '.join(f'{part} {size / 1e6:,.1f}' for part, size in parts.items())}"
    )


def compare(
    collection: Collection,
    bare: FaissCollection,
    full: FaissCollection,
    stored: NDArray[np.float32],
    queries: NDArray[np.float32],
    options: argparse.Namespace,
) -> None:
    near = np.argpartition(-(queries @ stored.T), TOP_K, axis=1)[:, :TOP_K]
    truth = [{f"r{i}" for i in row} for row in near]
    both: tuple[Field, Field] = ("metadata", "content")
    ef = options.ef_search
    ways: dict[str, Callable[[NDArray[np.float32]], Any]] = {
        "pgvector, ids": lambda q: collection.search_by_vector(q, top_k=TOP_K, include=(), ef_search=ef),
        "replica, ids": lambda q: bare.search_by_vector(q, top_k=TOP_K, include=()),
        "pgvector, rows": lambda q: collection.search_by_vector(q, top_k=TOP_K, include=both, ef_search=ef),
        "replica, rows held": lambda q: full.search_by_vector(q, top_k=TOP_K, include=both),
        "replica, rows fetched": lambda q: bare.search_by_vector(q, top_k=TOP_K, include=both),
    }
    rates: dict[str, list[float]] = {name: [] for name in ways}
    recalls: dict[str, float] = {}
    for name, search in ways.items():
        found = [search(query) for query in queries]
        recalls[name] = statistics.fmean(len(t & {r.id for r in f}) / TOP_K for t, f in zip(truth, found, strict=True))
        by = {f.explain().by for f in found}
        assert by == ({"replica"} if name.startswith("replica") else {None}), by
    for _ in range(options.rounds):
        for name, search in ways.items():
            began = time.perf_counter()
            for query in queries:
                search(query)
            rates[name].append(len(queries) / (time.perf_counter() - began))
    for name in ways:
        base = rates["pgvector, ids" if name.endswith("ids") else "pgvector, rows"]
        print(
            f"{name:24} {statistics.median(rates[name]):8,.0f} a second, recall@{TOP_K} {recalls[name]:.3f}{ratio(rates[name], base)}"
        )
    threads(ways, queries)


def ratio(mine: Sequence[float], base: Sequence[float]) -> str:
    if mine is base:
        return ""
    each = [a / b for a, b in zip(mine, base, strict=True)]
    return f", {statistics.median(each):.1f} times ({min(each):.1f} to {max(each):.1f})"


def threads(ways: Mapping[str, Callable[[NDArray[np.float32]], Any]], queries: NDArray[np.float32]) -> None:
    """The same with as many threads as there are cores."""
    count = os.cpu_count() or 1
    for name, search in ways.items():
        workers = [threading.Thread(target=lambda s=search: [s(query) for query in queries]) for _ in range(count)]
        began = time.perf_counter()
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        print(f"{name:24} {count * len(queries) / (time.perf_counter() - began):8,.0f} a second by {count} threads")


if __name__ == "__main__":
    main()
