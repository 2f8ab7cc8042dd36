"""Similarity is the same in SQL as in Python, and calibration survives what a database goes through."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Literal

import numpy as np
import pytest

import likewise
from likewise import Calibration, Collection, CollectionSpec, Curve, InvalidArgument, Record, VectorStore
from likewise_demo_data import DIRECTORY

GAP = Calibration(
    text_text=Curve(0.80, 0.04), text_image=Curve(0.12, 0.05), image_image=Curve(0.7, 0.06), source="made up"
)
KINDS: tuple[Literal["text", "image"], ...] = ("text", "image")


@pytest.fixture
def opened(fresh_database_url: str) -> Iterator[VectorStore]:
    with likewise.connect(fresh_database_url) as opened:
        yield opened


def filled(opened: VectorStore, metric: Literal["cosine", "l2", "inner_product"] = "cosine") -> Collection:
    """2,000 records, every twentieth a picture, with a gap between the modalities; unit vectors."""
    collection = opened.ensure_collection(
        CollectionSpec("catalog", dimension=32, metric=metric, multimodal=True, calibration=GAP)
    )
    draw = np.random.default_rng(0)
    vectors = draw.normal(size=(2_000, 32)).astype(np.float32)
    images = np.arange(2_000) % 20 == 0
    vectors[:, 0] += np.where(images, -3.0, 9.0)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    collection.upsert_columns(
        ids=[f"r{n}" for n in range(2_000)],
        vectors=vectors,
        modality=[KINDS[int(is_image)] for is_image in images],
    )
    return collection


@pytest.mark.parametrize("metric", ["cosine", "l2", "inner_product"])
@pytest.mark.parametrize("indexed", [False, True], ids=["unindexed", "indexed"])
def test_sql_gives_what_python_gives(
    opened: VectorStore, metric: Literal["cosine", "l2", "inner_product"], indexed: bool
) -> None:
    collection = filled(opened, metric)
    if indexed:
        collection.ensure_indexes()
    query = collection.get("r7", include=("vector",)).vector
    assert isinstance(query, np.ndarray)
    for modality in KINDS:
        for target in (None, *KINDS):
            found = collection.search(
                vector=query,
                query_modality=modality,
                target_modality=target,
                top_k=15,
                min_similarity=0.02,
                exact=not indexed,
            )
            with opened.transaction() as connection:
                rows = connection.execute(
                    "select content_id, similarity, modality, distance"
                    " from likewise.find_similar_multimodal(%s::vector, %s, 0.02, 15, 'catalog', %s)",
                    (str(query.tolist()), target, modality),
                ).fetchall()
            assert [row[0] for row in rows] == [r.record.content_id for r in found]
            assert [row[1] for row in rows] == pytest.approx([r.similarity for r in found], abs=1e-4)
            assert {row[2] for row in rows} == {r.record.modality for r in found}
    with opened.transaction() as connection:
        rows = connection.execute(
            "select similarity, distance from likewise.find_similar_multimodal(%s::vector, null, 0, 5, 'catalog', null)",
            (str(query.tolist()),),
        ).fetchall()
    plain = collection.search_by_vector(query, top_k=5)
    assert [tuple(row) for row in rows] == [
        (pytest.approx(r.similarity, abs=1e-5), pytest.approx(r.distance, abs=1e-5)) for r in plain
    ]


def test_one_kind_among_many_of_another_is_found_by_its_index(opened: VectorStore) -> None:
    collection = filled(opened)
    collection.delete(where=likewise.Column("modality") == "image")
    collection.upsert(Record("picture", -np.eye(32)[0], modality="image"))
    collection.ensure_indexes()
    found = collection.search(vector=[1.0] * 32, query_modality="text", top_k=2_000)
    assert len(found) == 1_901
    with opened.transaction() as connection:
        connection.execute("analyze catalog")
        lines = [
            line
            for (line,) in connection.execute(
                "explain select id from catalog where modality = 'image' order by vector <=> %s::vector limit 5",
                (str([1.0] * 32),),
            )
        ]
    assert any("idx_catalog_modality" in line for line in lines), lines


def test_a_calibration_is_seen_by_another_store_and_by_sql(opened: VectorStore, fresh_database_url: str) -> None:
    collection = filled(opened)
    query = [1.0] + [0.0] * 31
    with likewise.connect(fresh_database_url) as other:
        theirs = other.collection("catalog")
        theirs.set_calibration(Calibration(text_text=Curve(0.5, 0.1)))
        assert other.collections()[0].calibration == Calibration(text_text=Curve(0.5, 0.1))
    first = opened.collection("catalog").search(vector=query, query_modality="text", top_k=1)[0]
    assert first.similarity == pytest.approx(Curve(0.5, 0.1).apply(first.score))
    with opened.transaction() as connection:
        (row,) = connection.execute(
            "select similarity from likewise.find_similar_multimodal(%s::vector, 'text', 0, 1)", (str(query),)
        ).fetchall()
        assert row[0] == pytest.approx(first.similarity, abs=1e-5)
        with pytest.raises(InvalidArgument):
            collection.using(connection).calibrate([("a text without a model", "r1")] * 20)


def test_calibrating_takes_part_in_a_transaction(opened: VectorStore) -> None:
    collection = filled(opened)
    with pytest.raises(KeyError), opened.transaction() as connection:
        inside = collection.using(connection)
        fitted = inside.calibrate(sample=100)
        assert inside.spec.calibration == fitted
        raise KeyError
    assert opened.collection("catalog").spec.calibration == GAP


def test_real_texts_and_pictures_share_a_ranking_and_a_threshold(opened: VectorStore) -> None:
    entries = json.loads((DIRECTORY / "catalog.json").read_text("utf-8"))[::3]
    shown, told = entries[::2], entries[1::2]
    collection = opened.ensure_collection(CollectionSpec("stamps", embedder="mini"))
    collection.upsert(
        [
            *(Record(entry["id"], image=DIRECTORY / entry["image"]) for entry in shown),
            *(Record(entry["id"], content=entry["caption"]) for entry in told),
        ]
    )
    found: dict[str, int] = {"by cosine": 0, "together": 0, "at 0.8": 0, "at 0.8, wrong": 0}
    for entry in shown:
        caption = entry["caption"]
        vector = collection.embedder.embed_queries([caption])[0] if collection.embedder else []
        found["by cosine"] += entry["id"] in [r.id for r in collection.search_by_vector(vector, top_k=3)]
        found["together"] += entry["id"] in [r.id for r in collection.search(caption, top_k=3)]
        strong = [r.id for r in collection.search(caption, top_k=len(entries), min_similarity=0.8)]
        found["at 0.8"] += entry["id"] in strong
        found["at 0.8, wrong"] += len(set(strong) - {entry["id"]})
    assert found["together"] >= found["by cosine"] + 3, "texts no longer stand before every picture"
    # As measured: 20 of 43 to 14, 18 of 43, and 66 of 3,655 pairs.
    assert found["at 0.8"] >= len(shown) / 3, "0.8 is within reach of pictures"
    assert found["at 0.8, wrong"] <= 0.03 * len(shown) * len(entries), "and of few others"
