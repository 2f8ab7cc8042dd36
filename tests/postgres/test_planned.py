"""Filtered searches of an indexed vector: the cheaper way is taken, either way is right, and a wrong guess costs little."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias

import numpy as np
import psycopg
import pytest

import likewise
from likewise import (
    Between,
    Btree,
    Collection,
    CollectionSpec,
    Filter,
    Gin,
    Hnsw,
    Metadata,
    SearchResults,
    VectorField,
    VectorStore,
)
from likewise.backends.postgres import _searches, _statements
from likewise.backends.postgres._table import Table
from likewise.testing.database import empty_database

Vectors: TypeAlias = "np.ndarray[tuple[int, int], np.dtype[np.float32]]"

ROWS, DIMENSION, SECTIONS = 12_000, 32, 20
#: Filters that have nothing to do with the vectors, by the part of the rows that match.
INDEPENDENT: Mapping[float, Filter] = {
    0.5: Metadata("half") == "h0",
    0.1: Metadata("tenth") == "t0",
    0.05: Metadata("number") < ROWS // 20,  # no index serves this
    0.01: Metadata("hundredth") == "u0",
    0.001: Metadata("thousandth") == "v0",
}


def around(centres: Vectors, count: int, seed: int) -> tuple[Vectors, Sequence[int]]:
    rng = np.random.default_rng(seed)
    which = rng.integers(len(centres), size=count)
    made = centres[which] + 0.5 * rng.normal(size=(count, DIMENSION))
    return (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32), which.tolist()


CENTRES: Vectors = np.random.default_rng(0).normal(size=(SECTIONS, DIMENSION)).astype(np.float32)


@pytest.fixture(scope="module")
def planned_url(postgres_server: str) -> Iterator[str]:
    """A database with one collection that no test changes."""
    with empty_database(postgres_server) as url:
        with likewise.connect(url) as store:
            fill(store.ensure_collection(CollectionSpec("things", dimension=DIMENSION)))
        yield url


def fill(collection: Collection) -> None:
    vectors, sections = around(CENTRES, ROWS, 1)
    mixed = np.random.default_rng(2).permutation(ROWS).tolist()
    collection.upsert_columns(
        ids=[f"r{i}" for i in range(ROWS)],
        vectors=vectors,
        metadata=[
            {
                "number": n,
                "half": f"h{n % 2}",
                "tenth": f"t{n % 10}",
                "hundredth": f"u{n % 100}",
                "thousandth": f"v{n % 1000}",
                "section": f"s{section}",
            }
            for n, section in zip(mixed, sections, strict=True)
        ],
    )
    collection.ensure_indexes(vector=Hnsw(), metadata=Gin(path_ops=True))


@pytest.fixture
def planned(planned_url: str) -> Iterator[VectorStore]:
    with likewise.connect(planned_url) as store:
        yield store


def recall(found: Sequence[SearchResults], truth: Sequence[SearchResults]) -> float:
    hits = sum(len({r.id for r in f} & {r.id for r in t}) for f, t in zip(found, truth, strict=True))
    return hits / sum(map(len, truth))


QUERIES, _ = around(CENTRES, 40, 3)


@pytest.mark.parametrize("part", INDEPENDENT)
def test_filters_of_any_selectivity_are_answered_well(planned: VectorStore, part: float) -> None:
    things, where = planned.collection("things"), INDEPENDENT[part]
    found = [things.search_by_vector(q, where=where) for q in QUERIES]
    truth = [things.search_by_vector(q, where=where, exact=True) for q in QUERIES]
    assert all(len(f) == 10 and f.complete for f in found)
    assert recall(found, truth) >= 0.95
    plans = {f.explain().plan for f in found[5:]}
    if part <= 0.01:
        assert plans == {"exact"}
        assert found[-1].explain().matching == ROWS * part == found[-1].explain().estimated
    elif part >= 0.1:
        assert plans == {"approximate"}
        assert found[-1].explain().index == "idx_things_vector_hnsw"


def test_a_filter_that_goes_with_the_vectors_is_answered_well(planned: VectorStore) -> None:
    """Most queries are far from the section they are to look in, where an index scan by itself finds little."""
    things, where = planned.collection("things"), Metadata("section") == "s3"
    found = [things.search_by_vector(q, where=where) for q in QUERIES]
    truth = [things.search_by_vector(q, where=where, exact=True) for q in QUERIES]
    assert all(len(f) == 10 for f in found)
    assert recall(found, truth) >= 0.95


@pytest.mark.parametrize("part", [0.5, 0.01])
def test_searches_of_many_and_of_several_vectors_are_planned_too(planned: VectorStore, part: float) -> None:
    things, where = planned.collection("things"), INDEPENDENT[part]
    truth = [things.search_by_vector(q, where=where, exact=True) for q in QUERIES]
    many = things.search_many(QUERIES, where=where)
    assert recall(many, truth) >= 0.95
    assert {f.explain().plan for f in many} == {"exact" if part == 0.01 else "approximate"}
    # Several, since an index built by several workers may miss a single query's neighbours altogether.
    fused = [things.search_by_vectors({"": query}, where=where) for query in QUERIES]
    assert {f.explain().legs[""].plan for f in fused} == {"exact" if part == 0.01 else "approximate"}
    assert recall(fused, truth) >= 0.9


def test_who_names_ef_search_has_chosen_the_index(planned: VectorStore) -> None:
    things = planned.collection("things")
    found = things.search_by_vector(QUERIES[0], where=INDEPENDENT[0.01], ef_search=40)
    assert found.explain().plan == "approximate"
    assert found.explain().settings["hnsw.ef_search"] == "40"


def explained(store: VectorStore, statement: _statements.Statement) -> str:
    text = statement.text if isinstance(statement.text, bytes) else statement.text.as_bytes(None)
    with store.transaction() as connection:
        return "\n".join(row[0] for row in connection.execute(b"explain " + text, statement.parameters).fetchall())


def test_the_statements_use_the_indexes_they_are_meant_for(planned: VectorStore) -> None:
    things = planned.collection("things")
    table = things._known  # type: ignore[attr-defined]
    where, everything = INDEPENDENT[0.1], frozenset[likewise.records.IncludeField]({"metadata"})
    along = _searches.visit(
        table, "", QUERIES[0], top_k=10, where=where, include=everything, index=table.vector_index(""), visits=512
    )
    plan = explained(planned, along)
    assert "Index Scan using idx_things_vector_hnsw" in plan
    assert "One-Time Filter" in plan
    assert "idx_things_metadata_gin" not in plan
    comparing = _searches.compare(table, "", QUERIES[0], top_k=10, where=where, include=everything, most=0)
    plan = explained(planned, comparing)
    assert "idx_things_metadata_gin" in plan
    assert "hnsw" not in plan


@pytest.mark.parametrize("quantization", ["none", "half", "binary"])
@pytest.mark.parametrize("named", [False, True])
def test_every_kind_of_index_and_vector(fresh_database_url: str, quantization: str, named: bool) -> None:
    name = "picture" if named else ""
    vectors, _ = around(CENTRES, 3_000, 5)
    with likewise.connect(fresh_database_url) as store:
        fields = {"vectors": {"picture": VectorField(DIMENSION)}} if named else {"dimension": DIMENSION}
        things = store.ensure_collection(CollectionSpec("things", **fields))
        things.upsert_columns(
            ids=[f"r{i}" for i in range(3_000)],
            vectors={name: vectors},
            metadata=[{"half": i % 2, "few": i % 300} for i in range(3_000)],
        )
        things.ensure_indexes(vector=Hnsw(quantization=quantization))  # type: ignore[arg-type]
        for where, plan in ((Metadata("half") == 1, "approximate"), (Metadata("few") == 7, "exact")):
            found = [things.search_by_vector(q, where=where) for q in QUERIES]
            truth = [things.search_by_vector(q, where=where, exact=True) for q in QUERIES]
            assert recall(found, truth) >= 0.95
            assert plan in found[-1].explain().plan


@pytest.mark.slow
def test_wrong_guesses_are_noticed_and_mended(fresh_database_url: str) -> None:
    """The server knows nothing of the table at first; then what it knew is no longer so."""
    with likewise.connect(fresh_database_url) as store:
        things = store.ensure_collection(CollectionSpec("things", dimension=DIMENSION))
        fill(things)
        common = Metadata("half") == "h0"
        assert len(things.search_by_vector(QUERIES[0], where=common)) == 10
        # Nearly all of them become something else.
        with store.transaction() as connection:
            connection.execute(
                """update things set metadata = metadata || '{"half": "gone"}' where (metadata ->> 'number')::int > 60"""
            )
            (left,) = connection.execute("select count(*) from things where metadata ->> 'half' = 'h0'").fetchone()
        for _ in range(3):
            found = things.search_by_vector(QUERIES[0], where=common, top_k=20)
            assert len(found) == min(20, left)
        assert found.explain().plan == "exact"
        assert found.explain().matching == left
        # And back again.
        with store.transaction() as connection:
            connection.execute("""update things set metadata = metadata || '{"half": "h0"}'""")
        for _ in range(3):
            found = things.search_by_vector(QUERIES[0], where=common, top_k=20)
            assert len(found) == 20
        assert found.explain().plan == "approximate"


def test_no_setting_stays_on_any_connection(planned: VectorStore, planned_url: str) -> None:
    names = ["hnsw.ef_search", "hnsw.iterative_scan", "hnsw.max_scan_tuples", "enable_seqscan", "statement_timeout"]
    with psycopg.connect(planned_url) as mine:
        mine.execute("select '[1]'::vector")

        def settings() -> list[object]:
            return [mine.execute("select current_setting(%s)", (n,)).fetchone() for n in names]

        before = settings()
        inside = likewise.attach(mine).collection("things")
        for where in INDEPENDENT.values():
            assert len(inside.search_by_vector(QUERIES[0], where=where)) == 10
            assert settings() == before
    things = planned.collection("things")
    for where in INDEPENDENT.values():
        things.search_by_vector(QUERIES[0], where=where)
    with planned.transaction() as connection:
        values = [connection.execute("select current_setting(%s)", (n,)).fetchone() for n in names]
    assert values == before


def test_what_is_known_of_a_filter_is_asked_once_and_shared_with_transactions(
    planned: VectorStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    things = planned.collection("things")
    asked: list[object] = []
    original = _searches.estimate

    def estimate(table: Table, where: Filter) -> _statements.Statement:
        asked.append(where)
        return original(table, where)

    monkeypatch.setattr(_searches, "estimate", estimate)
    for _ in range(3):
        things.search_by_vector(QUERIES[0], where=INDEPENDENT[0.5])
    with planned.transaction() as connection:
        things.using(connection).search_by_vector(QUERIES[0], where=INDEPENDENT[0.5])
    assert len(asked) == 1


def test_an_index_on_a_key_serves_comparisons_of_numbers(fresh_database_url: str) -> None:
    with likewise.connect(fresh_database_url) as store:
        things = store.ensure_collection(CollectionSpec("things", dimension=DIMENSION))
        fill(things)
        (index,) = [i for i in things.ensure_indexes(metadata=Btree("number")) if i.method == "btree"]
        assert (index.name, index.valid) == ("idx_things_metadata_number", True)
        assert len(things.ensure_indexes(metadata=Btree("number"))) == 3, "asked again, nothing is built"
        table = things._known  # type: ignore[attr-defined]
        for where in (Metadata("number") < 120, Between(Metadata("number"), 7, 90), Metadata("number") >= ROWS - 50):
            statement = _searches.compare(
                table, "", QUERIES[0], top_k=10, where=where, include=frozenset({"metadata"}), most=0
            )
            assert "idx_things_metadata_number" in explained(store, statement)
            for _ in range(8):  # past the point at which statements are prepared and may be planned once and for all
                found = things.search_by_vector(QUERIES[0], where=where)
            assert found.explain().plan == "exact"
            assert [r.id for r in found] == [r.id for r in things.search_by_vector(QUERIES[0], where=where, exact=True)]
        # What is no number does no harm, however long it is.
        things.upsert(likewise.Record("odd", QUERIES[0], {"number": "x" * 100_000}))
        things.upsert(likewise.Record("deep", QUERIES[0], {"number": {"a": 1}}))
        assert things.count(Metadata("number") < 10) == 10


@pytest.mark.parametrize("path", [("it's",), ("a b", 'q"'), ("%s",), ("back\\slash",), ("é" * 60,), ("A",), ("a",)])
def test_any_key_can_be_indexed(fresh_database_url: str, path: tuple[str, ...]) -> None:
    with likewise.connect(fresh_database_url) as store:
        things = store.ensure_collection(CollectionSpec("things", dimension=2))
        value: object = 5
        for key in reversed(path):
            value = {key: value}
        things.upsert(likewise.Record("one", [1, 0], value))  # type: ignore[arg-type]
        for _ in range(2):
            indexes = things.ensure_indexes(metadata=Btree(*path))
        assert len(indexes) == 1
        assert things.count(Metadata(*path) > 4) == 1
        with pytest.raises(likewise.SchemaMismatch, match="differs"):
            things.ensure_indexes(metadata=Btree("other", name=indexes[0].name))
