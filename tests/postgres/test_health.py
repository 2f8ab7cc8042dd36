"""What ``index_health`` says of real indexes: their size and recall, and that the recall has fallen."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import psycopg
import pytest

import likewise
from likewise import Collection, CollectionSpec, Hnsw, Record, VectorField, VectorStore
from likewise.backends.postgres._advice import hnsw_size

ROWS, DIMENSION = 3_000, 24


@pytest.fixture
def opened(fresh_database_url: str) -> Iterator[VectorStore]:
    with likewise.connect(fresh_database_url) as store:
        yield store


def fill(store: VectorStore, seed: int = 0) -> Collection:
    things = store.ensure_collection(CollectionSpec("things", dimension=DIMENSION))
    vectors = np.random.default_rng(seed).normal(size=(ROWS, DIMENSION)).astype(np.float32)
    things.upsert_columns(ids=[f"r{i}" for i in range(ROWS)], vectors=vectors)
    return things


def test_an_index_is_measured_and_remembered(opened: VectorStore, fresh_database_url: str) -> None:
    things = fill(opened)
    things.ensure_indexes(vector=Hnsw())
    (health,) = things.index_health()
    assert health.index is not None
    assert (health.vector, health.index.name, health.dial) == ("", "idx_things_vector_hnsw", 64)
    assert health.size == pytest.approx(hnsw_size(VectorField(DIMENSION), ROWS), rel=0.1)
    assert health.rows == pytest.approx(ROWS, rel=0.2)
    assert health.recall is not None
    assert 0.9 < health.recall <= 1.0
    with psycopg.connect(fresh_database_url) as connection:
        assert connection.execute("select name, k from likewise.recall").fetchall() == [("things", 10)]
    (again,) = things.index_health()
    assert again.recall == pytest.approx(health.recall, abs=0.02)
    assert again.advice == ()


def test_a_fall_is_noticed_until_the_index_is_built_anew(opened: VectorStore) -> None:
    things = fill(opened)
    things.ensure_indexes(vector=Hnsw(m=4, ef_construction=8))
    things.index_health()
    with opened.transaction() as connection:
        # As if the index had been much better when it was measured.
        connection.execute("""
            update likewise.recall set points = (
                select jsonb_agg(jsonb_build_array(point -> 0, 0.999, 0.001)) from jsonb_array_elements(points) as point
            )
        """)
    (health,) = things.index_health()
    assert health.recall is not None
    assert health.recall < 0.95
    (advice,) = health.advice
    assert advice.status == "warning"
    assert "fallen from 0.999" in advice.text
    with opened.transaction() as connection:
        connection.execute("drop index idx_things_vector_hnsw")
    things.ensure_indexes(vector=Hnsw())
    (health,) = things.index_health()
    assert not [each for each in health.advice if "fallen" in each.text]


def test_vectors_without_an_index_and_without_rows(opened: VectorStore, fresh_database_url: str) -> None:
    spec = CollectionSpec("pairs", vectors={"text": VectorField(8), "picture": VectorField(4)})
    pairs = opened.ensure_collection(spec)
    pairs.ensure_indexes(vector=Hnsw(), using="text")
    text, picture = pairs.index_health()
    assert (text.vector, text.recall, text.dial) == ("text", None, None)
    assert text.index is not None
    assert picture.index is None
    assert "none is needed" in picture.advice[0].text
    # Who may only read is told the same.
    with psycopg.connect(fresh_database_url) as connection:
        connection.execute("set default_transaction_read_only = on")
        connection.commit()
        assert likewise.attach(connection).collection("pairs").index_health() == [text, picture]


def test_the_view_for_sql_has_every_vector_index(fresh_database_url: str) -> None:
    vectors = np.random.default_rng(5).normal(size=(300, 8)).astype(np.float32)
    with likewise.connect(fresh_database_url) as store:
        spec = CollectionSpec("seen", dimension=8, vectors={"picture": VectorField(8)})
        collection = store.ensure_collection(spec)
        collection.upsert(Record(str(i), vector, vectors={"picture": vector}) for i, vector in enumerate(vectors))
        collection.ensure_indexes(vector=Hnsw())
        collection.ensure_indexes(using="picture", vector=Hnsw(quantization="half"))
        collection.search_by_vector(vectors[0], recall=0.9)
    with psycopg.connect(fresh_database_url) as connection:
        found = connection.execute(
            "select vector, method, valid, index_bytes > 0, measured_at is not null from likewise.index_health order by vector"
        ).fetchall()
    assert found == [("", "hnsw", True, True, True), ("picture", "hnsw", True, True, False)]
