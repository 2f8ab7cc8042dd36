"""Indexes over the rows that match a filter: built, used where they hold every row that can match, and nowhere else."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

import likewise
from likewise import (
    And,
    Between,
    Collection,
    CollectionSpec,
    Column,
    Eq,
    Exists,
    Filter,
    Gin,
    Gte,
    Hnsw,
    In,
    InvalidArgument,
    Lt,
    Metadata,
    Not,
    Or,
    SchemaMismatch,
    StartsWith,
    VectorStore,
)
from likewise.backends.postgres import _searches

ROWS, DIMENSION = 12_000, 16
SHOES = Eq(Metadata("section"), "shoes")
VECTORS = np.random.default_rng(0).normal(size=(ROWS, DIMENSION)).astype(np.float32)
QUERIES = np.random.default_rng(1).normal(size=(20, DIMENSION)).astype(np.float32)


@pytest.fixture
def opened(fresh_database_url: str) -> Iterator[VectorStore]:
    with likewise.connect(fresh_database_url) as store:
        yield store


def fill(store: VectorStore) -> Collection:
    """A third of the rows are shoes."""
    things = store.ensure_collection(CollectionSpec("things", dimension=DIMENSION))
    metadata = [{"section": ("shoes", "hats", "it's")[i % 3], "n": i, "even": i % 2 == 0} for i in range(ROWS)]
    things.upsert_columns(ids=[f"r{i}" for i in range(ROWS)], vectors=VECTORS, metadata=metadata)
    with store.transaction() as connection:
        connection.execute("analyze things")
    return things


def recall(things: Collection, where: Filter) -> float:
    hits = 0
    for query in QUERIES:
        found = {r.id for r in things.search_by_vector(query, where=where)}
        hits += len(found & {r.id for r in things.search_by_vector(query, where=where, exact=True)})
    return hits / (10 * len(QUERIES))


def test_it_is_used_where_it_holds_all_that_can_match(opened: VectorStore) -> None:
    things = fill(opened)
    (index,) = things.ensure_indexes(vector=Hnsw(), where=SHOES)
    assert index.name.startswith("idx_things_vector_hnsw_")
    assert index.valid
    assert "WHERE" in index.definition
    for where in (SHOES, And(SHOES, Eq(Metadata("even"), True)), And(Metadata("n") >= 0, And(SHOES))):
        if where is not SHOES:
            # How many shoes are even the server guesses badly: the first search counts them.
            things.search_by_vector(QUERIES[0], where=where)
        found = things.search_by_vector(QUERIES[0], where=where)
        assert (found.explain().plan, found.explain().index) == ("approximate", index.name)
        assert {r.record.metadata["section"] for r in found} == {"shoes"}
        assert recall(things, where) >= 0.95
    table = things._known  # type: ignore[attr-defined]
    statement = _searches.visit(
        table,
        "",
        QUERIES[0],
        top_k=10,
        where=SHOES,
        include=frozenset(),
        index=table.partial_index("", SHOES),
        visits=1_000,
    )
    assert isinstance(statement.text, bytes)
    with opened.transaction() as connection:
        shown = connection.execute(b"explain " + statement.text, statement.parameters).fetchall()
    assert f"Index Scan using {index.name}" in str(shown), "the server takes it too"


def test_it_is_not_used_where_it_does_not_or_where_all_is_asked(opened: VectorStore) -> None:
    things = fill(opened)
    things.ensure_indexes(vector=Hnsw(), where=SHOES)
    hats = Eq(Metadata("section"), "hats")
    for where in (hats, Or(SHOES, hats), Not(SHOES), In(Metadata("section"), ["shoes", "hats"])):
        assert things.search_by_vector(QUERIES[0], where=where).explain().plan == "exact"
        assert recall(things, where) == 1.0
    assert things.search_by_vector(QUERIES[0]).explain().plan == "exact"
    assert things.search_by_vector(QUERIES[0], where=SHOES, exact=True).explain().plan == "exact"
    assert len(things.search_by_vector(QUERIES[0], where=SHOES, ef_search=40)) == 10
    assert len(things.search_by_vector(QUERIES[0], where=SHOES, recall=0.9)) == 10
    few = things.search_by_vector(QUERIES[0], where=And(SHOES, Lt(Metadata("n"), 9)))
    assert (len(few), few.explain().matching) == (3, 3)
    assert things.recall() == 1.0


def test_the_smallest_of_several_is_taken_and_the_whole_one_for_the_rest(opened: VectorStore) -> None:
    things = fill(opened)
    things.ensure_indexes(vector=Hnsw(name="whole"))
    things.ensure_indexes(vector=Hnsw(name="shoes"), where=SHOES)
    things.ensure_indexes(vector=Hnsw(name="even_shoes"), where=SHOES & Eq(Metadata("even"), True))
    asked: dict[str, Filter] = {
        "shoes": SHOES,
        "even_shoes": And(Eq(Metadata("even"), True), SHOES),
        "whole": Gte(Metadata("n"), 0),
    }
    for name, where in asked.items():
        things.search_by_vector(QUERIES[0], where=where)
        assert things.search_by_vector(QUERIES[0], where=where).explain().index == name
    assert things.search_by_vector(QUERIES[0]).explain().index == "whole"
    assert [health.index.name for health in things.index_health() if health.index] == ["whole"]


@pytest.mark.parametrize(
    "where",
    [
        Eq(Metadata("section"), "it's"),
        Eq(Metadata("odd \\ key", "in'side"), "100% \\ 'quoted' %s"),
        Metadata("n") < 6_000,
        Between(Metadata("n"), -3.5, 6_000),
        In(Metadata("section"), ["shoes", "hats"]),
        StartsWith(Column("id"), "r1"),
        Or(Exists(Metadata("n")), Not(SHOES)),
        Column("id") > "r5",
    ],
    ids=repr,
)
def test_any_filter_can_be_an_indexs(opened: VectorStore, where: Filter) -> None:
    things = fill(opened)
    (index,) = things.ensure_indexes(vector=Hnsw(m=8, ef_construction=32), where=where)
    assert things.ensure_indexes(vector=Hnsw(m=8, ef_construction=32), where=where) == [index], "it is known again"
    again = opened.collection("things")
    found = again.search_by_vector(QUERIES[0], where=where)
    truth = again.search_by_vector(QUERIES[0], where=where, exact=True)
    assert len({r.id for r in found} & {r.id for r in truth}) >= 0.7 * len(truth)
    if again.count(where) > 3_000:
        assert found.explain().index == index.name


def test_what_differs_or_means_nothing_is_refused(opened: VectorStore) -> None:
    things = fill(opened)
    things.ensure_indexes(vector=Hnsw(name="mine"), where=SHOES)
    for where in (None, Eq(Metadata("section"), "hats"), Eq(Metadata("other"), "shoes")):
        with pytest.raises(SchemaMismatch, match="mine"):
            things.ensure_indexes(vector=Hnsw(name="mine"), where=where)
    with pytest.raises(InvalidArgument, match="where="):
        things.ensure_indexes(where=SHOES)
    with pytest.raises(InvalidArgument, match="where="):
        things.ensure_indexes(metadata=Gin(), where=SHOES)


def test_it_follows_what_is_written(opened: VectorStore) -> None:
    things = fill(opened)
    things.ensure_indexes(vector=Hnsw(), where=SHOES, concurrently=True)
    things.upsert(likewise.Record("new", QUERIES[0], {"section": "shoes"}))
    things.upsert(likewise.Record("r0", VECTORS[0], {"section": "hats"}))
    assert things.search_by_vector(QUERIES[0], where=SHOES, top_k=1)[0].id == "new"
    assert "r0" not in {r.id for r in things.search_by_vector(VECTORS[0], where=SHOES, top_k=50)}


def test_one_that_somebody_else_made_is_left_alone(opened: VectorStore) -> None:
    things = fill(opened)
    with opened.transaction() as connection:
        connection.execute("create index theirs on things using hnsw (vector vector_cosine_ops) where id > 'r5'")
        connection.execute("comment on index theirs is 'likewise: rows where {broken'")
    assert [index.name for index in things.indexes()] == ["theirs"]
    assert things.search_by_vector(QUERIES[0]).explain().plan == "exact"
    assert things.search_by_vector(QUERIES[0], where=Column("id") > "r5").explain().plan == "exact"
