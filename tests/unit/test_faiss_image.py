"""The image of a collection on disk and in use: saved and loaded, damaged in every way, read while it is written."""

from __future__ import annotations

import os
import random
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from likewise import CollectionSpec, Column, LikewiseError, Metadata, OptionalDependencyError, VectorField
from likewise.abc.feeds import Cleared, Commit, Gone, Payload, Position, Put, Rows
from likewise.backends.faiss import image as image_module
from likewise.backends.faiss.image import DamagedImage, Drift, Image
from likewise.backends.faiss.index import Near, VectorIndex
from likewise.metrics import Metric
from likewise.records import Include

SPEC = CollectionSpec("things", dimension=4, vectors={"other": VectorField(3, "l2")})
ALL: Include = ("metadata", "content", "vector")
HOLDS: frozenset[Payload] = frozenset({"metadata", "content"})


def image_of(count: int, *, seed: int = 0, spec: CollectionSpec = SPEC, holds: frozenset[Payload] = HOLDS) -> Image:
    rng = np.random.default_rng(seed)
    image = Image(spec, holds=holds)
    vectors = {name: rng.normal(size=(count, f.dimension)).astype(np.float32) for name, f in spec.vector_fields.items()}
    present = {"other": rng.random(count) < 0.7}
    payload: dict[Payload, list[bytes | None]] = {
        "metadata": [b'{"number": %d, "name": "n\xc3\xa4me %d"}' % (i, i % 7) for i in range(count)],
        "content": [None if i % 5 == 0 else f"content {i}".encode() for i in range(count)],
    }
    image.fill(
        Rows([f"r{i}" for i in range(count)], vectors, present, {k: v for k, v in payload.items() if k in holds})
    )
    image.filled(Position("0/1"))
    return image


def put(record_id: str, numbers: list[float], **payload: bytes | None) -> Put:
    held: dict[Payload, bytes | None] = {"metadata": payload.get("metadata", b"{}"), "content": payload.get("content")}
    return Put(record_id, {"": np.array(numbers, np.float32), "other": None}, held)


def same(left: Image, right: Image) -> None:
    assert left.digest() == right.digest()
    assert left.position == right.position
    queries = np.random.default_rng(3).normal(size=(5, 4)).astype(np.float32)
    for where in (None, Metadata("name") == "näme 3"):
        pairs = zip(left.search("", queries, 7, where=where), right.search("", queries, 7, where=where), strict=True)
        for mine, theirs in pairs:
            assert left.ids(mine) == right.ids(theirs)
            assert mine.distances.tolist() == theirs.distances.tolist()
            assert left.records(mine, ALL) == right.records(theirs, ALL)


@pytest.mark.parametrize("count", [0, 1, 300])
def test_what_is_saved_is_loaded(tmp_path: Path, count: int) -> None:
    image = image_of(count)
    image.apply(Commit(Position("0/2"), [put("new", [1, 2, 3, 4]), Gone("r3"), Gone("r4"), put("r5", [0, 0, 0, 1])]))
    image.save(tmp_path / "image")
    loaded = Image.load(tmp_path / "image", SPEC, holds=HOLDS)
    same(image, loaded)
    for each in (image, loaded):
        each.apply(Commit(Position("0/3"), [put("newer", [4, 3, 2, 1]), Gone("new")]))
    same(image, loaded)
    assert [p.name for p in tmp_path.iterdir()] == ["image"]
    assert (tmp_path / "image").stat().st_mode & 0o777 == 0o600


def test_a_file_that_is_cut_off_anywhere_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "image"
    image_of(20).save(path)
    whole = path.read_bytes()
    for length in [*range(0, len(whole), 37), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(DamagedImage):
            Image.load(path, SPEC, holds=HOLDS)
    path.write_bytes(whole + b"\0")
    with pytest.raises(DamagedImage):
        Image.load(path, SPEC, holds=HOLDS)


def test_a_bit_that_is_another_anywhere_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "image"
    image_of(5).save(path)
    whole = path.read_bytes()
    draw = random.Random(1)
    for place in range(len(whole)):
        bits = [1 << draw.randrange(8)] if 200 < place < len(whole) - 200 else [1 << n for n in range(8)]
        for bit in bits:
            path.write_bytes(whole[:place] + bytes([whole[place] ^ bit]) + whole[place + 1 :])
            with pytest.raises(DamagedImage):
                Image.load(path, SPEC, holds=HOLDS)


@pytest.mark.parametrize("length", [0, 1, 24, 80, 200, 5_000])
def test_any_bytes_are_refused(tmp_path: Path, length: int) -> None:
    path = tmp_path / "image"
    for seed in range(20):
        path.write_bytes(random.Random(seed).randbytes(length))
        with pytest.raises(DamagedImage):
            Image.load(path, SPEC, holds=HOLDS)


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "image"
    image_of(20).save(path)
    others = {
        "another specification": (CollectionSpec("things", dimension=4, metric="l2", vectors=SPEC.vectors), HOLDS),
        "another specificatio": (CollectionSpec("others", dimension=4, vectors=SPEC.vectors), HOLDS),
        "another specificati": (CollectionSpec("things", dimension=4), HOLDS),
        "holds content, metadata": (SPEC, frozenset[Payload]({"metadata"})),
    }
    for reason, (spec, holds) in others.items():
        with pytest.raises(DamagedImage, match=reason):
            Image.load(path, spec, holds=holds)
    with pytest.raises(DamagedImage, match="no such file"):
        Image.load(tmp_path / "missing", SPEC, holds=HOLDS)
    with pytest.raises(DamagedImage, match="cannot be read"):
        Image.load(tmp_path, SPEC, holds=HOLDS)


def test_a_save_that_fails_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "image"
    image = image_of(20)
    image.save(path)
    before = path.read_bytes()
    image.apply(Commit(Position("0/2"), [Gone("r1")]))

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            image.save(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["image"]
    image.save(path)
    same(image, Image.load(path, SPEC, holds=HOLDS))


def test_what_is_not_filled_yet_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(LikewiseError, match="being filled"):
        Image(SPEC, holds=HOLDS).save(tmp_path / "image")


@pytest.mark.parametrize(
    "change",
    [
        Put("new", {"": np.ones(4, np.float32)}, {"metadata": b"{}", "content": None}),
        Put("new", {"": np.ones(4, np.float32), "other": None}, {"metadata": b"{}"}),
        Put("r1", {"": np.ones(5, np.float32)}),
        Put("r1", {"unknown": None}),
        Put("new", {"": np.ones(4, np.float32)}, was="nobody"),
    ],
    ids=["no vector", "no content", "another dimension", "no such vector", "nobody before"],
)
def test_a_change_of_what_is_not_known_is_drift_and_nothing_is_done(change: Put) -> None:
    image = image_of(10)
    before = image.digest()
    with pytest.raises(Drift):
        image.apply(Commit(Position("0/2"), [Gone("r2"), put("other", [1, 0, 0, 0]), change]))
    assert (image.digest(), image.position) == (before, "0/1")


def test_a_commit_may_be_told_again() -> None:
    image = image_of(10)
    renamed = Put("s1", {}, {}, was="r1")
    commits = [
        Commit(Position("0/2"), [renamed, Gone("r2"), put("new", [1, 0, 0, 0])]),
        Commit(Position("0/3"), [put("r1", [2, 0, 0, 0]), Put("new", {}, {"content": b"changed"})]),
    ]
    image.apply(commits[0])
    once = image.digest()
    image.apply(commits[0])
    assert image.digest() == once
    for commit in (commits[1], commits[1]):
        image.apply(commit)
    assert image.digest(["new"]).keys() == {"new"}
    image.apply(Commit(Position("0/4")))
    assert image.position == "0/4"
    image.apply(Commit(Position("0/5"), [Cleared(), put("only", [1, 1, 1, 1])]))
    assert list(image.digest()) == ["only"]
    assert len(image) == 1


def test_what_was_found_stays_what_it_was() -> None:
    image = image_of(50)
    query = np.ones((1, 4), np.float32)
    found = image.search("", query, 5)[0]
    ids, records = image.ids(found), image.records(found, ALL)
    for each in ids:
        image.apply(Commit(Position("0/2"), [Put(each, {"": np.zeros(4, np.float32)}, {"metadata": b'{"a": 1}'})]))
    image.apply(Commit(Position("0/3"), [Gone(ids[0]), put("next", [9, 9, 9, 9], content=b"next")]))
    assert image.ids(found) == ids
    assert image.records(found, ALL) == records
    image.apply(Commit(Position("0/4"), [Cleared()]))
    assert image.records(found, ALL) == records


def test_it_says_what_it_can_answer() -> None:
    image = image_of(3, holds=frozenset({"metadata"}))
    assert image.answers(None)
    assert image.answers((Metadata("a") == 1) & ~(Metadata("b") > 2))
    assert image.answers(Column("id") == "r1")
    assert not image.answers((Metadata("a") == 1) | ~(Column("content") == "x"))
    assert image.answers_include(("metadata", "vector"))
    assert not image.answers_include(("content",))
    with pytest.raises(LikewiseError, match="holds"):
        image.records(image.search("", np.ones((1, 4), np.float32), 2)[0], ("content",))


@pytest.mark.parametrize("metric", list(Metric))
def test_vectors_come_back_bit_for_bit(metric: Metric, tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    vectors = (rng.normal(size=(400, 5)) * 10.0 ** rng.integers(-30, 15, size=(400, 1))).astype(np.float32)
    vectors[::3] /= np.linalg.norm(vectors[::3].astype(np.float64), axis=1, keepdims=True)
    vectors[1::7, 2] = -0.0
    vectors[2::7, 3] = 1e-42
    spec = CollectionSpec("v", dimension=5, metric=metric)
    image = Image(spec, holds=frozenset())
    image.fill(Rows([f"{i}" for i in range(200)], {"": vectors[:200]}))
    image.filled(Position("1"))
    image.apply(Commit(Position("2"), [Put(f"{i}", {"": vectors[i]}) for i in range(200, 400)]))
    image.save(tmp_path / "image")
    for each in (image, Image.load(tmp_path / "image", spec, holds=frozenset())):
        found = each.search("", vectors[:1], 400)[0]
        assert len(found) == 400
        for record in each.records(found, ("vector",)):
            assert np.asarray(record.vector).tobytes() == vectors[int(record.id)].tobytes()


def test_a_vector_of_zeros_is_near_to_nothing_and_kept(tmp_path: Path) -> None:
    image = image_of(10)
    image.apply(Commit(Position("0/2"), [put("zero", [0, 0, 0, 0]), put("r1", [0, 0, 0, 0])]))
    other = Put("zero", {"other": np.ones(3, np.float32)})
    image.apply(Commit(Position("0/3"), [other, Put("r2", {"other": np.ones(3, np.float32)})]))
    image.save(tmp_path / "image")
    for each in (image, Image.load(tmp_path / "image", SPEC, holds=HOLDS)):
        found = each.search("", np.ones((1, 4), np.float32), 20)[0]
        assert len(found) == found.matching == 9
        near = each.records(each.search("other", np.ones((1, 3), np.float32), 2)[0], ALL)
        assert [(r.id, bool(np.asarray(r.vector).any())) for r in near] == [("r2", True), ("zero", False)]
        assert each.digest(["zero"]) == image.digest(["zero"])
    image.apply(Commit(Position("0/4"), [put("zero", [1, 0, 0, 0]), Gone("r1")]))
    assert "zero" in image.ids(image.search("", np.ones((1, 4), np.float32), 20)[0])


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    before = dict(os.environ)
    with pytest.raises(OptionalDependencyError, match=r"faiss-cpu is not installed.*likewise\[faiss\]"):
        Image(SPEC, holds=HOLDS)
    assert dict(os.environ) == before


def test_a_search_of_many_queries_does_not_keep_commits_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who writes waits for who reads, and whoever else reads waits for who writes: it must not be for all of the queries."""
    image = image_of(50)
    searching, search = threading.Event(), VectorIndex.search

    def slowly(self: VectorIndex, *args: Any, **options: Any) -> Near:
        searching.set()
        until = time.monotonic() + 20
        while not applied.is_set() and not image._lock._writers_waiting:
            assert time.monotonic() < until
            time.sleep(0.001)
        return search(self, *args, **options)

    applied = threading.Event()

    def write() -> None:
        assert searching.wait(20)
        image.apply(Commit(Position("0/2"), [put("new", [1, 2, 3, 4])]))
        applied.set()

    monkeypatch.setattr(image_module, "_AT_A_TIME", 0.0)
    monkeypatch.setattr(VectorIndex, "search", slowly)
    writer = threading.Thread(target=write)
    writer.start()
    where = Column("id") == "new"
    first, second, third = image.search("", np.array([[1, 2, 3, 4]] * 3, np.float32), 1, where=where)
    writer.join()
    assert (image.ids(first), image.ids(second), image.ids(third)) == ([], ["new"], ["new"])
