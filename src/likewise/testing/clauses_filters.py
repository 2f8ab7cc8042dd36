# Generated from src/likewise/testing/clauses_filters_async.py by tools/async_to_sync.py; edit that file instead.
"""The contract's clauses on filters: what each condition matches, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from likewise import (
    And,
    Between,
    Collection,
    CollectionSpec,
    Column,
    Contains,
    ContainsAll,
    ContainsAny,
    EndsWith,
    Eq,
    Exists,
    Filter,
    Gt,
    Gte,
    In,
    InvalidFilter,
    IsNull,
    Like,
    Lt,
    Lte,
    Metadata,
    Ne,
    Not,
    NotIn,
    Or,
    Record,
    StartsWith,
    TextMatch,
    VectorStore,
)
from likewise.filters import parse, serialise

__all__ = ["FilterClauses"]

V = Metadata("v")
#: Values by the name of the record that holds them under "v"; "missing" has no such key.
VALUES: dict[str, Any] = {
    "null": None,
    "true": True,
    "false": False,
    "zero": 0,
    "one": 1,
    "one.0": 1.0,
    "two": 2.5,
    "big": 10**30,
    "text1": "1",
    "empty": "",
    "abc": "abc",
    "ABC": "ABC",
    "été": "L'Été à Paris",
    "percent": "50% off_now\n",
    "list": [1, "a", None, True],
    "nested": [[1], {"a": 1}],
    "nothing": [],
    "object": {"a": 1, "b": [2]},
}
PRESENT = set(VALUES)
ALL = PRESENT | {"missing"}
TEXTS = {"text1", "empty", "abc", "ABC", "été", "percent"}

#: Each condition and the records that it matches.
TRUTH: list[tuple[Filter, set[str]]] = [
    (Eq(V, 1), {"one", "one.0"}),
    (Eq(V, 1.0), {"one", "one.0"}),
    (Eq(V, True), {"true"}),
    (Eq(V, "1"), {"text1"}),
    (Eq(V, None), {"null"}),
    (Eq(V, 0), {"zero"}),
    (Eq(V, False), {"false"}),
    (Eq(V, 1e30), {"big"}),
    (Eq(V, []), {"nothing"}),
    (Eq(V, {"b": [2.0], "a": 1}), {"object"}),
    (Eq(V, {"a": 1}), set()),
    (Eq(V, [1, "a", None, True]), {"list"}),
    (Eq(V, [1, "a"]), set()),
    (Eq(Metadata("v", "a"), 1), {"object"}),
    (Eq(Metadata("v", "0"), 1), set()),
    (Ne(V, 1), PRESENT - {"one", "one.0"}),
    (Ne(Metadata("absent"), 1), set()),
    (In(V, [1, "abc", None]), {"one", "one.0", "abc", "null"}),
    (In(V, []), set()),
    (In(V, [*range(100, 150), "ABC", [], {"a": 1, "b": [2]}]), {"ABC", "nothing", "object"}),
    (NotIn(V, [1, "abc", None]), PRESENT - {"one", "one.0", "abc", "null"}),
    (NotIn(V, []), PRESENT),
    (Gt(V, 1), {"two", "big"}),
    (Gte(V, 1), {"one", "one.0", "two", "big"}),
    (Lt(V, 1), {"zero"}),
    (Lte(V, 1.0), {"zero", "one", "one.0"}),
    (Gt(V, "ABC"), {"abc", "été"}),
    (Lt(V, "a"), {"text1", "empty", "ABC", "été", "percent"}),
    (Between(V, 0.5, 2.5), {"one", "one.0", "two"}),
    (Between(V, "A", "a"), {"ABC", "été"}),
    (Between(V, 2, 1), set()),
    (Exists(V), PRESENT),
    (Exists(Metadata("v", "b")), {"object"}),
    (IsNull(V), {"null"}),
    (Contains(V, 1), {"list"}),
    (Contains(V, 1.0), {"list"}),
    (Contains(V, "a"), {"list"}),
    (Contains(V, None), {"list"}),
    (Contains(V, True), {"list"}),
    (Contains(V, False), set()),
    (Contains(V, "abc"), set()),
    (Contains(Metadata("v", "b"), 2), {"object"}),
    (ContainsAny(V, [7, "a"]), {"list"}),
    (ContainsAny(V, []), set()),
    (ContainsAll(V, [1, "a"]), {"list"}),
    (ContainsAll(V, [1, 7]), set()),
    (ContainsAll(V, []), {"list", "nested", "nothing"}),
    (StartsWith(V, "a"), {"abc"}),
    (StartsWith(V, ""), TEXTS),
    (StartsWith(V, "50%"), {"percent"}),
    (EndsWith(V, "C"), {"ABC"}),
    (EndsWith(V, "\n"), {"percent"}),
    (Like(V, "%b%"), {"abc"}),
    (Like(V, "___"), {"abc", "ABC"}),
    (Like(V, "_'%"), {"été"}),
    (Like(V, "50\\% off\\_now%"), {"percent"}),
    (Like(V, "%"), TEXTS),
    (Like(V, ""), {"empty"}),
    (TextMatch(V, "abc"), {"abc", "ABC"}),
    (TextMatch(V, "ÉTÉ paris"), {"été"}),
    (TextMatch(V, "paris absent"), set()),
    (TextMatch(V, "off 50%"), {"percent"}),
    (TextMatch(V, " "), TEXTS),
    (And(), ALL),
    (Or(), set()),
    (And(Gte(V, 1), Lt(V, 2)), {"one", "one.0"}),
    (Or(Eq(V, "abc"), Eq(V, None)), {"abc", "null"}),
    (Not(Eq(V, 1)), ALL - {"one", "one.0"}),
    (Not(Ne(V, 1)), {"one", "one.0", "missing"}),
    (Not(Exists(V)), {"missing"}),
    (Not(Gt(V, 1)), ALL - {"two", "big"}),
    (Not(Like(V, "%")), ALL - TEXTS),
    (Not(And(Not(Eq(V, 1)), Exists(V))), {"one", "one.0", "missing"}),
    (Not(Or(Exists(V), IsNull(Column("content")))), set()),
    (Eq(Column("id"), "abc"), {"abc"}),
    (Ne(Column("id"), "abc"), ALL - {"abc"}),
    (In(Column("id"), ["abc", "x"]), {"abc"}),
    (NotIn(Column("id"), ["abc"]), ALL - {"abc"}),
    (Lt(Column("id"), "A"), set()),
    (StartsWith(Column("id"), "one"), {"one", "one.0"}),
    (IsNull(Column("content")), ALL - {"abc"}),
    (Exists(Column("content")), {"abc"}),
    (Ne(Column("content"), "x"), {"abc"}),
    (NotIn(Column("content"), []), {"abc"}),
    (Not(Eq(Column("content"), "The text of abc")), ALL - {"abc"}),
    (TextMatch(Column("content"), "TEXT"), {"abc"}),
    (Metadata("v") >= 1, {"one", "one.0", "two", "big"}),
    ((V > 0) & (V < 2) | (V == "abc"), {"one", "one.0", "abc"}),
    (~(V == 1) & (V != "abc"), PRESENT - {"one", "one.0", "abc"}),
]

#: The wire form and what it matches.
WIRE: list[tuple[dict[str, Any], set[str]]] = [
    ({}, ALL),
    ({"v": 1}, {"one", "one.0"}),
    ({"v": None}, {"null"}),
    ({"v": {"$gte": 1, "$lt": 2}}, {"one", "one.0"}),
    ({"v.a": 1}, {"object"}),
    ({"v": {"a": 1, "b": [2]}}, {"object"}),
    ({"v": {"$in": [1, "abc"]}, "$id": {"$ne": "one"}}, {"one.0", "abc"}),
    ({"$or": [{"v": "abc"}, {"v": {"$is_null": True}}]}, {"abc", "null"}),
    ({"$and": [{"v": {"$exists": True}}, {"$not": {"v": {"$exists": True}}}]}, set()),
    ({"$not": {"v": {"$exists": True}}}, {"missing"}),
    ({"v": {"$exists": False}}, {"missing"}),
    ({"v": {"$not": {"$gt": 0}}, "$id": {"$starts_with": "one"}}, set()),
    ({"v": {"$contains_any": ["a"]}}, {"list"}),
    ({"v": {"$between": [0, 1]}}, {"zero", "one", "one.0"}),
    ({"$content": {"$text_match": "text"}}, {"abc"}),
]

INVALID: list[Any] = [
    {"v": {"$unknown": 1}},
    {"$unknown": 1},
    {"$or": {"v": 1}},
    {"$and": "text"},
    {"$not": [1]},
    {"v": {"$between": [1]}},
    {"v": {"$exists": 1}},
    {"v": {"$in": "abc"}},
    {"v": {"$gt": True}},
    {"v": {"$gt": None}},
    {"v": {"$like": "ends with \\"}},
    {"v": "nul \x00"},
    {"k\x00": 1},
    {"v": "\ud800"},
    {"v": float("nan")},
    {"v\\": 1},
    {5: 1},
    {"$id": 5},
    {"$id": {"$gt": 5}},
    {"$content": {"$contains": "x"}},
    {"$modality": "text"},
    "text",
    5,
    [],
    Eq(Column("absent"), "x"),
    Eq(Column("vector"), "x"),
    Eq(Column("id; drop table things"), "x"),
]


def filled(store: VectorStore) -> Collection:
    collection = store.ensure_collection(CollectionSpec("truths", dimension=2))
    records = [
        Record(name, [1, 0], {"v": value}, "The text of abc" if name == "abc" else None)
        for name, value in VALUES.items()
    ]
    collection.upsert([*records, Record("missing", [1, 0], {"w": 1})])
    return collection


class FilterClauses:
    """Clauses C30 to C36."""

    def test_each_condition_matches_what_its_definition_says(self, store: VectorStore) -> None:
        """C30: Conditions compare typed JSON values; a missing key matches nothing, and Not is two-valued."""
        collection = filled(store)
        for where, expected in TRUTH:
            found = {record.id for record in collection.scan(where, limit=100)}
            assert found == expected, where
            assert collection.count(where) == len(expected), where

    def test_filters_mean_the_same_in_every_call(self, store: VectorStore) -> None:
        """C31: A filter matches the same records in scan, count, search, search_many and delete."""
        collection = filled(store)
        for where, expected in TRUTH[:30]:
            assert {r.id for r in collection.search_by_vector([1, 0], top_k=100, where=where)} == expected, where
            (many,) = collection.search_many([[1, 0]], top_k=100, where=where)
            assert {r.id for r in many} == expected
        assert collection.delete(where=Or(V == 1, Not(Exists(V)))) == 3
        assert collection.count() == len(ALL) - 3

    def test_the_wire_form(self, store: VectorStore) -> None:
        """C32: A mapping is a filter in wire form; parse and serialise are inverse to each other."""
        collection = filled(store)
        for wire, expected in WIRE:
            assert {record.id for record in collection.scan(wire, limit=100)} == expected, wire
        for where, _ in TRUTH:
            assert parse(serialise(where)) == where

    def test_any_key_can_be_named(self, store: VectorStore) -> None:
        r"""C33: In the wire form \. is a dot in a key, \$ a leading dollar sign, and \\ a backslash; Metadata takes keys as they are."""
        collection = store.ensure_collection(CollectionSpec("keys", dimension=2))
        keys = ["a.b", "$x", "\\", "", "$id", "it's", "%s", "a b"]
        collection.upsert(Record(str(i), [1, 0], {key: i, "in": {key: i}}) for i, key in enumerate(keys))
        for i, key in enumerate(keys):
            for where in (Metadata(key) == i, Metadata("in", key) == i):
                assert [r.id for r in collection.scan(where)] == [str(i)]
                assert [r.id for r in collection.scan(serialise(where))] == [str(i)]
        assert [r.id for r in collection.scan({"a\\.b": 0})] == ["0"]
        assert [r.id for r in collection.scan({"\\$id": 4})] == ["4"]

    @pytest.mark.parametrize("where", INVALID, ids=ascii)
    def test_what_is_no_filter_is_refused(self, store: VectorStore, where: Any) -> None:
        """C34: A malformed filter, or one that names an unknown column, is an InvalidFilter in every call."""
        collection = store.ensure_collection(CollectionSpec("truths", dimension=2))
        collection.upsert(Record("a", [1, 0]))
        with pytest.raises(InvalidFilter):
            collection.scan(where)
        with pytest.raises(InvalidFilter):
            collection.count(where)
        with pytest.raises(InvalidFilter):
            collection.search_by_vector([1, 0], where=where)
        with pytest.raises(InvalidFilter):
            collection.delete(where=where)
        assert collection.count() == 1

    def test_filters_have_a_size(self, store: VectorStore) -> None:
        """C35: Filters deeper than 64 levels or of more than 5,000 conditions are refused; lists may have 100,000 values."""
        collection = filled(store)
        deep: Filter = V == 1
        wire: dict[str, Any] = {"v": 1}
        for _ in range(10_000):
            deep = Not(deep)
            wire = {"$not": wire}
        for where in (deep, wire, Or(*[Eq(V, i) for i in range(5_001)]), {"v": {"$in": list(range(100_001))}}):
            with pytest.raises(InvalidFilter):
                collection.count(where)
        wide = Or(*[Eq(V, i) for i in range(-2_000, 2_000)])
        assert collection.count(wide) == 3
        assert collection.count(In(V, list(range(100_000)))) == 3
        nested: Filter = V == 1
        for _ in range(60):
            nested = Not(nested)
        assert collection.count(nested) == 2

    def test_a_filter_has_no_truth_value(self, store: VectorStore) -> None:
        """C36: A filter in a boolean context is a TypeError, so that `and`, `or` and chained comparisons cannot go wrong unseen."""
        collection = store.ensure_collection(CollectionSpec("truths", dimension=2))
        with pytest.raises(TypeError):
            collection.count((V > 1) and (V < 2))
        with pytest.raises(TypeError):
            collection.count(1 < V < 2)  # type: ignore[arg-type]
        assert Metadata("a") == Metadata("a")
        assert Metadata("a") != Metadata("b")
        assert Eq(V, 1) != Eq(V, 2)
