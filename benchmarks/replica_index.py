"""The replica's index beside others in this process: comparing all, FAISS's graph by hand, usearch, and qdrant-edge for filters.

    python benchmarks/replica_index.py [--rows 50000] [--queries 200] [--vectors vectors.npy | --texts lines.txt] [--engines faiss,usearch,qdrant_edge]

Each graph has 32 links and 128 candidates when it is built. For each engine the least dial that reaches recall@10 of 0.95 is looked for; then all of
them answer the same queries one after the other, the order turning with each query. What is not installed is left out. Queries are vectors that are not
stored; the truth is computed with NumPy. Filters are on metadata that has nothing to do with the vectors, but for ``section``: the rows nearest to
one of ten of them.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import importlib.util
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import _vectors
import numpy as np
from numpy.typing import NDArray

from likewise import CollectionSpec, Filter, Metadata
from likewise.abc.feeds import Commit, Position, Put, Rows
from likewise.backends.faiss.image import Image

TOP_K = 10
DIALS = (10, 14, 20, 28, 40, 56, 80, 112, 160, 224, 320)
RECALL = 0.95
Vectors = NDArray[np.float32]
Search = Callable[[Vectors], list[int]]
PARTS = {"50 %": 2, "20 %": 5, "10 %": 10, "1 %": 100, "0.1 %": 1000}


def resident() -> float:
    """Megabytes of this process that are in memory and not of a file."""
    text = Path("/proc/self/status").read_text("utf-8")
    return next(int(line.split()[1]) / 1024 for line in text.splitlines() if line.startswith("RssAnon"))


def image_of(stored: Vectors, columns: Mapping[str, NDArray[Any]]) -> Image:
    image = Image(CollectionSpec("bench", dimension=stored.shape[1]), holds=frozenset({"metadata"}))
    for start in range(0, len(stored), 5_000):
        rows = range(start, min(len(stored), start + 5_000))
        metadata: list[bytes | None] = [
            ("{" + ", ".join(f'"{name}": {column[row]}' for name, column in columns.items()) + "}").encode()
            for row in rows
        ]
        image.fill(Rows([f"r{row}" for row in rows], {"": stored[rows.start : rows.stop]}, {}, {"metadata": metadata}))
    image.filled(Position("0"))
    return image


def image_search(image: Image, *, where: Filter | None = None, exact: bool = False, ef: int | None = None) -> Search:
    def search(query: Vectors) -> list[int]:
        found = image.search("", query[None], TOP_K, where=where, exact=exact, ef_search=ef)[0]
        return [int(each[1:]) for each in image.ids(found)]

    return search


def faiss_engine(stored: Vectors) -> Callable[[int], Search]:
    faiss: Any = importlib.import_module("faiss")
    index = faiss.IndexHNSWFlat(stored.shape[1], 32, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = 128
    index.add(stored)

    def at(dial: int) -> Search:
        parameters = faiss.SearchParametersHNSW(efSearch=dial)
        return lambda query: index.search(query[None], TOP_K, params=parameters)[1][0].tolist()

    return at


def usearch_engine(stored: Vectors, kind: str) -> Callable[[int], Search]:
    usearch: Any = importlib.import_module("usearch.index")
    index = usearch.Index(ndim=stored.shape[1], metric="ip", dtype=kind, connectivity=32, expansion_add=128)
    index.add(np.arange(len(stored)), stored)

    def at(dial: int) -> Search:
        def search(query: Vectors) -> list[int]:
            index.expansion_search = dial
            return index.search(query, TOP_K).keys.tolist()  # type: ignore[no-any-return]

        return search

    return at


def qdrant_engine(stored: Vectors, columns: Mapping[str, NDArray[Any]], folder: str) -> Any:
    edge: Any = importlib.import_module("qdrant_edge")
    shard = edge.EdgeShard.create(
        folder,
        edge.EdgeConfig(
            vectors=edge.EdgeVectorParams(size=stored.shape[1], distance=edge.Distance.Cosine),
            hnsw_config=edge.HnswIndexConfig(m=32, ef_construct=128, full_scan_threshold=10_000),
        ),
    )
    for name in columns:
        shard.update(edge.UpdateOperation.create_field_index(name, edge.PayloadSchemaType.Integer))
    for start in range(0, len(stored), 1_000):
        points = [
            edge.Point(id=row, vector=stored[row].tolist(), payload={n: int(c[row]) for n, c in columns.items()})
            for row in range(start, min(len(stored), start + 1_000))
        ]
        shard.update(edge.UpdateOperation.upsert_points(points))
    shard.flush()
    shard.optimize()
    return shard


def qdrant_search(shard: Any, dial: int | None, condition: tuple[str, int] | None) -> Search:
    edge: Any = importlib.import_module("qdrant_edge")
    where = None
    if condition is not None:
        where = edge.Filter(must=[edge.FieldCondition(key=condition[0], match=edge.MatchValue(value=condition[1]))])
    parameters = None if dial is None else edge.SearchParams(hnsw_ef=dial)

    def search(query: Vectors) -> list[int]:
        request = edge.QueryRequest(
            query=edge.Query.Nearest(query.tolist()), limit=TOP_K, filter=where, params=parameters, with_payload=False
        )
        return [point.id for point in shard.query(request)]

    return search


def recall(search: Search, queries: Vectors, truth: list[set[int]]) -> float:
    return sum(len(set(search(q)) & t) for q, t in zip(queries, truth, strict=True)) / sum(map(len, truth))


def truth_of(stored: Vectors, queries: Vectors, places: NDArray[Any]) -> list[set[int]]:
    near = np.argpartition(-(queries @ stored[places].T), min(TOP_K, len(places) - 1), axis=1)[:, :TOP_K]
    return [set(places[row].tolist()) for row in near]


def interleaved(searches: Mapping[str, Search], queries: Vectors) -> dict[str, list[float]]:
    """Milliseconds of each query, sorted."""
    names = list(searches)
    taken: dict[str, list[float]] = {name: [] for name in names}
    for round_ in range(2):
        for number, query in enumerate(queries):
            turn = (number + round_) % len(names)
            for name in names[turn:] + names[:turn]:
                started = time.perf_counter()
                searches[name](query)
                taken[name].append((time.perf_counter() - started) * 1e3)
    return {name: sorted(times) for name, times in taken.items()}


def report(searches: Mapping[str, Search], queries: Vectors, truth: list[set[int]]) -> None:
    first = None
    for name, times in interleaved(searches, queries).items():
        middle = statistics.median(times)
        first = first or middle
        late = times[int(0.95 * len(times))]
        print(
            f"  {name:34} recall {recall(searches[name], queries, truth):.3f}  p50 {middle:7.3f} ms  p95 {late:7.3f} ms  {middle / first:5.2f}",
            flush=True,
        )


def engines(
    options: argparse.Namespace, stored: Vectors, image: Image
) -> Iterator[tuple[str, Callable[[int], Search]]]:
    wanted = options.engines.split(",")
    yield "image", lambda dial: image_search(image, ef=dial)
    makers: dict[str, tuple[str, Callable[[], Callable[[int], Search]]]] = {
        "FAISS by hand": ("faiss", lambda: faiss_engine(stored)),
        "usearch f32": ("usearch", lambda: usearch_engine(stored, "f32")),
        "usearch f16": ("usearch", lambda: usearch_engine(stored, "f16")),
    }
    for name, (engine, make) in makers.items():
        if engine in wanted and importlib.util.find_spec(engine) is not None:
            started, before = time.perf_counter(), resident()
            made = make()
            print(f"  {name}: built in {time.perf_counter() - started:.1f} s, {resident() - before:.0f} MB")
            yield name, made


def maintenance(image: Image, stored: Vectors) -> None:
    """What applying commits costs, and searching while vectors are late."""
    rng = np.random.default_rng(3)
    taken: list[float] = []
    for number in range(300):
        rows = rng.integers(len(stored), size=10)
        changes = [Put(f"r{row}", {"": stored[(row + 1) % len(stored)]}) for row in dict.fromkeys(rows.tolist())]
        started = time.perf_counter()
        image.apply(Commit(Position(str(number)), changes))
        taken.append((time.perf_counter() - started) * 1e3)
    taken.sort()
    steps: list[float] = []
    more = True
    while more:
        started = time.perf_counter()
        more = image.maintain()
        steps.append((time.perf_counter() - started) * 1e3)
    steps.sort()
    print(
        f"commits of 10 rows: p50 {taken[150]:.3f} ms, p95 {taken[285]:.3f} ms; {len(steps)} steps of maintenance: "
        f"p50 {statistics.median(steps):.1f} ms, longest {steps[-1]:.1f} ms"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--dimension", type=int, default=384)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--engines", default="faiss,usearch,qdrant_edge")
    _vectors.add_arguments(parser)
    options = parser.parse_args()
    vectors = _vectors.chosen(options, options.rows + options.queries, options.dimension)
    stored, queries = (
        np.ascontiguousarray(vectors[: -options.queries]),
        np.ascontiguousarray(vectors[-options.queries :]),
    )
    rng = np.random.default_rng(2)
    columns: dict[str, NDArray[Any]] = {f"part{n}": rng.integers(n, size=len(stored)) for n in PARTS.values()}
    centres = stored[rng.choice(len(stored), 10, replace=False)]
    columns["section"] = np.argmax(stored @ centres.T, axis=1)
    Image(CollectionSpec("warm", dimension=2), holds=frozenset())
    started, before = time.perf_counter(), resident()
    image = image_of(stored, columns)
    size = image.memory
    index = size["vectors"] + size["links"]
    print(f"{len(stored):,} x {stored.shape[1]}, {len(queries)} queries, recall@{TOP_K}")
    print(
        f"  image: built in {time.perf_counter() - started:.1f} s; vectors and links {index / 1e6:.0f} MB, all {sum(size.values()) / 1e6:.0f} MB "
        f"by its own count, {(resident() - before) * 1.048576:.0f} MB resident ({(resident() - before) * 1.048576e6 / index:.2f} of vectors and links)"
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "image"
        started = time.perf_counter()
        image.save(path)
        saved = time.perf_counter()
        Image.load(path, image.spec, holds=image.holds)
        print(
            f"  saved in {saved - started:.2f} s, loaded in {time.perf_counter() - saved:.2f} s, {path.stat().st_size / 1e6:.0f} MB"
        )
        truth = truth_of(stored, queries, np.arange(len(stored)))
        chosen: dict[str, Search] = {}
        for name, made in engines(options, stored, image):
            for dial in DIALS:
                if recall(made(dial), queries, truth) >= RECALL:
                    chosen[f"{name}, {dial}"] = made(dial)
                    break
        print(f"all rows, the least dial for recall {RECALL}")
        chosen["image, as it comes"] = image_search(image)
        chosen["image, all compared"] = image_search(image, exact=True)
        report(chosen, queries, truth)
        shard = None
        if "qdrant_edge" in options.engines and importlib.util.find_spec("qdrant_edge") is not None:
            started, before = time.perf_counter(), resident()
            shard = qdrant_engine(stored, columns, tempfile.mkdtemp(dir=folder))
            print(f"qdrant-edge: built in {time.perf_counter() - started:.1f} s, {resident() - before:.0f} MB")
        for name, parts in (*PARTS.items(), ("a section", 0)):
            key = f"part{parts}" if parts else "section"
            value = 0 if parts else int(np.argmin(np.abs(np.bincount(columns["section"]) - len(stored) / 10)))
            places = np.flatnonzero(columns[key] == value)
            print(f"where {key} == {value}: {name}, {len(places):,} rows")
            filtered = {"image": image_search(image, where=Metadata(key) == value)}
            if shard is not None:
                filtered["qdrant-edge"] = qdrant_search(shard, None, (key, value))
            report(filtered, queries, truth_of(stored, queries, places))
    maintenance(image, stored)
    names = ("faiss-cpu", "usearch", "qdrant-edge-py", "numpy")
    versions = [f"{name} {importlib.metadata.version(name)}" for name in names if known(name)]
    print(f"{', '.join(versions)}, Python {platform.python_version()}, {os.cpu_count()} cores, {platform.machine()}")


def known(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


if __name__ == "__main__":
    main()
