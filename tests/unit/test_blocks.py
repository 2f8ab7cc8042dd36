"""Records and columns become blocks: the quick way and the slow one agree, and no repeated id is missed."""

from __future__ import annotations

import enum
import json
import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from likewise import CollectionSpec, InvalidArgument, Record, VectorField
from likewise.abc import blocks
from likewise.abc.blocks import Block, block_of_columns, block_of_records, join_blocks, rows_of_block
from likewise.abc.columns import Columns
from likewise.abc.validation import Prepared, prepare
from likewise.backends.postgres import _copy
from likewise.backends.postgres._copy import SeenIds
from oracle.generate import Generator

PLAIN = CollectionSpec("plain", dimension=3)
SPECS = [
    PLAIN,
    CollectionSpec("flat", dimension=3, metric="l2"),
    CollectionSpec("half", dimension=3, storage="halfvec"),
    CollectionSpec("many", dimension=3, multimodal=True),
    CollectionSpec("named", vectors={"a": VectorField(3), "b": VectorField(2, "l2")}),
]


class Word(str, enum.Enum):  # noqa: UP042 - it is the older kind that has a hash of its own
    """Texts with a hash and a form of their own."""

    A = "a"
    TEXT = "text"


class Point(NamedTuple):
    x: int
    y: int


TEXTS = ["a", "b", "", "x" * 450, "x" * 451, "\x00", "a\ud800", "é日", Word.A, np.str_("n"), b"a", 5, None]
METADATA = [
    {},
    {"n": 1, "x": 1.5, "t": "é", "l": [1, [2, None]], "b": True},
    {"n": {"m": {"k": "v"}}},
    {"n": Point(1, 2), "w": Word.A, "t": (1, 2)},
    {"deep": [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]},
    {"braces": "{{{", "nul": "\\u0000"},
    {"long": "x" * 2_000, "integer": 10**300},
    OrderedDict(a=1),
    MappingProxyType({"a": 1}),
    {Word.A: 1},
    {5: 1},
    {None: 1},
    {"n": {5: 1}},
    {"n": float("nan")},
    {"n": float("inf")},
    {"n": "\x00"},
    {"\x00": 1},
    {"n": "\ud800"},
    {"n": 10**1000},
    {"n": np.float64(1.5)},
    {"n": np.int64(1)},
    {"n": {1, 2}},
    {"n": b"x"},
    [1],
    None,
    "text",
]
VECTORS: list[Any] = [
    [1, 0.5, 0],
    (1, 2, 3),
    np.array([1, 2, 3], np.float32),
    np.array([1, 2, 3], np.float64),
    np.array([0.1, 0.2, 0.3], np.float16),
    np.array([1, 2, 3]),
    np.arange(1, 7, dtype=np.float32)[::2],
    np.array([1, 2, 3], ">f4"),
    np.zeros(3, np.float32),
    np.array([1e-30, 0, 0]),
    np.array([1e16, 0, 0]),
    np.array([1e300, 0, 0]),
    np.array([70_000, 0, 1], np.float32),
    np.array([65_510, 0, 1], np.float64),
    np.array([1e-9, 0, 0]),
    np.array([np.nan, 0, 1], np.float32),
    np.array([0, np.inf, 1], np.float64),
    np.array([1, 2], np.float32),
    np.ones((1, 3), np.float32),
    np.array(["1", "2", "3"]),
    np.array([True, False, True]),
    "abc",
    [],
    None,
]


def good_vector(generator: Generator) -> Any:
    kind = generator.random.choice([np.float32, np.float64, np.float16, list])
    vector = generator.vector(3)
    return vector if kind is list else np.array(vector, kind)


def draw(generator: Generator, spec: CollectionSpec, number: int, odd: float) -> Any:
    """A record, odd in some way now and then."""
    random = generator.random

    def perhaps(usual: Any, strange: Sequence[Any]) -> Any:
        return random.choice(strange) if random.random() < odd else usual

    if random.random() < odd / 4:
        return random.choice([None, {"id": "a"}, "a"])
    named: dict[str, Any] = {}
    if spec.vectors and "" not in spec.vectors:
        for name, field in spec.vectors.items():
            if random.random() < 0.8:
                named[name] = perhaps(np.array(generator.vector(field.dimension), np.float32), VECTORS)
    return Record(
        perhaps(f"r{number}", TEXTS),
        None if named else perhaps(good_vector(generator), VECTORS),
        perhaps({generator.random.choice("abc"): generator.value()}, METADATA),
        perhaps(random.choice([None, "text", "é"]), TEXTS),
        vectors=perhaps(named, [{"a": [1, 2, 3]}, {"": [1, 2, 3]}, {"z": [1]}]),
        modality=perhaps("text" if spec.multimodal else None, ["image", "text", "sound", Word.TEXT, 5]),
        content_id=perhaps(None, TEXTS),
    )


def one_by_one(records: Sequence[Any], spec: CollectionSpec, first: int) -> list[Prepared]:
    return [prepare(record, spec, first + i) for i, record in enumerate(records)]


def same(block: Block, rows: Sequence[Prepared]) -> None:
    assert len(block) == len(rows)
    for ours, theirs in zip(rows_of_block(block), rows, strict=True):
        assert (ours.id, ours.content, ours.modality, ours.content_id) == (
            theirs.id,
            theirs.content,
            theirs.modality,
            theirs.content_id,
        )
        assert type(ours.id) is type(theirs.id) is str
        assert ours.metadata_json == theirs.metadata_json
        assert json.loads(ours.metadata_json) == theirs.metadata
        assert ours.vectors.keys() == theirs.vectors.keys()
        for name, vector in ours.vectors.items():
            assert vector.dtype == np.float32
            assert vector.tolist() == theirs.vectors[name].tolist()


def outcome(call: Any) -> tuple[Any, ...]:
    """The result, or what an error says."""
    try:
        return ("fine", call())
    except InvalidArgument as error:
        return (type(error), str(error), getattr(error, "position", None), getattr(error, "record_id", None))


def check(records: Sequence[Any], spec: CollectionSpec, make: Any) -> bool:
    """Whether the records were accepted, by both ways."""
    wanted = outcome(lambda: one_by_one(records, spec, 7))
    found = outcome(make)
    if wanted[0] == found[0] == "fine":
        same(found[1], wanted[1])
        return True
    assert found == wanted
    return False


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_blocks_of_records_are_what_each_record_is_by_itself(spec: CollectionSpec) -> None:
    accepted = 0
    for seed in range(400):
        generator = Generator(seed)
        odd = generator.random.choice([0, 0.01, 0.05, 0.3])
        records = [draw(generator, spec, i, odd) for i in range(generator.random.choice([1, 2, 20]))]
        accepted += check(records, spec, lambda records=records: block_of_records(records, spec, 7))
    assert 50 < accepted < 390, "some are accepted, and some refused"


@pytest.mark.parametrize("vector", VECTORS, ids=lambda v: repr(v)[:40])
@pytest.mark.parametrize("spec", SPECS[:4], ids=lambda spec: spec.name)
def test_every_odd_vector_among_ordinary_ones(spec: CollectionSpec, vector: Any) -> None:
    ordinary = np.array([0.6, 0.8, 0], np.float32)
    records = [Record("a", ordinary), Record("b", vector), Record("c", ordinary)]
    check(records, spec, lambda: block_of_records(records, spec, 7))


@pytest.mark.parametrize("metadata", METADATA, ids=lambda v: ascii(v)[:40])
def test_every_odd_metadata_among_ordinary_ones(metadata: Any) -> None:
    ordinary = np.array([0.6, 0.8, 0], np.float32)
    records = [Record("a", ordinary, {"n": 1}), Record("b", ordinary, metadata), Record("c", ordinary)]
    check(records, PLAIN, lambda: block_of_records(records, PLAIN, 7))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(st.text(max_size=3), st.dictionaries(st.text(), JSON, max_size=3), st.none() | st.text())),
    st.lists(st.floats(width=32), min_size=3, max_size=3),
)
def test_any_text_and_any_json(rows: list[tuple[str, dict[str, Any], str | None]], numbers: list[float]) -> None:
    vector = np.array(numbers, np.float32)
    records = [Record(i, vector, m, c) for i, m, c in rows]
    check(records, PLAIN, lambda: block_of_records(records, PLAIN, 7))


def columns_of(records: Sequence[Record]) -> Columns:
    return Columns(
        [r.id for r in records],
        {"": [r.vector for r in records]},
        [r.metadata for r in records],
        [r.content for r in records],
    )


def test_blocks_of_columns_are_what_their_rows_are() -> None:
    for seed in range(300):
        generator = Generator(seed)
        records = [draw(generator, PLAIN, i, 0) for i in range(generator.random.choice([1, 2, 20]))]
        columns = columns_of(records)
        check(records, PLAIN, lambda columns=columns: block_of_columns(columns, PLAIN, 7))
        vectors: Any = np.array([r.vector for r in records], generator.random.choice([np.float16, np.float32, float]))
        if generator.random.random() < 0.3:
            vectors[0, 1] = generator.random.choice([math.nan, math.inf, 0])
        ids: Any = np.array(columns.ids)
        arrays = Columns(ids, {"": vectors}, columns.metadata, ids.astype(object))
        rows = [Record(r.id, v, r.metadata, r.id) for r, v in zip(records, vectors, strict=True)]
        check(rows, PLAIN, lambda arrays=arrays: block_of_columns(arrays, PLAIN, 7))


def test_columns_of_an_enumeration_are_its_texts() -> None:
    columns = Columns([Word.A, "b"], {"": [[1, 0, 0], [1, 0, 0]]})
    block = block_of_columns(columns, PLAIN, 0)
    assert list(block.ids) == ["a", "b"]


def test_the_quick_way_is_taken_for_ordinary_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(*_: object) -> Prepared:
        raise AssertionError("a record was looked at by itself")

    monkeypatch.setattr(blocks, "prepare", slow)
    vectors = np.ones((5, 3))
    ids = [f"é{i}" for i in range(5)]
    many = SPECS[3]
    assert len(block_of_columns(Columns(ids, {"": vectors}), PLAIN, 0)) == 5
    assert len(block_of_columns(Columns(np.array(ids), {"": vectors.astype("f2")}), PLAIN, 0)) == 5  # type: ignore[arg-type]
    assert len(block_of_columns(Columns(ids, {"a": vectors, "b": vectors[:, :2]}), SPECS[4], 0)) == 5
    rows = [Record(i, v, {"n": 1, "l": [1, "é"]}, "é", modality="image") for i, v in zip(ids, vectors, strict=True)]
    block = block_of_records(rows, many, 0)
    assert (block.modality, block.content_id) == (["image"] * 5, ids)


@pytest.mark.parametrize(
    "columns",
    [
        {"ids": "abc", "vectors": {}},
        {"ids": ["a"], "vectors": {"": np.ones((2, 3))}},
        {"ids": ["a", "b"], "vectors": {"x": np.ones((1, 3))}},
        {"ids": ["a"], "vectors": {}, "metadata": {"n": 1}},
        {"ids": ["a"], "vectors": {}, "content": "a"},
        {"ids": ["a"], "vectors": {}, "content": iter("a")},
        {"ids": ["a"], "vectors": {}, "modality": []},
    ],
)
def test_columns_that_are_none_are_refused(columns: Mapping[str, Any]) -> None:
    with pytest.raises(InvalidArgument, match=r"column|sequence"):
        Columns(**columns)


def test_blocks_are_joined_and_rows_taken() -> None:
    named = SPECS[4]
    records = [
        Record("a", vectors={"a": [1, 0, 0]}),
        Record("b", vectors={"a": [1, 1, 0], "b": [1, 2]}),
        Record("c", vectors={"b": [3, 4]}),
    ]
    joined = join_blocks([block_of_records([record], named, 0) for record in records])
    same(joined, one_by_one(records, named, 0))
    same(joined.take([2, 0]), one_by_one([records[2], records[0]], named, 0))


@pytest.mark.parametrize("run", [4, 50, 1 << 16])
def test_a_repeated_id_is_never_missed(monkeypatch: pytest.MonkeyPatch, run: int) -> None:
    monkeypatch.setattr(_copy, "_RUN", run)
    for seed in range(20):
        random = Generator(seed).random
        seen, known = SeenIds(), set[str]()
        perhaps_too_many = 0
        for _ in range(40):
            ids = [f"r{random.randrange(600)}" for _ in range(random.randrange(30))]
            places = seen.repeated(ids)
            assert places == sorted(set(places))
            for place, record_id in enumerate(ids):
                if record_id in known:
                    assert place in places
                elif place in places:
                    perhaps_too_many += 1
                known.add(record_id)
        assert perhaps_too_many == 0, "64 bits do not meet among so few"
