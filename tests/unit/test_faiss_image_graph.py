"""Images of many vectors: what is found by the graph, through merges, deletions and renewals; filters; threads that search meanwhile."""

from __future__ import annotations

import gc
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from likewise import CollectionSpec, Filter, Metadata
from likewise.abc.feeds import Change, Commit, Gone, Position, Put, Rows
from likewise.backends.faiss import _renewal, file, index
from likewise.backends.faiss import image as image_module
from likewise.backends.faiss._locks import ReadersWriter
from likewise.backends.faiss.image import Image
from likewise.schema import MetricName

DIMENSION = 32


def clustered(count: int, seed: int) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(0).normal(size=(100, DIMENSION))
    return (centres[rng.integers(100, size=count)] + 0.7 * rng.normal(size=(count, DIMENSION))).astype(np.float32)


class World:
    """An image and what should be in it, to compare with."""

    def __init__(self, count: int, metric: MetricName = "cosine") -> None:
        self.metric = metric
        self.spec = CollectionSpec("big", dimension=DIMENSION, metric=metric)
        self.image = Image(self.spec, holds=frozenset({"metadata"}))
        self.vectors: dict[str, NDArray[np.float32]] = {}
        self.parts: dict[str, int] = {}
        self.rng = np.random.default_rng(9)
        vectors = clustered(count, 1)
        for start in range(0, count, 5_000):
            part = vectors[start : start + 5_000]
            ids = [f"r{start + i}" for i in range(len(part))]
            self.image.fill(
                Rows(ids, {"": part}, {}, {"metadata": [self.note(i, v) for i, v in zip(ids, part, strict=True)]})
            )
        self.image.filled(Position("0"))
        self.queries = clustered(50, 2)

    def note(self, record_id: str, vector: NDArray[np.float32]) -> bytes:
        """Keep a row; its metadata."""
        self.vectors[record_id] = vector
        self.parts[record_id] = int(self.rng.integers(100))
        return b'{"part": %d, "side": %s}' % (self.parts[record_id], b"true" if vector[0] > 1 else b"false")

    def change(self, puts: int, deletes: int) -> None:
        ids = list(self.vectors)
        changes: list[Change] = []
        for place in self.rng.choice(len(ids), deletes, replace=False).tolist():
            del self.vectors[ids[place]], self.parts[ids[place]]
            changes.append(Gone(ids[place]))
        for number, vector in zip(
            self.rng.integers(30_000, size=puts).tolist(),
            clustered(puts, int(self.rng.integers(1_000_000))),
            strict=True,
        ):
            changes.append(Put(f"r{number}", {"": vector}, {"metadata": self.note(f"r{number}", vector)}))
        for start in range(0, len(changes), 500):
            self.image.apply(Commit(Position("1"), changes[start : start + 500]))

    def recall(
        self,
        *,
        where: Filter | None = None,
        keep: NDArray[np.bool_] | None = None,
        top_k: int = 10,
        exact: bool = False,
    ) -> float:
        ids = np.array(list(self.vectors))
        vectors = np.array(list(self.vectors.values())).astype(np.float64)
        if keep is not None:
            ids, vectors = ids[keep], vectors[keep]
        match self.metric:
            case "l2":
                near = (vectors**2).sum(axis=1) - 2.0 * self.queries @ vectors.T
            case "cosine":
                near = -(self.queries @ (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).T)
            case _:
                near = -(self.queries @ vectors.T)
        hits = total = 0
        for found, distances in zip(
            self.image.search("", self.queries, top_k, where=where, exact=exact), near, strict=True
        ):
            wanted = set(ids[np.argsort(distances)[:top_k]].tolist())
            assert len(found) == min(top_k, len(ids))
            assert found.matching == len(ids)
            assert (np.diff(found.distances) >= 0).all()
            hits += len(wanted & set(self.image.ids(found)))
            total += len(wanted)
        return hits / total

    def masks(self) -> dict[str, tuple[Filter, NDArray[np.bool_]]]:
        parts = np.array(list(self.parts.values()))
        side = np.array([vector[0] > 1 for vector in self.vectors.values()])
        return {
            "50 %": (Metadata("part") < 50, parts < 50),
            "20 %": (Metadata("part") < 20, parts < 20),
            "10 %": (Metadata("part") < 10, parts < 10),
            "1 %": (Metadata("part") == 3, parts == 3),
            "a side": (Metadata("side") == True, side),  # noqa: E712
            "part of a side": ((Metadata("side") == True) & (Metadata("part") == 7), side & (parts == 7)),  # noqa: E712
        }

    def settle(self) -> int:
        steps = 0
        while self.image.maintain():
            steps += 1
        return steps

    @property
    def index(self) -> index.VectorIndex:
        return self.image._indexes[""]


@pytest.mark.slow
@pytest.mark.parametrize(("count", "metric"), [(20_000, "cosine"), (7_000, "l2"), (7_000, "inner_product")])
def test_the_graph_finds_what_there_is_through_changes(count: int, metric: MetricName, tmp_path: Path) -> None:
    world = World(count, metric)
    assert world.index.graph is not None
    assert not world.image.search("", world.queries[:1], 10)[0].exact
    assert world.recall() >= 0.95
    world.change(3_000, 1_500)
    gc.collect()
    assert world.index.merging
    assert world.recall() >= 0.95
    assert world.settle() > 5
    assert world.index.slots.count - world.index.base <= index.TAIL // 2
    assert world.recall() >= 0.95
    for name, (where, keep) in world.masks().items():
        assert world.recall(where=where, keep=keep) >= 0.95, name
    world.image.save(tmp_path / "image")
    renewed = False
    while not renewed:
        dead = world.index.dead_main
        world.change(1_000, 1_500)
        world.settle()
        renewed = world.index.dead_main < dead
    assert world.index.dead_main <= world.index.base // 4
    assert len(world.index) == len(world.vectors) == len(world.image)
    assert world.recall() >= 0.95
    for name, (where, keep) in world.masks().items():
        assert world.recall(where=where, keep=keep) >= 0.95, name
    world.image = Image.load(tmp_path / "image", world.spec, holds=world.image.holds)
    assert world.index.graph is not None
    assert len(world.image.search("", world.queries, 10)) == len(world.queries)


def test_what_is_remembered_of_filters_is_bounded() -> None:
    """Sixty filters, each of which half of the rows match, leave what a few of them take."""
    world = World(20_000)
    for part in range(20, 80):
        world.image.search("", world.queries[:1], 10, where=Metadata("part") < part)
        world.image.search("", world.queries[:1], 10, where=Metadata("part") == part)
    assert sum(each.memory for _, each in world.index._selections.values()) <= 1_200_000
    assert sum(slots.nbytes for _, slots in world.image._columns._answers.values()) <= 1_200_000
    assert world.image.memory["columns"] <= 1_500_000


def test_exact_and_ef_search_are_obeyed() -> None:
    world = World(8_000)
    exact = world.image.search("", world.queries, 10, exact=True)
    assert all(found.exact for found in exact)
    wanted = [world.image.ids(found) for found in exact]

    def hits(ef_search: int) -> int:
        found = world.image.search("", world.queries, 10, ef_search=ef_search)
        return sum(len(set(world.image.ids(f)) & set(w)) for f, w in zip(found, wanted, strict=True))

    assert hits(10) < hits(400)
    assert hits(400) >= 495


def test_a_filter_that_goes_with_the_vectors_leaves_nobody_without_neighbours() -> None:
    """The rows of a section are all of a query's neighbours, some, or none; each query finds what there is."""
    vectors, queries = clustered(20_000, 1), clustered(100, 2)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    sections = np.argmax(vectors @ clustered(4, 3).T, axis=1)
    image = Image(CollectionSpec("big", dimension=DIMENSION), holds=frozenset({"metadata"}))
    ids = [f"r{i}" for i in range(len(vectors))]
    image.fill(Rows(ids, {"": vectors}, {}, {"metadata": [b'{"section": %d}' % section for section in sections]}))
    image.filled(Position("0"))
    along_the_graph = 0
    for section in range(4):
        rows = np.flatnonzero(sections == section)
        assert 2_000 < len(rows) < 10_000
        near = rows[np.argsort(-(queries @ vectors[rows].T), axis=1)[:, :10]]
        hits = []
        for found, wanted in zip(
            image.search("", queries, 10, where=Metadata("section") == section), near, strict=True
        ):
            along_the_graph += not found.exact
            hits.append(len({int(each[1:]) for each in image.ids(found)} & set(wanted.tolist())))
        assert min(hits) >= 5
        assert sum(hits) >= 960
    assert 50 <= along_the_graph <= 350, "and where a query has none of them near it, all of them are compared"


@pytest.mark.parametrize("metric", ["cosine", "l2", "inner_product"])
def test_comparing_all_misses_nothing(metric: MetricName) -> None:
    """Whatever part of the rows is dead or left out by a filter."""
    world = World(12_000, metric)
    world.change(500, 1_500)
    assert world.recall(exact=True) == 1.0
    parts = np.array(list(world.parts.values()))
    for most in (90, 50, 3):
        assert world.recall(where=Metadata("part") < most, keep=parts < most, exact=True) == 1.0


@pytest.mark.parametrize("metric", ["l2", "inner_product"])
@pytest.mark.parametrize("count", [40, 12_000])
def test_what_is_too_far_for_float32_is_found(metric: MetricName, count: int) -> None:
    """Only SQL can have stored such vectors; their squares are more than float32 holds."""
    vectors = np.random.default_rng(4).normal(size=(count, 4)).astype(np.float32)
    vectors[3:33] *= np.float32(1e20)
    image = Image(CollectionSpec("far", dimension=4, metric=metric), holds=frozenset())
    image.fill(Rows([f"r{i}" for i in range(count)], {"": vectors}, {}, {}))
    image.filled(Position("0"))
    query = vectors[3]
    wide = vectors.astype(np.float64)
    right = np.linalg.norm(wide - query, axis=1) if metric == "l2" else -(wide @ query.astype(np.float64))
    for top_k in (1, 10):
        (found,) = image.search("", query[None], top_k, exact=True)
        assert image.ids(found) == [f"r{i}" for i in np.argsort(right, kind="stable")[:top_k]]


def test_more_than_are_met_are_found_all_the_same() -> None:
    world = World(6_000)
    assert len(world.image.search("", world.queries[:1], 5_990)[0]) == 5_990
    assert len(world.image.search("", world.queries[:1], 7_000)[0]) == 6_000
    gone: list[Change] = [Gone(f"r{i}") for i in range(5_960)]
    world.image.apply(Commit(Position("1"), gone))
    assert len(world.image.search("", world.queries[:1], 100)[0]) == 40


def test_a_collection_that_grows_gets_a_graph_and_one_that_shrinks_loses_it() -> None:
    world = World(1_000)
    assert world.index.graph is None
    world.change(7_500, 0)
    assert world.index.graph is None
    world.settle()
    assert world.index.graph is not None
    assert world.recall() >= 0.95
    world.change(0, len(world.vectors) - 100)
    world.settle()
    assert world.index.graph is None
    assert world.recall() == 1.0
    assert world.index.slots.count == 100


def test_changes_during_a_renewal_are_in_the_new_index() -> None:
    world = World(9_000)
    world.change(0, 3_000)
    old = world.index
    assert world.image.maintain()
    assert world.image._renewals
    found = world.image.search("", world.queries[:1], 10)[0]
    records = world.image.records(found, ("vector",))
    while world.image._renewals:
        world.change(20, 10)
        world.image.maintain()
    assert world.index is not old
    assert world.index.slots.count < old.slots.count - 2_000
    assert len(world.index) == len(world.vectors)
    assert world.recall() >= 0.95
    assert world.image.records(found, ("vector",)) == records
    digests = world.image.digest()
    assert digests.keys() == world.vectors.keys()


def test_nothing_is_merged_while_a_file_is_written(tmp_path: Path) -> None:
    world = World(6_000)
    world.change(3_000, 0)
    assert world.index.merging
    base = world.index.base
    started, going = threading.Event(), threading.Event()
    real = file.save_image

    def slow(*arguments: object) -> None:
        started.set()
        assert going.wait(10)
        real(*arguments)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("likewise.backends.faiss.image.save_image", slow)
        saving = threading.Thread(target=world.image.save, args=(tmp_path / "image",))
        saving.start()
        assert started.wait(10)
        digest, rows = world.image.digest(), len(world.image)
        world.change(50, 200)
        for _ in range(5):
            world.image.maintain()
        assert world.index.base == base
        going.set()
        saving.join()
    loaded = Image.load(tmp_path / "image", world.spec, holds=world.image.holds)
    assert len(loaded) == rows
    assert loaded.digest() == digest
    world.settle()
    assert world.index.base > base


@pytest.mark.parametrize("count", [400, 6_000])
def test_a_search_sees_whole_commits(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # Pairs of rows move together from one place to the other, and back: a search near a place finds both or none.
    monkeypatch.setattr(index, "TAIL", 64)
    monkeypatch.setattr(_renewal, "_DEAD", 50)
    monkeypatch.setattr(image_module, "_AT_A_TIME", 60.0)  # both queries are of one moment, however slow the machine
    spec = CollectionSpec("pairs", dimension=DIMENSION, metric="l2")
    image = Image(spec, holds=frozenset({"metadata"}))
    base = clustered(count, 3)
    image.fill(Rows([f"r{i}" for i in range(count)], {"": base}, {}, {"metadata": [b'{"at": "rest"}'] * count}))
    image.filled(Position("0"))
    places = [np.full(DIMENSION, 50, np.float32), np.full(DIMENSION, -50, np.float32)]
    problems: list[str] = []
    stop = threading.Event()
    searches = [0] * 3

    def search(number: int) -> None:
        while not stop.is_set():
            where = None if number == 0 else Metadata("at") == "here"
            here = image.search("", np.stack(places), 2, where=where)
            counts = [int((found.distances < 100).sum()) for found in here]
            if sorted(counts) not in ([0, 2], [0, 0]):
                problems.append(f"{counts} with {where}")
            records = image.records(here[0], ("metadata", "vector"))
            if where is not None and any(record.metadata["at"] != "here" for record in records):
                problems.append("a record that does not match")
            searches[number] += 1

    threads = [threading.Thread(target=search, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    until = time.monotonic() + 2.0
    moves = 0
    while time.monotonic() < until:
        moves += 1
        at = places[moves % 2]
        pair: list[Change] = [
            Put(name, {"": at + np.float32(moves % 7) / 100}, {"metadata": b'{"at": "here"}'}) for name in ("a", "b")
        ]
        image.apply(Commit(Position(str(moves)), [Gone("a"), Gone("b")] if moves % 5 == 0 else pair))
        image.maintain()
    stop.set()
    for thread in threads:
        thread.join()
    assert not problems, problems[:5]
    assert moves > 50
    assert min(searches) > 20


def test_a_writer_waits_for_readers_and_neither_starves() -> None:
    lock = ReadersWriter()
    log: list[str] = []
    inside = threading.Event()
    leave = threading.Event()

    def read(name: str) -> None:
        with lock.reading:
            log.append(f"{name} reads")
            if name == "first":
                inside.set()
                assert leave.wait(10)

    def write() -> None:
        with lock.writing:
            log.append("writes")

    first = threading.Thread(target=read, args=("first",))
    first.start()
    assert inside.wait(10)
    writer = threading.Thread(target=write)
    writer.start()
    while not lock._writers_waiting:
        time.sleep(0.001)
    second = threading.Thread(target=read, args=("second",))
    second.start()
    while not lock._readers_waiting:
        time.sleep(0.001)
    assert log == ["first reads"]
    leave.set()
    for thread in (first, writer, second):
        thread.join()
    assert log == ["first reads", "writes", "second reads"]
    stop = threading.Event()
    counts = [0, 0]

    def keep_writing() -> None:
        while not stop.is_set():
            with lock.writing:
                counts[0] += 1

    writers = [threading.Thread(target=keep_writing) for _ in range(2)]
    for thread in writers:
        thread.start()
    for _ in range(50):
        with lock.reading:
            counts[1] += 1
    stop.set()
    for thread in writers:
        thread.join()
    assert counts[0] > 10
