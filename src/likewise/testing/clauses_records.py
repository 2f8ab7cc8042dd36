# Generated from src/likewise/testing/clauses_records_async.py by tools/async_to_sync.py; edit that file instead.
"""The contract's clauses on records: what can be stored, and how it is written, read and deleted."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from likewise import (
    CollectionSpec,
    DimensionMismatch,
    InvalidArgument,
    InvalidRecord,
    Metadata,
    Record,
    RecordExists,
    RecordNotFound,
    VectorField,
    VectorStore,
    deadline,
)
from likewise.errors import BackendTimeout
from likewise.records import Include

__all__ = ["RecordClauses"]

SPEC = CollectionSpec("things", dimension=3)
EVERYTHING: Include = ("vector", "metadata", "content")
HOSTILE = [
    "it's",
    'q"',
    "%s",
    "%(p0)s",
    "; drop table things; --",
    "\\",
    "$1",
    "{}",
    "é日本\U0001f600",
    " ",
    "\t\n",
    "null",
    "a" * 450,
]


def deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


class RecordClauses:
    """Clauses C10 to C29."""

    def test_what_is_stored_comes_back(self, store: VectorStore) -> None:
        """C10: A record comes back with its id, metadata and content, and with its vector (float32, read-only) on request."""
        things = store.ensure_collection(SPEC)
        things.upsert(Record("a", [0.5, -1, 2], {"lang": "en", "tags": ["x", None], "n": {"m": 1.5}}, "text"))
        plain = things.get("a")
        assert plain == Record("a", None, {"lang": "en", "tags": ["x", None], "n": {"m": 1.5}}, "text")
        full = things.get("a", include=EVERYTHING)
        assert isinstance(full.vector, np.ndarray)
        assert full.vector.dtype == np.float32
        assert not full.vector.flags.writeable
        assert full.vector.tolist() == [0.5, -1, 2]
        bare = things.get("a", include=())
        assert (bare.metadata, bare.content, bare.vector) == ({}, None, None)

    @pytest.mark.parametrize("text", HOSTILE, ids=ascii)
    def test_any_text_is_stored_as_it_is(self, store: VectorStore, text: str) -> None:
        """C11: Ids (1 to 450 characters), keys, values and content hold any text but NUL and lone surrogates."""
        things = store.ensure_collection(SPEC)
        things.insert(Record(text, [1, 0, 0], {text: text, "in": {text: [text]}}, text))
        assert things.get(text) == Record(text, None, {text: text, "in": {text: [text]}}, text)
        assert [r.id for r in things.scan(Metadata(text) == text)] == [text]
        assert [r.id for r in things.scan({"$id": text})] == [text]
        assert things.search_by_vector([1, 0, 0], where=Metadata("in", text) == [text])[0].id == text
        assert things.delete(text) == 1

    def test_long_content_is_stored(self, store: VectorStore) -> None:
        """C12: Content and metadata values of a megabyte are stored whole."""
        things = store.ensure_collection(SPEC)
        text = "long é " * 150_000
        things.upsert(Record("a", [1, 0, 0], {"text": text}, text))
        assert things.get("a") == Record("a", None, {"text": text}, text)

    @pytest.mark.parametrize(
        "record_id", ["", "a" * 451, "nul\x00", "\ud800", 5, None, b"bytes"], ids=lambda value: ascii(value)[:20]
    )
    def test_an_id_that_cannot_be_stored_is_refused(self, store: VectorStore, record_id: Any) -> None:
        """C13: An empty id, one of more than 450 characters, with NUL or a lone surrogate, or no text, is an InvalidRecord."""
        things = store.ensure_collection(SPEC)
        with pytest.raises(InvalidRecord) as caught:
            things.upsert([Record("fine", [1, 0, 0]), Record(record_id, [1, 0, 0])])
        assert caught.value.position == 1
        assert things.count() == 0

    @pytest.mark.parametrize(
        "metadata",
        [
            {"x": float("nan")},
            {"x": float("inf")},
            {"x": "\x00"},
            {"\x00": 1},
            {"x": "\ud800"},
            {5: 1},
            {"x": datetime.date(2026, 1, 1)},
            {"x": b"bytes"},
            {"x": {1, 2}},
            {"x": deep(10_000)},
            {"x": 10**1000},
            [1, 2],
            "text",
            None,
        ],
        ids=lambda value: ascii(type(value))[:20],
    )
    def test_metadata_is_json(self, store: VectorStore, metadata: Any) -> None:
        """C14: Metadata that JSON cannot hold, is nested deeper than 64 levels or has integers of over 3,300 bits is refused."""
        things = store.ensure_collection(SPEC)
        with pytest.raises(InvalidRecord, match="'bad'") as caught:
            things.upsert([Record("fine", [1, 0, 0]), Record("bad", [1, 0, 0], metadata)])
        assert (caught.value.record_id, caught.value.position) == ("bad", 1)
        assert things.count() == 0

    def test_numbers_keep_their_value(self, store: VectorStore) -> None:
        """C15: Metadata numbers keep their value as JSON numbers: 1 and 1.0 are one value, and so are 1e20 and 10**20."""
        things = store.ensure_collection(SPEC)
        numbers = [0, -1, 1.5, 1e20, 10**300, 9_007_199_254_740_993, 5e-324, 1.7976931348623157e308, -0.0, 0.1]
        things.upsert(Record("a", [1, 0, 0], {"numbers": numbers, "tuple": (1, 2)}))
        assert things.get("a") == Record("a", None, {"numbers": numbers, "tuple": [1, 2]})

    @pytest.mark.parametrize(
        "vector",
        [
            [float("nan"), 0, 1],
            [float("inf"), 0, 1],
            [1e39, 0, 1],
            [1e20, 0, 1],
            [0, 0, 0],
            [1e-30, 0, 0],
            ["1", "2", "3"],
            [True, False, True],
            [[1, 2, 3]],
            [1, None, 2],
            "abc",
            b"abc",
            5,
            None,
            {},
        ],
        ids=ascii,
    )
    def test_a_vector_is_finite_numbers(self, store: VectorStore, vector: Any) -> None:
        """C16: A vector that is no list of finite numbers up to 1e15, or under cosine a zero vector, is an InvalidRecord."""
        things = store.ensure_collection(SPEC)
        with pytest.raises(InvalidRecord, match="'bad'") as caught:
            things.upsert([Record("fine", [1, 0, 0]), Record("bad", vector)])
        assert caught.value.position == 1
        assert things.count() == 0

    @pytest.mark.parametrize("vector", [[1, 2], [1, 2, 3, 4], []])
    def test_the_dimension_is_checked(self, store: VectorStore, vector: list[float]) -> None:
        """C17: A vector of another dimension is a DimensionMismatch that says both, on writing and on searching."""
        things = store.ensure_collection(SPEC)
        with pytest.raises(DimensionMismatch) as caught:
            things.upsert([Record("fine", [1, 0, 0]), Record("bad", vector)])
        assert (caught.value.expected, caught.value.actual, caught.value.record_id) == (3, len(vector), "bad")
        assert things.count() == 0
        with pytest.raises(DimensionMismatch):
            things.search_by_vector(vector)

    def test_vectors_come_as_lists_tuples_or_arrays(self, store: VectorStore) -> None:
        """C18: Vectors may be lists, tuples or one-dimensional numpy arrays of any numeric type; a zero vector is fine under l2."""
        things = store.ensure_collection(CollectionSpec("flat", dimension=3, metric="l2"))
        kinds: list[Any] = [
            [1, 2, 3],
            (1, 2, 3),
            np.array([1, 2, 3]),
            np.array([1, 2, 3], np.float16),
            np.arange(1, 6)[:3],
        ]
        assert things.upsert(Record(str(i), v) for i, v in enumerate(kinds)) == 5
        things.upsert(Record("zero", [0, 0, 0]))
        found = things.search_by_vector([1, 2, 3], top_k=6)
        assert [r.distance for r in found][:5] == [0.0] * 5
        assert [r.id for r in found] == ["0", "1", "2", "3", "4", "zero"]

    def test_insert_refuses_known_ids(self, store: VectorStore) -> None:
        """C19: insert raises RecordExists, naming ids that are known or given twice, and stores nothing then."""
        things = store.ensure_collection(SPEC)
        assert things.insert([Record("a", [1, 0, 0]), Record("b", [1, 0, 0])]) == 2
        with pytest.raises(RecordExists) as caught:
            things.insert([Record("c", [1, 0, 0]), Record("b", [1, 0, 0]), Record("a", [1, 0, 0])])
        assert sorted(caught.value.record_ids) == ["a", "b"]
        with pytest.raises(RecordExists) as caught:
            things.insert([Record("c", [1, 0, 0]), Record("c", [1, 0, 0]), Record("a", [1, 0, 0])])
        assert sorted(caught.value.record_ids) == ["a", "c"]
        assert things.count() == 2

    def test_upsert_replaces_all_of_a_record(self, store: VectorStore) -> None:
        """C20: upsert replaces every part of a known record; of one id given several times the last one stays; ids are counted."""
        things = store.ensure_collection(SPEC)
        things.upsert(Record("a", [1, 0, 0], {"old": 1}, "old"))
        batch = [Record("b", [1, 0, 0]), Record("a", [0, 1, 0], {"n": 1}), Record("a", [0, 0, 1], {"n": 2})]
        assert things.upsert(batch) == 2
        assert things.get("a", include=EVERYTHING) == Record("a", [0, 0, 1], {"n": 2}, None)

    def test_records_come_from_any_iterable(self, store: VectorStore) -> None:
        """C21: Writing takes one record or any iterable of any length; what is no record is refused with its place."""
        things = store.ensure_collection(SPEC)

        def generate(count: int) -> Iterator[Record]:
            for i in range(count):
                yield Record(f"r{i % 2000}", [1, 0, i], {"n": i})

        assert things.upsert(Record("one", [1, 0, 0])) == 1
        assert things.upsert([]) == things.insert(iter(())) == 0
        assert things.upsert(generate(2600)) == 2000
        assert things.get("r5").metadata == {"n": 2005}
        assert things.get("r700").metadata == {"n": 700}
        wrong: Any
        for wrong in ("text", {"id": "a"}, 5, None):
            with pytest.raises(InvalidArgument):
                things.upsert(wrong)
        wrong = [Record("x", [1, 0, 0]), {"id": "a"}]
        with pytest.raises(InvalidRecord) as caught:
            things.upsert(wrong)
        assert caught.value.position == 1

    @pytest.mark.parametrize("replace", [True, False])
    def test_a_write_is_all_or_nothing(self, store: VectorStore, replace: bool) -> None:
        """C22: A write of any length stores everything or nothing; an error names the bad record and its place."""
        things = store.ensure_collection(SPEC)
        things.upsert(Record("r7", [1, 0, 0], {"old": True}))
        records = [Record(f"r{i}", [1, 0, i]) for i in range(1200)]
        records[1100] = Record("r1100", [1, 0, float("nan")])
        write = things.upsert if replace else things.insert
        with pytest.raises(InvalidRecord, match="r1100") as caught:
            write(records)
        assert caught.value.position == 1100
        records[1100] = Record("r1100", [1, 0, 5])
        if not replace:
            with pytest.raises(RecordExists) as known:
                write(records)
            assert known.value.record_ids == ("r7",)
        assert things.count() == 1
        assert things.get("r7").metadata == {"old": True}

    def test_an_iterable_that_fails_leaves_nothing(self, store: VectorStore) -> None:
        """C23: An error of the caller's own iterable comes out as it is, and nothing is stored."""
        things = store.ensure_collection(SPEC)

        def fails() -> Iterator[Record]:
            for i in range(1300):
                yield Record(f"r{i}", [1, 0, 0])
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            things.upsert(fails())
        assert things.count() == 0

    def test_get_raises_and_get_many_leaves_out(self, store: VectorStore) -> None:
        """C24: get raises RecordNotFound; get_many returns known records, each once, in the order asked."""
        things = store.ensure_collection(SPEC)
        things.upsert(Record(i, [1, 0, 0]) for i in "abc")
        with pytest.raises(RecordNotFound) as caught:
            things.get("x")
        assert (caught.value.record_id, caught.value.collection) == ("x", "things")
        assert [r.id for r in things.get_many(["c", "x", "a", "c"])] == ["c", "a"]
        assert things.get_many([]) == []
        wrong: Any = ["a"]
        with pytest.raises(InvalidArgument):
            things.get(wrong)
        wrong = [5]
        with pytest.raises(InvalidArgument):
            things.get_many(wrong)

    def test_delete_by_ids_or_by_filter(self, store: VectorStore) -> None:
        """C25: delete takes ids or a filter, one of the two, and counts what it deleted; unknown ids are no error."""
        things = store.ensure_collection(SPEC)
        things.upsert(Record(f"r{i}", [1, 0, 0], {"n": i}) for i in range(10))
        assert things.delete("r0") == 1
        assert things.delete(["r0", "r1", "r1", "x"]) == 1
        assert things.delete([]) == 0
        assert things.delete(where=Metadata("n") < 5) == 3
        with pytest.raises(InvalidArgument):
            things.delete()
        with pytest.raises(InvalidArgument):
            things.delete("r9", where={"n": 9})
        assert things.delete(where={}) == 5

    def test_count(self, store: VectorStore) -> None:
        """C26: count counts all records, or those that match."""
        things = store.ensure_collection(SPEC)
        things.upsert(Record(f"r{i}", [1, 0, 0], {"n": i}) for i in range(10))
        assert things.count() == things.count({}) == 10
        assert things.count({"n": {"$gte": 7}}) == 3

    def test_scan_lists_everything_once_in_the_order_of_ids(self, store: VectorStore) -> None:
        """C27: scan lists records by id in code point order, a page at a time; the last page has no cursor."""
        things = store.ensure_collection(SPEC)
        ids = ["a", "B", "é", "Z", "10", "9", "_", "a b", "日", "\U0001f600", "\uffff", "A"]
        things.upsert(Record(i, [1, 0, 0], {"even": n % 2 == 0}) for n, i in enumerate(ids))
        for limit in (1, 5, 12, 100):
            listed: list[str] = []
            cursor: str | None = None
            while True:
                page = things.scan(cursor=cursor, limit=limit)
                assert len(page) <= limit
                listed += [record.id for record in page]
                cursor = page.cursor
                if cursor is None:
                    break
            assert listed == sorted(ids)
        assert [r.id for r in things.scan({"even": True})] == sorted(ids[::2])
        wrong: Any
        for wrong in (0, -1, 1.5, True, "1", 100_001):
            with pytest.raises(InvalidArgument, match="limit"):
                things.scan(limit=wrong)

    def test_named_vectors_may_be_missing_but_not_all(self, store: VectorStore) -> None:
        """C28: Named vectors may be missing from a record as long as it has one vector; unknown names are refused."""
        spec = CollectionSpec("anime", vectors={"text": VectorField(2), "picture": VectorField(3, metric="l2")})
        anime = store.ensure_collection(spec)
        anime.upsert(
            [Record("a", vectors={"text": [1, 0]}), Record("b", vectors={"text": [1, 1], "picture": [1, 2, 3]})]
        )
        kept = anime.get_many(["a", "b"], include=("vector",))
        assert [sorted(record.vectors) for record in kept] == [["text"], ["picture", "text"]]
        assert [record.vector for record in kept] == [None, None]
        for bad in (
            Record("c"),
            Record("c", [1, 0]),
            Record("c", vectors={"sound": [1]}),
            Record("c", vectors={"text": [1, 0], "picture": [float("nan"), 0, 0]}),
        ):
            with pytest.raises(InvalidRecord, match="'c'"):
                anime.upsert(bad)
        with pytest.raises(DimensionMismatch):
            anime.upsert(Record("c", vectors={"text": [1, 0, 0]}))
        assert anime.count() == 2

    def test_a_passed_deadline_stores_nothing(self, store: VectorStore) -> None:
        """C29: Calls in a deadline's block raise BackendTimeout once it has passed, and store nothing then."""
        things = store.ensure_collection(SPEC)

        def slow() -> Iterator[Record]:
            import time

            for i in range(1500):
                if i == 600:
                    time.sleep(0.3)
                yield Record(f"r{i}", [1, 0, 0])

        with deadline(0.2), pytest.raises(BackendTimeout):
            things.upsert(slow())
        assert things.count() == 0
        with deadline(30):
            assert things.upsert(slow()) == 1500
        for seconds in (0, -1, float("nan")):
            with pytest.raises(InvalidArgument), deadline(seconds):
                pass
