# Generated from src/likewise/testing/clauses_similarity_async.py by tools/async_to_sync.py; edit that file instead.
"""The contract's clauses on similarity: calibrations, and texts and pictures in one ranking."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import pytest

from likewise import (
    Calibration,
    Collection,
    CollectionSpec,
    Curve,
    InvalidArgument,
    Record,
    RecordNotFound,
    SchemaMismatch,
    VectorField,
    VectorStore,
)

__all__ = ["SimilarityClauses"]

#: As of CLIP: texts lie at 0.5 to 0.9 of texts, pictures at 0.1 to 0.4.
GAP = Calibration(text_text=Curve(0.8, 0.04), text_image=Curve(0.26, 0.02), source="made up")


def at(cosine: float) -> list[float]:
    """The unit vector with this cosine to (1, 0)."""
    return [cosine, math.sqrt(1 - cosine * cosine)]


KINDS: tuple[tuple[Literal["text", "image"], float], ...] = (("text", 0.55), ("image", 0.05))


def gap(store: VectorStore, metric: Any = "cosine", **spec: Any) -> Collection:
    """Ten texts and ten pictures with a gap between them: every text is nearer to (1, 0) than every picture."""
    collection = store.ensure_collection(
        CollectionSpec("gap", dimension=2, metric=metric, **{"multimodal": True, "calibration": GAP, **spec})
    )
    collection.upsert(
        Record(f"{kind}{n}", at(first + 0.03 * n), {"n": n}, modality=kind) for kind, first in KINDS for n in range(10)
    )
    return collection


class SimilarityClauses:
    """Clauses C63 to C68."""

    @pytest.mark.parametrize("metric", ["cosine", "l2", "inner_product"])
    def test_similarity_is_calibrated(self, store: VectorStore, metric: str) -> None:
        """C63: search gives the similarity that the calibration has of a score, and min_similarity is a bound on it."""
        collection = gap(store, metric)
        for kind, first in KINDS:
            curve = GAP.curve("text-text" if kind == "text" else "text-image")
            found = collection.search(vector=[1, 0], query_modality="text", target_modality=kind)
            assert [r.id for r in found] == [f"{kind}{n}" for n in reversed(range(10))]
            for n, result in zip(reversed(range(10)), found, strict=True):
                assert result.similarity == pytest.approx(curve.apply(first + 0.03 * n), abs=1e-4)
            bound = found[3].similarity
            near = collection.search(
                vector=[1, 0],
                query_modality="text",
                target_modality=kind,
                min_similarity=bound,
            )
            assert [r.id for r in near] == [r.id for r in found[:4]]
        # No map for the pair, and a vector of who knows what: the score as it is.
        queries: tuple[Literal["image"] | None, ...] = ("image", None)
        for query in queries:
            found = collection.search(vector=[1, 0], query_modality=query, target_modality="image", top_k=2)
            assert [r.similarity for r in found] == [pytest.approx(min(1.0, max(0.0, r.score))) for r in found]
        found = collection.search_by_vector([1, 0], top_k=3)
        assert [r.similarity for r in found] == [pytest.approx(min(1.0, max(0.0, r.score))) for r in found]
        bounded = collection.search(vector=[1, 0], min_similarity=found[1].similarity)
        assert [r.id for r in bounded] == ["text9", "text8"]
        wrong: Any
        for wrong in (-0.1, 1.1, float("nan"), "1", True):
            with pytest.raises(InvalidArgument, match="min_similarity"):
                collection.search(vector=[1, 0], min_similarity=wrong)
        with pytest.raises(InvalidArgument, match="query_modality"):
            collection.search(vector=[1, 0], query_modality="sound")  # type: ignore[arg-type]
        with pytest.raises(InvalidArgument, match="query_modality"):
            collection.search(like="text1", query_modality="text")

    def test_records_of_other_collections_are_texts(self, store: VectorStore) -> None:
        """C67: Where there are no modalities, the calibration is that of two texts."""
        collection = store.ensure_collection(CollectionSpec("plain", dimension=2, calibration=GAP))
        collection.upsert(Record("a", at(0.8)))
        assert collection.search(vector=[1, 0], query_modality="text")[0].similarity == pytest.approx(0.5, abs=1e-4)
        assert collection.search(vector=[1, 0], query_modality="image")[0].similarity == pytest.approx(1, abs=1e-4)
        collection.upsert(Record("b", [1, 0]))
        assert collection.search(like="b")[0].similarity == pytest.approx(0.5, abs=1e-4)

    def test_texts_and_pictures_are_ranked_together(self, store: VectorStore) -> None:
        """C64: The nearest texts and the nearest pictures are ranked together by similarity."""
        collection = gap(store)
        by_distance = collection.search_by_vector([1, 0])
        assert {r.record.modality for r in by_distance} == {"text"}
        found = collection.search(vector=[1, 0], query_modality="text")
        assert [r.id for r in found[:4]] == ["image9", "image8", "text9", "image7"]
        assert [r.rank for r in found] == list(range(1, 11))
        assert [r.similarity for r in found] == sorted((r.similarity for r in found), reverse=True)
        assert found.complete
        assert found.explain().plan == "fused"
        assert set(found.explain().legs) == {"text", "image"}
        # Filters and bounds hold in both; so does top_k.
        even = collection.search(vector=[1, 0], query_modality="text", where={"n": {"$lt": 8}}, top_k=3)
        assert [r.id for r in even] == ["image7", "text7", "image6"]
        assert len(collection.search(vector=[1, 0], query_modality="text", top_k=100)) == 20
        strong = collection.search(vector=[1, 0], query_modality="text", min_similarity=0.8)
        assert [r.id for r in strong] == [r.id for r in found if r.similarity >= 0.8]
        assert {r.record.modality for r in strong} == {"image"}
        like = collection.search(like="text9", top_k=100)
        assert len(like) == 19
        # A query whose pairs have no maps is ranked by distance.
        assert [r.id for r in collection.search(vector=[1, 0], query_modality="image")] == [r.id for r in by_distance]

    def test_the_calibration_is_stored(self, store: VectorStore) -> None:
        """C65: A collection has the calibration of its model, or its own; ensuring leaves it, set_calibration replaces it."""
        mini = store.ensure_collection(CollectionSpec("modelled", embedder="mini"))
        assert mini.embedder is not None
        own = mini.embedder.card.calibration
        assert own is not None
        assert store.collection("modelled").spec.calibration == own
        none = store.ensure_collection(CollectionSpec("uncalibrated", embedder="mini", calibration=None))
        assert store.collection("uncalibrated").spec.calibration is none.spec.calibration is None
        collection = gap(store)
        assert store.collection("gap").spec.calibration == GAP
        assert (store.ensure_collection(CollectionSpec("gap", dimension=2, multimodal=True))).spec.calibration == GAP
        other = Calibration(text_text=Curve(0.5, 0.1))
        wanted = CollectionSpec("gap", dimension=2, multimodal=True, calibration=other)
        with pytest.raises(SchemaMismatch, match="calibration"):
            store.ensure_collection(wanted)
        migrating = CollectionSpec("gap", dimension=2, multimodal=True, calibration=other, mode="auto_migrate")
        assert store.ensure_collection(migrating).spec.calibration == other
        assert store.collection("gap").spec.calibration == other
        again = store.collection("gap")
        again.set_calibration(GAP)
        assert again.spec.calibration == store.collection("gap").spec.calibration == GAP
        again.set_calibration(None)
        assert store.collection("gap").spec.calibration is None
        assert again.search(vector=[1, 0], query_modality="text")[0].id == "text9"
        with pytest.raises(InvalidArgument, match="calibration"):
            collection.set_calibration("strict")  # type: ignore[arg-type]
        with pytest.raises(InvalidArgument, match="calibration"):
            CollectionSpec("gap", dimension=2, calibration="strict")  # type: ignore[arg-type]
        # It is for the collection's own vector.
        named = store.ensure_collection(CollectionSpec("named", vectors={"shape": VectorField(2)}))
        with pytest.raises(InvalidArgument, match="named vectors only"):
            named.set_calibration(GAP)
        with pytest.raises(InvalidArgument, match="named vectors only"):
            named.calibrate()
        with pytest.raises(InvalidArgument, match="named vectors only"):
            CollectionSpec("named", vectors={"shape": VectorField(2)}, calibration=GAP)

    def test_a_calibration_is_fitted(self, store: VectorStore) -> None:
        """C66: calibrate fits to texts and pictures of one thing, and else to random pairs."""
        collection = store.ensure_collection(CollectionSpec("fitted", dimension=64, multimodal=True))
        with pytest.raises(InvalidArgument, match="too few"):
            collection.calibrate()
        draw = np.random.default_rng(7)
        things = draw.normal(size=(60, 64))
        pull = np.zeros(64)
        pull[0] = 6.0
        # Texts are pulled to one side and pictures to the other: a gap between modalities.
        collection.upsert(
            Record(
                f"{kind}{n}",
                thing + (pull if kind == "text" else -pull) + 0.3 * draw.normal(size=64),
                modality=kind,
                content_id=f"thing{n}",
            )
            for kind, _ in KINDS
            for n, thing in enumerate(things)
        )
        tried = collection.calibrate(save=False)
        assert store.collection("fitted").spec.calibration is None
        assert tried.pairs == ("text-text", "text-image", "image-image")
        assert tried.curve("text-image").matched == 60
        assert tried.curve("text-text").matched == 0
        assert tried.curve("text-image").midpoint < 0.1 < tried.curve("text-text").midpoint
        saved = collection.calibrate(sample=50)
        assert store.collection("fitted").spec.calibration == saved == collection.spec.calibration
        found = collection.search(vector=things[0] + pull, query_modality="text")
        assert [r.id for r in found[:2]] == ["text0", "image0"]
        assert {r.record.modality for r in collection.search_by_vector(things[0] + pull)} == {"text"}
        with pytest.raises(RecordNotFound):
            collection.calibrate([("a text", "nothing")])
        for wrong in (["text1"], [("a", "b", "c")], [("a", 1)]):
            with pytest.raises(InvalidArgument, match=r"matches\[0\]"):
                collection.calibrate(wrong)  # type: ignore[arg-type]
        assert store.collection("fitted").spec.calibration == saved

    def test_a_calibration_is_fitted_to_queries(self, store: VectorStore) -> None:
        """C68: Queries and what they should find are embedded; too few of them, and such as find nothing, are refused."""
        collection = store.ensure_collection(CollectionSpec("asked", embedder="hashing:64"))
        words = [
            "ferry",
            "bread",
            "violin",
            "harbour",
            "pepper",
            "glacier",
            "lantern",
            "meadow",
            "copper",
            "sparrow",
            "orchid",
            "anvil",
        ]
        collection.upsert(Record(word, content=f"{word} {word} stands here") for word in words)
        fitted = collection.calibrate([(f"the {word} here", word) for word in words])
        assert fitted.curve("text-text").matched == 12
        found = collection.search("the anvil here")
        assert found[0].id == "anvil"
        assert found[0].similarity > 0.5 > found[1].similarity
        with pytest.raises(InvalidArgument, match="10 at least"):
            collection.calibrate([(f"the {word}", word) for word in words[:9]])
        with pytest.raises(InvalidArgument, match="do not score higher"):
            collection.calibrate([(f"the {word} here", words[n - 1]) for n, word in enumerate(words)])
        assert store.collection("asked").spec.calibration == fitted
