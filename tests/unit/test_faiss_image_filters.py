"""Filters over an image's columns where the oracle's random ones do not come: numbers beyond float64, many conditions, columns that age."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from likewise import (
    And,
    CollectionSpec,
    Column,
    Eq,
    Exists,
    Filter,
    In,
    IsNull,
    Like,
    Metadata,
    Not,
    NotIn,
    Or,
    TextMatch,
)
from likewise.abc.feeds import Change, Commit, Gone, Position, Put, Rows
from likewise.backends.faiss import columns
from likewise.backends.faiss.image import Image

SPEC = CollectionSpec("numbers", dimension=2)


def image_of(metadata: list[str], content: list[str | None] | None = None) -> Image:
    image = Image(SPEC, holds=frozenset({"metadata", "content"}))
    texts = content or [None] * len(metadata)
    vectors = np.ones((len(metadata), 2), np.float32)
    payload: dict[Any, Any] = {
        "metadata": [each.encode() for each in metadata],
        "content": [None if each is None else each.encode() for each in texts],
    }
    image.fill(Rows([f"r{i}" for i in range(len(metadata))], {"": vectors}, {}, payload))
    image.filled(Position("0"))
    return image


def matching(image: Image, where: Filter) -> list[int]:
    found = image.search("", np.ones((1, 2), np.float32), 10_000, where=where)[0]
    return sorted(int(each[1:]) for each in image.ids(found))


N = Metadata("n")
NUMBERS = [
    "1",
    "1.0",
    "9007199254740993",  # one more than float64 tells apart
    "9007199254740992",
    "100000000000000000000",
    "0.12345678901234567890123",
    "0.12345678901234568",
    "1" * 5_000,  # more digits than Python reads
    "true",
    '"1"',
    "[1, 9007199254740993]",
    "-0.0",
]


@pytest.mark.parametrize(
    ("where", "rows"),
    [
        (N == 1, [0, 1]),
        (N == 9007199254740993, [2]),
        (N == 9007199254740992, [3]),
        (N == 1e20, [4]),
        (N == 10**20, [4]),
        (N == 0.12345678901234568, [6]),
        (N < 0.12345678901234568, [5, 11]),
        (N > 9007199254740992, [2, 4, 7]),
        (N >= 9007199254740993, [2, 4, 7]),
        (N > 1e300, [7]),
        (N > 10**400, [7]),
        (N == 0, [11]),
        (N == True, [8]),  # noqa: E712
        (N == "1", [9]),
        (In(N, [1, "1", True, 1e20]), [0, 1, 4, 8, 9]),
        (NotIn(N, [1, "1", True, 1e20, 9007199254740993]), [3, 5, 6, 7, 10, 11]),
        (N != 1, [2, 3, 4, 5, 6, 7, 8, 9, 10, 11]),
        (Eq(N, [1, 9007199254740993]), [10]),
        (Eq(N, [1.0, 9007199254740992]), []),
    ],
)
def test_numbers_are_compared_as_postgresql_compares_them(where: Filter, rows: list[int]) -> None:
    image = image_of([f'{{"n": {number}}}' for number in NUMBERS])
    assert matching(image, where) == rows


def test_metadata_that_is_no_object_has_no_keys() -> None:
    image = image_of(['["n"]', "1", "null", '"n"', '{"n": null}', '{"n": {"m": 1}}'])
    assert matching(image, Exists(N)) == [4, 5]
    assert matching(image, IsNull(N)) == [4]
    assert matching(image, Metadata("n", "m") == 1) == [5]
    assert matching(image, Not(Exists(N))) == [0, 1, 2, 3]


def test_more_conditions_than_are_kept_are_answered() -> None:
    contents: list[str | None] = [f"word{i} common" if i % 3 else None for i in range(50)]
    image = image_of([f'{{"k{i}": {i}, "all": {i}}}' for i in range(50)], contents)
    texts = Or(*[Like(Column("content"), f"word{i} %") for i in range(40)])
    assert matching(image, texts) == [i for i in range(40) if i % 3]
    assert len(texts.operands) > columns._MOST_MASKS
    paths = Or(*[Metadata(f"k{i}") == i for i in range(100)])
    assert matching(image, paths) == list(range(50))
    assert len(image._columns._encoded) <= columns._MOST_COLUMNS
    assert matching(image, And(Metadata("all") >= 10, TextMatch(Column("content"), "COMMON"))) == [
        i for i in range(10, 50) if i % 3
    ]
    assert matching(image, IsNull(Column("content"))) == list(range(0, 50, 3))


def test_answers_follow_every_change() -> None:
    image = image_of([f'{{"n": {i % 4}}}' for i in range(40)], [f"text {i % 4}" for i in range(40)])
    filters: list[Filter] = [
        N == 1,
        Not(N == 1),
        N < 2,
        Like(Column("content"), "%1"),
        Eq(Column("id"), "r3"),
        In(Column("id"), ["r1", "r99"]),
        Like(Column("id"), "r_"),
    ]
    before = [matching(image, each) for each in filters]
    assert [len(each) for each in before] == [10, 30, 20, 10, 1, 1, 10]
    changes: list[Change] = [
        Put("r1", {}, {"metadata": b'{"n": 3}'}),
        Put("r2", {}, {"content": b"text 1"}),
        Gone("r5"),
        Put("r99", {"": np.ones(2, np.float32)}, {"metadata": b'{"n": 1}', "content": None}),
        Put("r77", {}, {}, was="r3"),
    ]
    image.apply(Commit(Position("1"), changes))
    after = [matching(image, each) for each in filters]
    assert after[0] == sorted({*before[0], 99} - {1, 5})
    assert after[1] == sorted({*before[1], 1, 77} - {3})
    assert after[2] == sorted({*before[2], 99} - {1, 5})
    assert after[3] == sorted({*before[3], 2} - {5})
    assert after[4:] == [[], [1, 99], [0, 1, 2, 4, 6, 7, 8, 9]]


def test_values_that_no_row_has_any_more_are_forgotten() -> None:
    image = image_of([f'{{"n": "first {i}"}}' for i in range(10)])
    assert matching(image, N == "first 3") == [3]
    for number in range(1_200):
        image.apply(Commit(Position("1"), [Put("r3", {}, {"metadata": b'{"n": "v%d"}' % number})]))
        assert matching(image, Eq(N, f"v{number}")) == [3]
    assert matching(image, N == "first 4") == [4]
    assert len(image._columns._encoded[("n",)]._values) < 1_100


def test_a_filter_is_not_taken_for_another_that_python_calls_equal() -> None:
    image = image_of(['{"n": 1}', '{"n": true}', '{"n": "1"}'])
    assert matching(image, Eq(N, 1)) == [0]
    assert matching(image, Eq(N, True)) == [1]
    assert matching(image, Eq(N, 1.0)) == [0]
    assert matching(image, In(N, [True])) == [1]
    assert matching(image, In(N, [1])) == [0]


def test_commits_are_applied_while_a_column_is_made() -> None:
    count = 20_000
    image = image_of([f'{{"n": {i}}}' for i in range(count)], [f"text {i}" for i in range(count)])
    where = (N >= 100) & Like(Column("content"), "text%7")
    sizes: list[int] = []
    searching = threading.Thread(target=lambda: sizes.append(len(matching(image, where))))
    applied = 0
    searching.start()
    while searching.is_alive():
        image.apply(Commit(Position("1"), [Put(f"r{applied}", {}, {"metadata": b'{"n": 5}'})]))
        applied += 1
    searching.join()
    assert applied > 3
    assert matching(image, where) == [i for i in range(max(100, applied), count) if i % 10 == 7]
    assert len(matching(image, where)) <= sizes[0]
