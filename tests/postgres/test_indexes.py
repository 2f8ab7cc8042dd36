"""Indexes are built as asked, are used, find what exact search finds, and never leave a result short."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import psycopg
import pytest

import likewise
from likewise import (
    Collection,
    CollectionSpec,
    Column,
    Gin,
    Hnsw,
    IvfFlat,
    Metadata,
    Record,
    SchemaMismatch,
    UnsupportedFeature,
    VectorField,
    VectorStore,
)
from likewise.backends.postgres import _searches, _statements
from likewise.backends.postgres._install import migrations


@pytest.fixture
def opened(fresh_database_url: str) -> Iterator[VectorStore]:
    with likewise.connect(fresh_database_url) as opened:
        yield opened


def clustered(count: int, dimension: int, seed: int = 0) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """Vectors around some fifty centres, as embeddings lie."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(50, dimension))
    return (centres[rng.integers(50, size=count)] + 0.6 * rng.normal(size=(count, dimension))).astype(np.float32)


def fill(collection: Collection, vectors: np.ndarray[tuple[int, int], np.dtype[np.float32]]) -> None:
    collection.upsert(
        Record(f"r{i:05}", v, {"n": i, "hundredth": i % 100, "list": [i % 7]}) for i, v in enumerate(vectors)
    )


def text_of(statement: _statements.Statement) -> bytes:
    return statement.text if isinstance(statement.text, bytes) else statement.text.as_bytes(None)


def plan(store: VectorStore, collection: Collection, top_k: int = 10) -> str:
    """What PostgreSQL does for the statement of a search."""
    table = collection._known  # type: ignore[attr-defined]
    index = table.vector_index("")
    vector = np.ones(collection.spec.dimension or 1, np.float32)
    statement = _searches.search(
        table, "", vector, top_k=top_k, where=None, include=frozenset({"metadata"}), index=index
    )
    with store.transaction() as connection:
        connection.execute("set local enable_seqscan = off")
        rows = connection.execute(b"explain " + text_of(statement), statement.parameters).fetchall()
    return "\n".join(row[0] for row in rows)


@pytest.mark.parametrize("metric", ["cosine", "l2", "inner_product"])
@pytest.mark.parametrize(
    "index",
    [Hnsw(), Hnsw(m=8, ef_construction=32, quantization="half"), Hnsw(quantization="binary"), IvfFlat(lists=20)],
    ids=str,
)
def test_every_index_is_used_and_finds_what_exact_search_finds(
    opened: VectorStore, metric: str, index: Hnsw | IvfFlat
) -> None:
    collection = opened.ensure_collection(CollectionSpec("c", dimension=64, metric=metric))  # type: ignore[arg-type]
    vectors = clustered(2_000, 64)
    if metric == "inner_product" or index == Hnsw(quantization="binary"):
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    fill(collection, vectors)
    (info,) = collection.ensure_indexes(vector=index)
    assert info.method == ("hnsw" if isinstance(index, Hnsw) else "ivfflat")
    assert info.quantization == index.quantization
    assert collection.ensure_indexes(vector=index) == [info], "ensuring again changes nothing"
    shown = plan(opened, collection)
    assert f"Index Scan using {info.name}" in shown
    assert "One-Time Filter" in shown, "the settings are made before the first row is read"
    assert collection.recall(k=10, sample=50) >= 0.95


def test_an_index_of_the_same_name_but_other_options_is_a_mismatch(opened: VectorStore) -> None:
    collection = opened.ensure_collection(CollectionSpec("c", dimension=8))
    collection.ensure_indexes()
    assert [i.name for i in collection.indexes()] == ["idx_c_metadata_gin", "idx_c_vector_hnsw"]
    with pytest.raises(SchemaMismatch, match="idx_c_vector_hnsw"):
        collection.ensure_indexes(vector=Hnsw(m=8))
    with pytest.raises(SchemaMismatch, match="idx_c_metadata_gin"):
        collection.ensure_indexes(metadata=Gin(path_ops=True))
    names = [i.name for i in collection.ensure_indexes(metadata=Gin(path_ops=True, name="own_name"))]
    assert "own_name" in names


@pytest.mark.parametrize("path_ops", [False, True])
def test_the_metadata_index_answers_equality(opened: VectorStore, path_ops: bool) -> None:
    collection = opened.ensure_collection(CollectionSpec("c", dimension=8))
    fill(collection, clustered(3_000, 8))
    (info,) = collection.ensure_indexes(metadata=Gin(path_ops=path_ops))
    statement = _statements.count(collection._known, (Metadata("n") == 5) & likewise.Contains(Metadata("list"), 5))  # type: ignore[attr-defined]
    with opened.transaction() as connection:
        connection.execute("analyze c")
        rows = connection.execute(b"explain " + text_of(statement), statement.parameters).fetchall()
    assert info.name in str(rows)
    assert collection.count((Metadata("n") == 5) & likewise.Contains(Metadata("list"), 5)) == 1


def test_three_thousand_dimensions_are_stored_in_half_precision_and_indexed(opened: VectorStore) -> None:
    collection = opened.ensure_collection(CollectionSpec("creatives", dimension=3072))
    vectors = clustered(1_500, 3072)
    fill(collection, vectors)
    collection.ensure_indexes()
    assert "Index Scan using idx_creatives_vector_hnsw" in plan(opened, collection)
    assert collection.recall(k=10, sample=50) >= 0.95
    found = collection.search_by_vector(vectors[7], top_k=1, include=("vector",))
    assert found[0].id == "r00007"
    assert found[0].record.vector is not None
    assert np.allclose(found[0].record.vector, vectors[7], rtol=1e-3)
    with opened.transaction() as connection:
        kind = connection.execute(
            "select format_type(atttypid, atttypmod) from pg_attribute where attrelid = 'creatives'::regclass and attname = 'vector'"
        ).fetchone()
    assert kind == ("halfvec(3072)",)


def test_what_pgvector_cannot_index_is_said_with_a_way_out(opened: VectorStore) -> None:
    wide = opened.ensure_collection(CollectionSpec("wide", dimension=2_500, storage="vector"))
    with pytest.raises(UnsupportedFeature, match="half"):
        wide.ensure_indexes(vector=Hnsw())
    assert {i.quantization for i in wide.ensure_indexes() if i.method == "hnsw"} == {"half"}
    wider = opened.ensure_collection(CollectionSpec("wider", dimension=5_000))
    assert {i.quantization for i in wider.ensure_indexes() if i.method == "hnsw"} == {"binary"}


@pytest.mark.parametrize("index", [None, Hnsw(), Hnsw(quantization="binary"), IvfFlat(lists=20)], ids=str)
def test_a_filtered_search_returns_top_k_if_that_many_match(opened: VectorStore, index: Hnsw | IvfFlat | None) -> None:
    collection = opened.ensure_collection(CollectionSpec("c", dimension=32))
    vectors = clustered(5_000, 32)
    fill(collection, vectors)
    if index is not None:
        collection.ensure_indexes(vector=index)
    for where, matching in (
        (Metadata("hundredth") == 3, 50),
        (Metadata("n") < 7, 7),
        (Metadata("n") == 4_999, 1),
        (Metadata("n") > 10_000, 0),
        (Column("id") > "r04", 999),
    ):
        for top_k in (10, 100):
            found = collection.search_by_vector(vectors[0], top_k=top_k, where=where)
            assert len(found) == min(top_k, matching)
            assert found.complete
    assert len(collection.search_by_vector(vectors[0], top_k=300)) == 300
    assert len(collection.search_by_vector(vectors[0], top_k=5_000)) == 5_000
    many = collection.search_many(list(vectors[:5]), top_k=100, where=Metadata("n") < 7)
    assert [len(found) for found in many] == [7] * 5


def test_a_filter_that_correlates_with_the_vectors_does_not_shorten_the_result(opened: VectorStore) -> None:
    collection = opened.ensure_collection(CollectionSpec("c", dimension=16))
    near, far = clustered(8_000, 16), clustered(60, 16, seed=9) + 40.0
    collection.upsert(Record(f"near{i}", v, {"section": "near"}) for i, v in enumerate(near))
    collection.upsert(Record(f"far{i}", v, {"section": "far"}) for i, v in enumerate(far))
    collection.ensure_indexes()
    found = collection.search_by_vector(near[0], top_k=50, where=Metadata("section") == "far", ef_search=10)
    truth = collection.search_by_vector(near[0], top_k=50, where=Metadata("section") == "far", exact=True)
    assert len(found) == 50
    assert len({r.id for r in found} & {r.id for r in truth}) >= 48


def test_recall_holds_after_inserts_deletes_and_vacuum(opened: VectorStore, fresh_database_url: str) -> None:
    collection = opened.ensure_collection(CollectionSpec("c", dimension=32))
    vectors = clustered(4_000, 32)
    fill(collection, vectors[:2_000])
    collection.ensure_indexes()
    assert collection.recall(sample=50) >= 0.95
    fill(collection, vectors)
    assert collection.recall(sample=50) >= 0.95
    collection.delete(where=Metadata("hundredth") < 40)
    with psycopg.connect(fresh_database_url, autocommit=True) as connection:
        connection.execute("vacuum c")
    assert collection.recall(sample=50) >= 0.95


def test_named_vectors_have_their_own_indexes(opened: VectorStore) -> None:
    spec = CollectionSpec("anime", vectors={"text": VectorField(16), "picture": VectorField(8, metric="l2")})
    collection = opened.ensure_collection(spec)
    text, picture = clustered(1_000, 16), clustered(1_000, 8)
    collection.upsert(
        Record(str(i), vectors={"text": text[i], **({"picture": picture[i]} if i % 2 else {})}) for i in range(1_000)
    )
    names = [i.name for i in collection.ensure_indexes()]
    assert names == ["idx_anime_metadata_gin", "idx_anime_vector_picture_hnsw", "idx_anime_vector_text_hnsw"]
    assert collection.recall(using="picture", sample=30) >= 0.95
    found = collection.search_by_vectors({"text": text[31], "picture": picture[31]}, top_k=5)
    exactly = collection.search_by_vectors({"text": text[31], "picture": picture[31]}, top_k=5, exact=True)
    assert found[0].id == exactly[0].id == "31"
    assert found[0].score == pytest.approx(1.0)
    assert set(found.explain().legs) == {"text", "picture"}


def test_long_collection_names_get_index_names_that_fit(opened: VectorStore) -> None:
    collection = opened.ensure_collection(CollectionSpec("c" * 63, dimension=4))
    names = [i.name for i in collection.ensure_indexes()]
    assert len(set(names)) == 2
    assert all(len(name) <= 63 for name in names)
    assert [i.name for i in collection.ensure_indexes()] == names


#: What has been applied in people's databases. A released migration is never edited: a new line here, no changed one.
FROZEN = {
    1: "b2f4e3613581ce0b9f3158172ccdd35e1fbc06b5393d4494d26908fbdbeb8553",
    2: "1d921ebfe1f9e32f73282e644838d1bdb07bbd2108edba1973d35879e150a29d",
    3: "c380ede1d82c60ec562354ea744dd8eacbef998591b49694876cd8d2fe5d24dc",
    4: "99522471ed203c23ad859059374e6a3954a9e2fec929cc3940192c22beb28fb2",
    5: "5a1f2de2d09d6e6188f5277245934da48ce3c3a2d75cc1cb32e65aeffb17d49a",
    6: "ca40e2520f0ac85a02ea824e88d61df85263aaefae16233af489b916ee317b2e",
    7: "b7815019fbe88e2da404194fdee0ca2570dc7aa6c718f59f01ac3099480bb8c2",
    8: "e93fdf44e2c724d0d99263ab4fc4bb9ece7ef9256127324d8f7f45d66a693822",
    9: "358d69acaf84b627bb2d7a9a4a744ed153cc2a332ff0be2ef184b51d7fc97fd8",
}


def test_migrations_are_numbered_without_gaps_and_frozen() -> None:
    assert [m.number for m in migrations()] == list(range(1, len(migrations()) + 1))
    assert {m.number: m.sha256 for m in migrations()} == FROZEN


def test_the_sql_function_searches_across_and_within_modalities(opened: VectorStore) -> None:
    collection = opened.ensure_collection(CollectionSpec("catalog", dimension=16, multimodal=True))
    vectors = clustered(3_000, 16)
    collection.upsert(
        Record(
            f"r{i}", v, {"n": i}, f"text {i}", modality="image" if i % 50 == 0 else "text", content_id=f"thing{i // 2}"
        )
        for i, v in enumerate(vectors)
    )
    collection.ensure_indexes()
    with opened.transaction() as connection:
        query = str(vectors[100].tolist())
        everything = connection.execute(
            "select * from likewise.find_similar_multimodal(%s::vector, null, 0, 20)", (query,)
        ).fetchall()
        assert everything[0][:4] == ("thing50", pytest.approx(1.0), "image", "text 100")
        assert [row[5] for row in everything] == sorted(row[5] for row in everything)
        images = connection.execute(
            "select similarity, modality from likewise.find_similar_multimodal(%s::vector, 'image', 0, 60, 'catalog')",
            (query,),
        ).fetchall()
        assert len(images) == 60, "a modality that is rare does not shorten the result"
        assert {row[1] for row in images} == {"image"}
        strong = connection.execute(
            "select similarity from likewise.find_similar_multimodal(%s::vector, null, 0.9)", (query,)
        ).fetchall()
        assert strong
        assert all(row[0] >= 0.9 for row in strong)
        before = connection.execute(
            "select current_setting('hnsw.ef_search'), current_setting('hnsw.iterative_scan')"
        ).fetchone()
        connection.execute("select * from likewise.find_similar_multimodal(%s::vector, null, 0, 300)", (query,))
        after = connection.execute(
            "select current_setting('hnsw.ef_search'), current_setting('hnsw.iterative_scan')"
        ).fetchone()
        assert before == after
    expected = [r.record.id for r in collection.search_by_vector(vectors[100], top_k=20)]
    assert [f"text {i.removeprefix('r')}" for i in expected] == [row[3] for row in everything]


@pytest.mark.parametrize(
    ("call", "complaint"),
    [
        ("('[1,2]'::vector)", "dimension"),
        ("('[1,2,3]'::vector, 'sound')", "text or image"),
        ("('[1,2,3]'::vector, query_modality => 'sound')", "query_modality is 'sound'"),
        ("('[1,2,3]'::vector, null, 0.5, 0)", "max_results"),
        ("('[1,2,3]'::vector, null, 0.5, 10, 'absent'' ; drop table things; --')", "no collection"),
        ("(null)", "null"),
    ],
)
def test_the_sql_function_says_what_is_wrong(opened: VectorStore, call: str, complaint: str) -> None:
    opened.ensure_collection(CollectionSpec("things", dimension=3, multimodal=True))
    with pytest.raises(psycopg.Error, match=complaint), opened.transaction() as connection:
        connection.execute(b"select * from likewise.find_similar_multimodal" + call.encode())
