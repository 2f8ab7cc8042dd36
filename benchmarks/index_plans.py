"""What an index costs and finds, by plan: all of the vector, half-precision numbers, one bit a number, IVFFlat.

    python benchmarks/index_plans.py [--rows 50000] [--vectors vectors.npy | --texts lines.txt] [--plans none,half] [--url postgresql://…]

For each plan: the time to build and the size; the least ef_search (or probes) for recall@10 of 0.95 and 0.99, and there the median time of
``search_by_vector`` beside a hand-written prepared statement on the same index, query by query, the first to go alternating; and what
``search_by_vector(recall=…)`` finds of what was asked. Queries are vectors that are not stored; the truth is computed with NumPy.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import _vectors
import numpy as np
import psycopg
from numpy.typing import NDArray
from psycopg import sql

import likewise
from likewise import Collection, CollectionSpec, Hnsw, IvfFlat
from likewise.backends.postgres._rows import BinaryParameter, pack_vector
from likewise.schema import VectorIndex
from likewise.testing.database import empty_database, server_url

TOP_K = 10
DIALS = (10, 14, 20, 28, 40, 56, 80, 100, 150, 200, 300, 400, 600, 800, 1000)
PLANS: dict[str, Callable[[int], VectorIndex]] = {
    "none": lambda rows: Hnsw(quantization="none"),
    "half": lambda rows: Hnsw(quantization="half"),
    "binary": lambda rows: Hnsw(quantization="binary"),
    "ivfflat": lambda rows: IvfFlat(lists=max(10, rows // 1_000)),
}
#: How many candidates an index that holds less than the vector gives to the ordering by the true distance.
CANDIDATES = {"half": 20, "binary": 200}
Search = Callable[[NDArray[np.float32]], Sequence[str]]


def by_hand(connection: psycopg.Connection[Any], plan: str, dimension: int, dial: int) -> Search:
    """A prepared statement on the same index, with the session set up for it."""
    setting = "ivfflat.probes" if plan == "ivfflat" else "hnsw.ef_search"
    least = CANDIDATES["binary"] if plan == "binary" else 0
    connection.execute(
        sql.SQL("select set_config({}, {}, false)").format(sql.Literal(setting), sql.Literal(str(max(least, dial))))
    )
    coarse = {
        "half": f"vector::halfvec({dimension}) <=> %(query)s::vector::halfvec({dimension})",
        "binary": f"binary_quantize(vector)::bit({dimension}) <~> binary_quantize(%(query)s::vector)::bit({dimension})",
    }.get(plan)
    rows = f"(select * from bench order by {coarse} limit {CANDIDATES[plan]}) as near" if coarse else "bench"
    text = f"select id, metadata, content, vector <=> %(query)s::vector as distance from {rows} order by distance limit {TOP_K}"

    def search(query: NDArray[np.float32]) -> list[str]:
        packed: BinaryParameter = pack_vector(query, "vector")
        found = connection.execute(text.encode(), {"query": packed}, prepare=True, binary=True).fetchall()
        return [row[0] for row in found]

    return search


class Measured:
    """One plan on one collection."""

    def __init__(self, url: str, collection: Collection, plan: str, stored: Any, queries: Any) -> None:
        self._url, self._collection, self._plan = url, collection, plan
        self._queries, self._dimension = queries, stored.shape[1]
        near = stored @ queries.T
        self._worst = np.partition(near, -TOP_K, axis=0)[-TOP_K]
        self._near = near

    def recall(self, search: Search) -> float:
        hits = 0
        for number, query in enumerate(self._queries):
            places = [int(name[1:]) for name in search(query)]
            hits += int((self._near[places, number] >= self._worst[number] - 1e-6).sum())
        return hits / (TOP_K * len(self._queries))

    def ours(self, **dials: Any) -> Search:
        return lambda query: [each.id for each in self._collection.search_by_vector(query, top_k=TOP_K, **dials)]

    def beside(self, wanted: float) -> str:
        """The least dial for this recall, and both sides' times there."""
        with psycopg.connect(self._url, autocommit=True) as connection:
            connection.execute("select '[1]'::vector")
            connection.execute("set hnsw.iterative_scan = relaxed_order")
            connection.execute("set ivfflat.iterative_scan = relaxed_order")
            for dial in DIALS:
                hand = by_hand(connection, self._plan, self._dimension, dial)
                found = self.recall(hand)
                if found >= wanted:
                    break
            else:
                return f"{wanted}: out of reach ({found:.3f})"
            sides = {"hand": hand}
            if self._plan != "ivfflat":  # whose dial is not to be had through the library, but by recall=
                sides["ours"] = self.ours(ef_search=dial)
            taken: dict[str, list[float]] = {name: [] for name in sides}
            for number, query in enumerate(self._queries):
                for name in sorted(sides, reverse=bool(number % 2)):
                    started = time.perf_counter()
                    sides[name](query)
                    taken[name].append((time.perf_counter() - started) * 1e3)
        hand_ms = statistics.median(taken["hand"])
        text = f"{wanted} at {dial:4}: {hand_ms:.2f} ms by hand"
        if "ours" not in sides:
            return f"{text}; recall {found:.3f}"
        ours = statistics.median(taken["ours"])
        return (
            f"{text}, {ours:.2f} likewise, {ours / hand_ms:.2f}; recall {found:.3f}, {self.recall(sides['ours']):.3f}"
        )

    def asked(self, recall: float) -> str:
        """What ``recall=`` finds; the first search measures, and does not count."""
        search = self.ours(recall=recall)
        started = time.perf_counter()
        search(self._queries[0])
        first = time.perf_counter() - started
        how = self._collection.search_by_vector(self._queries[0], recall=recall).explain()
        dial = how.settings.get("hnsw.ef_search", how.settings.get("ivfflat.probes", "every row"))
        return f"asked {recall}: {self.recall(search):.3f} at {dial} (first search {first:.1f} s)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--dimension", type=int, default=384)
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--plans", default="none,half,none,half", help=f"of {', '.join(PLANS)}, in this order")
    parser.add_argument("--asked", action="store_true", help="measure recall= too")
    parser.add_argument("--url", help="a server to create a temporary database on; an embedded one if left out")
    _vectors.add_arguments(parser)
    options = parser.parse_args()
    vectors = _vectors.chosen(options, options.rows + options.queries, options.dimension)
    stored, queries = vectors[: -options.queries], vectors[-options.queries :]
    with server_url(options.url) as server, empty_database(server) as url, likewise.connect(url) as store:
        collection = store.ensure_collection(CollectionSpec("bench", dimension=stored.shape[1]))
        collection.upsert_columns(
            ids=[f"r{i}" for i in range(len(stored))],
            vectors=stored,
            metadata=[{"number": i} for i in range(len(stored))],
            content=[f"The content of record {i}, about as long as a sentence." for i in range(len(stored))],
        )
        print(f"{len(stored):,} x {stored.shape[1]}, {len(queries)} queries, top_k {TOP_K}")
        for plan in options.plans.split(","):
            started = time.perf_counter()
            infos = collection.ensure_indexes(vector=PLANS[plan](len(stored)))
            built = time.perf_counter() - started
            (name,) = [each.name for each in infos if each.vector is not None]
            with store.transaction() as connection:
                (size,) = connection.execute("select pg_relation_size(%s::regclass)", [name]).fetchone()
            print(f"{plan}: built in {built:.1f} s, {size / 1e6:.0f} MB", flush=True)
            measured = Measured(url, collection, plan, stored, queries)
            for wanted in (0.95, 0.99):
                print(f"  recall {measured.beside(wanted)}", flush=True)
            for wanted in (0.9, 0.95, 0.99) if options.asked else ():
                print(f"  {measured.asked(wanted)}", flush=True)
            with store.transaction() as connection:
                connection.execute(sql.SQL("drop index {}").format(sql.Identifier(name)))
            collection.indexes()
        info = store.info()
        print(
            f"PostgreSQL {info.version}, pgvector {info.vector_extension}, psycopg {psycopg.__version__} ({psycopg.pq.__impl__}), "
            f"Python {platform.python_version()}, {os.cpu_count()} cores, {platform.machine()}"
        )


if __name__ == "__main__":
    main()
