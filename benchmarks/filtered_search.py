"""Filtered search at every selectivity: the planned search beside its two ways, each forced, and exact answers to count recall by.

    python benchmarks/filtered_search.py [--rows 50000] [--queries 100] [--texts lines.txt] [--url postgresql://…]

Independent filters have nothing to do with the vectors; correlated ones are sections of the collection (the rows nearest to one of a few of
them), and most queries lie outside the section they look in. ``exact`` compares every matching row; ``index`` is an iterative scan of the HNSW
index with the same ef_search, which is what careful users of pgvector write. Each way answers all queries twice, one way after the other.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import _vectors
import numpy as np
import psycopg
from numpy.typing import NDArray

import likewise
from likewise import Collection, CollectionSpec, Filter, Gin, Hnsw, Metadata
from likewise.backends.postgres import _searches
from likewise.backends.postgres.connection import rows
from likewise.testing.database import empty_database, server_url

TOP_K = 10
INDEPENDENT = {"50 %": 2, "20 %": 5, "10 %": 10, "5 %": 20, "2 %": 50, "1 %": 100, "0.1 %": 1000}
CORRELATED = {"20 %": 5, "10 %": 10, "5 %": 20, "2 %": 50, "1 %": 100, "0.5 %": 200}
INCLUDE: frozenset[Any] = frozenset({"metadata", "content"})


def filters_of(
    stored: NDArray[np.float32],
) -> tuple[list[dict[str, Any]], dict[str, tuple[Filter, NDArray[np.bool_]]]]:
    """Metadata of every row, and by name a filter with the rows that match it."""
    rng = np.random.default_rng(2)
    count = len(stored)
    columns: dict[str, NDArray[Any]] = {}
    filters: dict[str, tuple[Filter, NDArray[np.bool_]]] = {}
    for name, parts in INDEPENDENT.items():
        columns[f"part{parts}"] = column = rng.integers(parts, size=count)
        filters[f"independent {name}"] = (Metadata(f"part{parts}") == 0, column == 0)
    for name, parts in CORRELATED.items():
        centres = stored[rng.choice(count, parts, replace=False)]
        columns[f"section{parts}"] = column = np.argmax(stored @ centres.T, axis=1)
        sizes = np.bincount(column, minlength=parts)
        nearest = int(np.argmin(np.abs(sizes - count / parts)))
        filters[f"correlated {name}"] = (Metadata(f"section{parts}") == nearest, column == nearest)
    filters["range 10 %, no index"] = (Metadata("part10") < 1, columns["part10"] == 0)
    filters["range 1 %, no index"] = (Metadata("part100") < 1, columns["part100"] == 0)
    metadata = [{name: int(column[i]) for name, column in columns.items()} for i in range(count)]
    return metadata, filters


def truth(stored: NDArray[np.float32], mask: NDArray[np.bool_], queries: NDArray[np.float32]) -> list[set[str]]:
    places = np.flatnonzero(mask)
    near = np.argsort(-(queries @ stored[places].T), axis=1)[:, :TOP_K]
    return [{f"r{places[i]}" for i in row} for row in near]


def forced(
    url: str, collection: Collection, where: Filter, *, exact: bool
) -> Callable[[NDArray[np.float32]], list[str]]:
    """One way, on a connection of its own; the planner of PostgreSQL is kept from choosing another."""
    connection = psycopg.connect(url, autocommit=True)
    table = collection._known  # type: ignore[attr-defined]
    index = table.vector_index("")
    if not exact:
        for way in ("bitmapscan", "seqscan", "sort"):
            connection.execute(f"set enable_{way} = off".encode())

    def search(query: NDArray[np.float32]) -> list[str]:
        if exact:
            statement = _searches.compare(table, "", query, top_k=TOP_K, where=where, include=INCLUDE, most=0)
        else:
            statement = _searches.search(table, "", query, top_k=TOP_K, where=where, include=INCLUDE, index=index)
        return [row["id"] for row in rows(connection, statement)]

    return search


def measure(
    search: Callable[[NDArray[np.float32]], Sequence[str]], queries: NDArray[np.float32], answers: Sequence[set[str]]
) -> tuple[float, float, float]:
    """Median milliseconds, recall, and the part of the results that are short."""
    taken: list[float] = []
    hits = short = 0
    for _ in range(2):
        for query, answer in zip(queries, answers, strict=True):
            started = time.perf_counter()
            found = search(query)
            taken.append((time.perf_counter() - started) * 1e3)
            hits += len(answer.intersection(found))
            short += len(found) < len(answer)
    return statistics.median(taken), hits / (2 * sum(map(len, answers))), short / (2 * len(answers))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--dimension", type=int, default=384)
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--url", help="a server to create a temporary database on; an embedded one if left out")
    _vectors.add_arguments(parser)
    options = parser.parse_args()
    vectors = _vectors.chosen(options, options.rows + options.queries, options.dimension)
    stored, queries = vectors[: -options.queries], vectors[-options.queries :]
    metadata, filters = filters_of(stored)
    with server_url(options.url) as server, empty_database(server) as url, likewise.connect(url) as store:
        collection = store.ensure_collection(CollectionSpec("bench", dimension=stored.shape[1]))
        collection.upsert_columns(
            ids=[f"r{i}" for i in range(len(stored))],
            vectors=stored,
            metadata=metadata,
            content=[f"The content of record {i}, about as long as a sentence." for i in range(len(stored))],
        )
        collection.ensure_indexes(vector=Hnsw(), metadata=Gin(path_ops=True))
        print(
            f"{len(stored):,} x {stored.shape[1]}, {len(queries)} queries, top_k {TOP_K}: recall@{TOP_K} and median ms"
        )
        print(f"{'filter':22}{'rows':>8} |{'exact':>14} |{'index':>14} |{'likewise':>14}{'ratio':>7}  plans")
        for name, (where, mask) in filters.items():
            report(name, url, collection, where, int(mask.sum()), queries, truth(stored, mask, queries))
        info = store.info()
        print(
            f"PostgreSQL {info.version}, pgvector {info.vector_extension}, psycopg {psycopg.__version__} ({psycopg.pq.__impl__}), "
            f"Python {platform.python_version()}, {os.cpu_count()} cores, {platform.machine()}"
        )


def report(
    name: str,
    url: str,
    collection: Collection,
    where: Filter,
    matching: int,
    queries: NDArray[np.float32],
    answers: Sequence[set[str]],
) -> None:
    plans: Counter[str] = Counter()

    def planned(query: NDArray[np.float32]) -> list[str]:
        found = collection.search_by_vector(query, top_k=TOP_K, where=where)
        plans[found.explain().plan] += 1
        return [result.id for result in found]

    measured: Mapping[str, tuple[float, float, float]] = {
        "exact": measure(forced(url, collection, where, exact=True), queries, answers),
        "index": measure(forced(url, collection, where, exact=False), queries, answers),
        "likewise": measure(planned, queries, answers),
    }
    cells = " |".join(f"{recall:7.3f}{middle:7.2f}" for middle, recall, _ in measured.values())
    ratio = measured["likewise"][0] / min(measured["exact"][0], measured["index"][0])
    short = f"  SHORT {measured['likewise'][2]:.2f}" if measured["likewise"][2] else ""
    print(f"{name:22}{matching:8,} |{cells}{ratio:7.2f}  {dict(plans)}{short}", flush=True)


if __name__ == "__main__":
    main()
