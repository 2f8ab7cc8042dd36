"""Recall that is asked for is achieved; what was measured is remembered, shared, and measured again when it no longer holds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import psycopg
import pytest

import likewise
from likewise import (
    Collection,
    CollectionSpec,
    Hnsw,
    InvalidArgument,
    IvfFlat,
    Metadata,
    VectorStore,
)
from likewise.backends.postgres._recall import RecallCurve, depth_of, measured, sample_size, surely, usual_ef_search
from likewise.backends.postgres.tuning import Tuning

ROWS, DIMENSION = 6_000, 32


@pytest.fixture
def opened(fresh_database_url: str) -> Iterator[VectorStore]:
    with likewise.connect(fresh_database_url) as store:
        yield store


def fill(store: VectorStore, rows: int = ROWS) -> Collection:
    """Vectors without any structure, which are hard for an index, and one that is built carelessly."""
    things = store.ensure_collection(CollectionSpec("things", dimension=DIMENSION))
    vectors = np.random.default_rng(0).normal(size=(rows, DIMENSION)).astype(np.float32)
    things.upsert_columns(
        ids=[f"r{i}" for i in range(rows)], vectors=vectors, metadata=[{"half": i % 2} for i in range(rows)]
    )
    things.ensure_indexes(vector=Hnsw(m=8, ef_construction=24))
    return things


QUERIES = np.random.default_rng(1).normal(size=(400, DIMENSION)).astype(np.float32)


@pytest.mark.parametrize("wanted", [0.9, 0.99])
def test_the_recall_that_is_asked_for_is_achieved(opened: VectorStore, wanted: float) -> None:
    things = fill(opened)
    truth = things.search_many(QUERIES, exact=True, include=())
    found = things.search_many(QUERIES, recall=wanted, include=())
    hits = sum(len({r.id for r in f} & {r.id for r in t}) for f, t in zip(found, truth, strict=True))
    assert hits / (10 * len(QUERIES)) >= wanted - 0.02
    one = things.search_by_vector(QUERIES[0], recall=wanted)
    assert [r.id for r in one] == [r.id for r in found[0]]
    assert one.explain().plan == "approximate"


def test_more_recall_takes_more_looking_and_all_of_it_takes_every_row(opened: VectorStore) -> None:
    things = fill(opened)
    dials = [
        int(things.search_by_vector(QUERIES[0], recall=wanted).explain().settings["hnsw.ef_search"])
        for wanted in (0.5, 0.9, 0.97)
    ]
    assert dials == sorted(dials)
    assert dials[0] < dials[2]
    assert things.search_by_vector(QUERIES[0], recall=1.0).explain().plan == "exact"
    assert things.search_by_vector(QUERIES[0], recall=0.9, exact=True).explain().plan == "exact"


@pytest.mark.parametrize("wanted", [0.9, 0.99])
def test_ivfflat_has_its_probes_chosen(opened: VectorStore, wanted: float) -> None:
    things = fill(opened)
    with opened.transaction() as connection:
        connection.execute("drop index idx_things_vector_hnsw")
    things.ensure_indexes(vector=IvfFlat(lists=60))
    truth = things.search_many(QUERIES, exact=True, include=())
    found = things.search_many(QUERIES, recall=wanted, include=())
    hits = sum(len({r.id for r in f} & {r.id for r in t}) for f, t in zip(found, truth, strict=True))
    assert hits / (10 * len(QUERIES)) >= wanted - 0.02
    dials = [things.search_by_vector(QUERIES[0], recall=r).explain().settings.get("ivfflat.probes") for r in (0.5, 0.8)]
    assert dials[0] is not None
    assert dials[1] is not None
    assert int(dials[0]) < int(dials[1]) <= 30
    half = things.search_by_vector(QUERIES[0], recall=0.8, where=Metadata("half") == 1)
    assert len(half) == 10
    assert half.complete


def test_a_filter_may_come_with_it(opened: VectorStore) -> None:
    things = fill(opened)
    where = Metadata("half") == 1
    found = [things.search_by_vector(q, recall=0.95, where=where) for q in QUERIES]
    truth = [things.search_by_vector(q, exact=True, where=where) for q in QUERIES]
    hits = sum(len({r.id for r in f} & {r.id for r in t}) for f, t in zip(found, truth, strict=True))
    assert hits / (10 * len(QUERIES)) >= 0.95
    assert found[0].explain().plan.startswith("approximate")


def measured_at(url: str) -> list[tuple[object, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute(
            "select name, vector, k, rows, measured_at from likewise.recall order by k"
        ).fetchall()


@pytest.mark.slow
def test_what_was_measured_is_remembered_until_the_collection_is_another(
    opened: VectorStore, fresh_database_url: str
) -> None:
    things = fill(opened)
    things.search_by_vector(QUERIES[0], recall=0.9)
    (first,) = measured_at(fresh_database_url)
    assert first[:3] == ("things", "", 10)
    with likewise.connect(fresh_database_url) as other:
        other.collection("things").search_by_vector(QUERIES[0], recall=0.95)
    assert measured_at(fresh_database_url) == [first], "another store need not measure again"
    things.search_by_vector(QUERIES[0], top_k=25, recall=0.9)
    assert [row[2] for row in measured_at(fresh_database_url)] == [10, 30]

    with opened.transaction() as connection:
        connection.execute("drop index idx_things_vector_hnsw")
    things.ensure_indexes(vector=Hnsw(m=16))
    things.search_by_vector(QUERIES[0], recall=0.9)
    assert measured_at(fresh_database_url)[0][4] != first[4], "another index was measured"

    opened.drop_collection("things")
    assert measured_at(fresh_database_url) == []


def test_in_a_callers_transaction_nothing_is_written_for_it(opened: VectorStore, fresh_database_url: str) -> None:
    things = fill(opened)
    with psycopg.connect(fresh_database_url) as mine:
        inside = likewise.attach(mine).collection("things")
        assert len(inside.search_by_vector(QUERIES[0], recall=0.9)) == 10
    assert measured_at(fresh_database_url) == []
    with opened.transaction() as connection:
        assert len(things.using(connection).search_by_vector(QUERIES[0], recall=0.9)) == 10


def test_who_may_not_write_it_down_measures_for_himself(opened: VectorStore, fresh_database_url: str) -> None:
    things = fill(opened)
    with opened.transaction() as connection:
        connection.execute("drop table likewise.recall cascade")
    assert len(things.search_by_vector(QUERIES[0], recall=0.9)) == 10


def test_what_cannot_be_is_refused(opened: VectorStore) -> None:
    things = fill(opened, rows=500)
    for wrong in (0, 1.1, -1, True, "0.9", float("nan")):
        with pytest.raises(InvalidArgument, match="recall is"):
            things.search_by_vector(QUERIES[0], recall=wrong)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match="one of them"):
        things.search_by_vector(QUERIES[0], recall=0.9, ef_search=100)


def test_where_too_few_queries_leave_it_open_more_are_measured_once(
    opened: VectorStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    things = fill(opened)
    deeper: list[bool] = []
    measure = Tuning._measure

    def counted(self: Tuning, *given: Any, **options: Any) -> RecallCurve:
        deeper.append(options.get("deeper", False))
        return measure(self, *given, **options)

    monkeypatch.setattr(Tuning, "_measure", counted)
    monkeypatch.setattr(RecallCurve, "unsure", lambda self, recall: True)
    for _ in range(2):
        assert len(things.search_by_vector(QUERIES[0], recall=0.9)) == 10
    assert deeper == [False, True]


def test_the_usual_ef_search_grows_with_the_rows() -> None:
    rows = (0, 1_000, 50_000, 100_000, 200_000, 1_000_000, 10_000_000, 10**12)
    assert [usual_ef_search(n) for n in rows] == [64, 64, 64, 80, 100, 160, 250, 400]
    assert [usual_ef_search(n, filtered=True) for n in rows] == [100, 100, 100, 160, 200, 400, 400, 400]


def test_a_filter_takes_a_little_more_and_many_results_as_many(opened: VectorStore) -> None:
    things = fill(opened)
    half = Metadata("half") == 1
    for found, dial in (
        (things.search_by_vector(QUERIES[0]), "64"),
        (things.search_by_vector(QUERIES[0], top_k=64), "64"),
        (things.search_by_vector(QUERIES[0], top_k=65), "100"),
        (things.search_by_vector(QUERIES[0], top_k=150), "200"),
        (things.search_by_vector(QUERIES[0], where=half), "100"),
        (things.search_many(QUERIES[:2], where=half)[0], "100"),
        (things.search_by_vector(QUERIES[0], where=half, ef_search=50), "50"),
    ):
        assert found.explain().settings["hnsw.ef_search"] == dial


def test_the_least_ef_search_that_surely_reaches_it() -> None:
    curve = RecallCurve("index", 1_000.0, ((40, 0.90, 0.01), (60, 0.95, 0.01), (80, 0.98, 0.01)))
    assert [round(surely(mean, error), 3) for _, mean, error in curve.points] == [0.84, 0.915, 0.96]
    assert [curve.dial(r) for r in (0.5, 0.83, 0.85, 0.91, 0.93, 0.98)] == [40, 40, 60, 60, 80, None]
    assert curve.holds("index", 1_400.0)
    assert not curve.holds("index", 1_600.0)
    assert not curve.holds("index", 400.0)
    assert not curve.holds("other", 1_000.0)
    assert [depth_of(k) for k in (1, 10, 11, 500, 5_000)] == [10, 10, 30, 1_000, None]
    assert [depth_of(k, filtered=True) for k in (1, 10, 11, 500, 5_000)] == [10, 30, 100, 1_000, None]
    assert [sample_size(n) for n in (0, 50_000, 100_000, 10_000_000)] == [300, 200, 100, 30]
    assert [sample_size(n, deeper=True) for n in (0, 50_000, 200_000, 10_000_000)] == [300, 300, 150, 90]
    # One query of fifty that finds nothing: more queries tell whether it is one of many.
    few = RecallCurve("index", 200_000.0, ((40, 0.968, 0.02), (1_000, 0.974, 0.02)))
    assert (few.dial(0.95), few.unsure(0.95), few.unsure(0.99), few.unsure(0.9)) == (None, True, False, False)
    more = RecallCurve("index", 200_000.0, ((40, 0.968, 0.009), (1_000, 0.974, 0.009)))
    assert (more.dial(0.95), more.unsure(0.95)) == (1_000, False)
    assert measured([], [], [], 10) == (1.0, 0.0)
