"""The contract's clauses on searching: order, limits, several vectors, embedders, indexes."""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
import pytest
from PIL import Image

from likewise import (
    AsyncCollection,
    AsyncVectorStore,
    CollectionSpec,
    Column,
    DimensionMismatch,
    IndexProgress,
    InvalidArgument,
    InvalidRecord,
    Metadata,
    Record,
    RecordNotFound,
    VectorField,
)

__all__ = ["AsyncSearchClauses"]

SPEC = CollectionSpec("things", dimension=2)


async def circle(store: AsyncVectorStore, metric: Any = "cosine") -> AsyncCollection:
    """Ten records on a quarter of a circle, r0 to r9 away from (1, 0)."""
    collection = await store.ensure_collection(CollectionSpec("circle", dimension=2, metric=metric))
    angles = [math.pi / 2 * i / 9 for i in range(10)]
    await collection.upsert(
        Record(f"r{i}", [math.cos(a), math.sin(a)], {"n": i, "even": i % 2 == 0}, f"text {i}")
        for i, a in enumerate(angles)
    )
    return collection


def picture(colour: str) -> Image.Image:
    return Image.new("RGB", (32, 32), colour)


class AsyncSearchClauses:
    """Clauses C37 to C53."""

    @pytest.mark.parametrize("metric", ["cosine", "l2", "inner_product"])
    async def test_results_are_ordered_by_distance(self, store: AsyncVectorStore, metric: str) -> None:
        """C37: Results are ordered by distance, nearest first, and ranked from 1; distance, score and similarity follow the metric."""
        collection = await circle(store, metric)
        found = await collection.search_by_vector([2, 0], top_k=4)
        assert [r.id for r in found] == ["r0", "r1", "r2", "r3"]
        assert [r.rank for r in found] == [1, 2, 3, 4]
        for i, result in enumerate(found):
            angle = math.pi / 2 * i / 9
            distance, score = {
                "cosine": (1 - math.cos(angle), math.cos(angle)),
                "l2": (math.dist((2, 0), (math.cos(angle), math.sin(angle))), 0.0),
                "inner_product": (-2 * math.cos(angle), 2 * math.cos(angle)),
            }[metric]
            if metric == "l2":
                score = 1 / (1 + distance)
            assert result.distance == pytest.approx(distance, abs=1e-5)
            assert result.score == pytest.approx(score, abs=1e-5)
            assert result.similarity == pytest.approx(min(1, max(0, score)), abs=1e-5)

    async def test_equal_distances_are_ordered_by_id(self, store: AsyncVectorStore) -> None:
        """C38: Results of equal distance are ordered by id."""
        collection = await store.ensure_collection(SPEC)
        await collection.upsert(Record(i, [1, 1]) for i in ["b", "Z", "a", "é"])
        assert [r.id for r in await collection.search_by_vector([1, 1])] == ["Z", "a", "b", "é"]

    async def test_limits_on_distance_and_score(self, store: AsyncVectorStore) -> None:
        """C39: max_distance and min_score keep what is near enough; both bounds are inclusive."""
        collection = await circle(store)
        assert len(await collection.search_by_vector([1, 0], max_distance=0.5)) == 7
        assert len(await collection.search_by_vector([1, 0], min_score=0.6)) == 6
        assert len(await collection.search_by_vector([1, 0], max_distance=0.5, min_score=0.6)) == 6
        assert len(await collection.search_by_vector([1, 0], max_distance=-1)) == 0
        assert len(await collection.search_by_vector([1, 0], max_distance=0.5, top_k=3)) == 3
        exactly = (await collection.search_by_vector([1, 0], top_k=3))[2].distance
        assert len(await collection.search_by_vector([1, 0], max_distance=exactly)) == 3
        wrong: Any
        for wrong in (float("nan"), "1", True):
            with pytest.raises(InvalidArgument):
                await collection.search_by_vector([1, 0], max_distance=wrong)

    async def test_a_result_is_short_only_if_no_more_records_match(self, store: AsyncVectorStore) -> None:
        """C40: A search returns top_k results if that many records match, whatever the filter, and says that it is complete."""
        collection = await store.ensure_collection(CollectionSpec("many", dimension=8))
        rng = np.random.default_rng(0)
        vectors = rng.normal(size=(2_000, 8)) + np.repeat(np.eye(8) * 6, 250, axis=0)
        await collection.upsert(Record(f"r{i}", v, {"n": i, "group": i // 250}) for i, v in enumerate(vectors))
        if store.capabilities.vector_indexes:
            await collection.ensure_indexes()
        for where, matching in (
            (None, 2_000),
            (Metadata("group") == 7, 250),
            (Metadata("n") < 3, 3),
            ((Metadata("n") > 1_990) & (Metadata("group") == 7), 9),
            (Metadata("n") > 5_000, 0),
        ):
            for top_k in (1, 10, 300):
                found = await collection.search_by_vector(vectors[0], top_k=top_k, where=where)
                assert len(found) == min(top_k, matching)
                assert found.complete

    async def test_what_is_returned_is_chosen(self, store: AsyncVectorStore) -> None:
        """C41: include chooses among vector, metadata and content; metadata and content are the default."""
        collection = await circle(store)
        usual = (await collection.search_by_vector([1, 0]))[0].record
        assert (usual.vector, usual.metadata, usual.content) == (None, {"n": 0, "even": True}, "text 0")
        bare = (await collection.search_by_vector([1, 0], include=()))[0].record
        assert (bare.vector, bare.metadata, bare.content) == (None, {}, None)
        full = (await collection.search_by_vector([1, 0], include=["vector"]))[0].record
        assert full.vector is not None
        assert list(full.vector) == [1, 0]
        wrong: Any
        for wrong in (["vectors"], "vector", None, 5):
            with pytest.raises(InvalidArgument, match="include"):
                await collection.search_by_vector([1, 0], include=wrong)

    @pytest.mark.parametrize("top_k", [0, -1, 1.5, True, "3", None, 100_001])
    async def test_top_k_is_a_whole_number(self, store: AsyncVectorStore, top_k: Any) -> None:
        """C42: top_k is a whole number from 1 to 100,000, ef_search one from 1 to 1,000; anything else is an InvalidArgument."""
        collection = await store.ensure_collection(SPEC)
        with pytest.raises(InvalidArgument, match="top_k"):
            await collection.search_by_vector([1, 0], top_k=top_k)
        with pytest.raises(InvalidArgument, match="top_k"):
            await collection.search_many([[1, 0]], top_k=top_k)
        with pytest.raises(InvalidArgument, match="ef_search"):
            await collection.search_by_vector([1, 0], ef_search=5_000)

    @pytest.mark.parametrize(
        "vector", [[float("nan"), 1], [float("inf"), 1], [0, 0], "ab", None, [["a", 1]], [1e39, 0]], ids=ascii
    )
    async def test_a_query_vector_is_checked_like_a_stored_one(self, store: AsyncVectorStore, vector: Any) -> None:
        """C43: A query vector that could not be stored is an InvalidArgument."""
        collection = await store.ensure_collection(SPEC)
        with pytest.raises(InvalidArgument):
            await collection.search_by_vector(vector)
        with pytest.raises(InvalidArgument):
            await collection.search_many([[1, 0], vector])

    async def test_an_empty_collection_finds_nothing(self, store: AsyncVectorStore) -> None:
        """C44: Searching an empty collection finds nothing and is complete."""
        collection = await store.ensure_collection(SPEC)
        found = await collection.search_by_vector([1, 0])
        assert (len(found), found.complete) == (0, True)
        assert [len(f) for f in await collection.search_many([[1, 0], [0, 1]])] == [0, 0]
        assert await collection.search_many([]) == []

    async def test_many_searches_are_as_single_ones(self, store: AsyncVectorStore) -> None:
        """C45: search_many gives for each vector what search_by_vector gives."""
        collection = await circle(store)
        vectors: list[list[float]] = [[1, 0], [0, 1], [1, 1], [-1, 0.5]]
        choices: list[dict[str, Any]] = [{}, {"where": {"even": True}}, {"max_distance": 0.3}]
        for options in choices:
            many = await collection.search_many(vectors, top_k=5, **options)
            for vector, found in zip(vectors, many, strict=True):
                single = await collection.search_by_vector(vector, top_k=5, **options)
                assert [r.id for r in found] == [r.id for r in single]
                assert [r.distance for r in found] == pytest.approx([r.distance for r in single], abs=1e-6)

    async def test_named_vectors_are_searched_by_name(self, store: AsyncVectorStore) -> None:
        """C46: using names the vector to search; records without it are left out; without a name the only vector is meant."""
        spec = CollectionSpec("anime", vectors={"text": VectorField(2), "picture": VectorField(3, metric="l2")})
        anime = await store.ensure_collection(spec)
        await anime.upsert(
            [Record("a", vectors={"text": [1, 0]}), Record("b", vectors={"text": [0, 1], "picture": [0, 0, 1]})]
        )
        assert [r.id for r in await anime.search_by_vector([1, 0], using="text")] == ["a", "b"]
        assert [r.id for r in await anime.search_by_vector([1, 1, 1], using="picture")] == ["b"]
        for using in (None, "sound", ""):
            with pytest.raises(InvalidArgument):
                await anime.search_by_vector([1, 0], using=using)
        one = await store.ensure_collection(CollectionSpec("one", vectors={"only": VectorField(2)}))
        await one.upsert(Record("x", vectors={"only": [1, 0]}))
        assert [r.id for r in await one.search_by_vector([1, 0])] == ["x"]

    async def test_several_vectors_are_fused_by_reciprocal_rank(self, store: AsyncVectorStore) -> None:
        """C47: search_by_vectors ranks by the weighted sum of 1 / (60 + rank), scaled so that first everywhere is 1."""
        spec = CollectionSpec("anime", vectors={"text": VectorField(2), "picture": VectorField(2)})
        anime = await store.ensure_collection(spec)
        await anime.upsert(
            [
                Record("both", vectors={"text": [1, 0.1], "picture": [1, 0.1]}),
                Record("text", vectors={"text": [1, 0], "picture": [-1, 0.1]}),
                Record("picture", vectors={"text": [-1, 0.1], "picture": [1, 0]}),
                Record("only", vectors={"text": [1, 0.2]}),
            ]
        )
        found = await anime.search_by_vectors({"text": [1, 0], "picture": [1, 0]})
        expected = {
            "both": (1 / 62 + 1 / 62) / (2 / 61),
            "text": (1 / 61 + 1 / 63) / (2 / 61),
            "picture": (1 / 64 + 1 / 61) / (2 / 61),
            "only": (1 / 63) / (2 / 61),
        }
        assert [r.id for r in found] == sorted(expected, key=lambda i: -expected[i])
        for result in found:
            assert result.score == pytest.approx(expected[result.id], abs=1e-9)
            assert result.distance == pytest.approx(1 - expected[result.id], abs=1e-9)
        weighted = await anime.search_by_vectors({"text": [1, 0], "picture": [1, 0]}, weights={"picture": 9}, top_k=1)
        assert weighted[0].id == "picture"
        alone = await anime.search_by_vectors({"text": [1, 0]}, top_k=1)
        assert alone[0].score == pytest.approx(1)
        assert len(await anime.search_by_vectors({"text": [1, 0]}, min_score=0.99)) == 1
        assert [r.id for r in await anime.search_by_vectors({"text": [1, 0]}, where=Column("id") == "only")] == ["only"]
        wrong: Any
        for wrong in ({}, {"sound": [1]}, None):
            with pytest.raises(InvalidArgument):
                await anime.search_by_vectors(wrong)
        for wrong in ({"picture": 0}, {"text": -1}, {"text": float("nan")}, {"sound": 1}):
            with pytest.raises(InvalidArgument):
                await anime.search_by_vectors({"text": [1, 0], "picture": [1, 0]}, weights=wrong)

    async def test_texts_and_pictures_are_embedded_on_the_way_in(self, store: AsyncVectorStore) -> None:
        """C48: With an embedder, records without a vector are placed by their picture, else by their content; given vectors stay."""
        collection = await store.ensure_collection(CollectionSpec("mixed", embedder="hashing"))
        own = np.eye(64)[3]
        await collection.upsert(
            [
                Record("text", content="a red dress"),
                Record("picture", content="caption", image=picture("red")),
                Record("own", own, content="ignored"),
            ]
        )
        kept = {r.id: r for r in await collection.get_many(["text", "picture", "own"], include=("vector", "content"))}
        assert [kept[i].modality for i in ("text", "picture", "own")] == ["text", "image", "text"]
        assert [kept[i].content_id for i in ("text", "picture", "own")] == ["text", "picture", "own"]
        assert kept["picture"].content == "caption"
        assert kept["own"].vector is not None
        assert list(kept["own"].vector) == list(own)
        for bad in (Record("x"), Record("x", metadata={"only": "metadata"}), Record("x", image=b"no picture")):
            with pytest.raises(InvalidRecord):
                await collection.upsert([Record("fine", content="fine"), bad])
        assert await collection.count() == 3

    async def test_search_by_text_picture_or_record(self, store: AsyncVectorStore) -> None:
        """C49: search takes a text, a picture or a record's id, exactly one of them; the record itself is left out."""
        collection = await store.ensure_collection(CollectionSpec("mixed", embedder="hashing"))
        out = io.BytesIO()
        picture("blue").save(out, "PNG")
        await collection.upsert(
            [
                Record("dress", content="a red dress"),
                Record("dress2", content="the red dress", metadata={"sale": True}),
                Record("boat", content="sailing boats at sea"),
                Record("blue", image=out.getvalue()),
                Record("red", image=picture("red")),
            ]
        )
        assert [r.id for r in await collection.search("red dress", top_k=2)] == ["dress", "dress2"]
        assert (await collection.search(image=picture("blue")))[0].id == "blue"
        like = await collection.search(like="dress")
        assert like[0].id == "dress2"
        assert "dress" not in {r.id for r in like}
        assert len(like) == 4
        assert [r.id for r in await collection.search("red dress", where={"sale": True})] == ["dress2"]
        several: list[dict[str, Any]] = [{}, {"text": "a", "like": "b"}, {"image": picture("red"), "like": "b"}]
        for arguments in several:
            with pytest.raises(InvalidArgument):
                await collection.search(**arguments)
        with pytest.raises(RecordNotFound):
            await collection.search(like="absent")
        with pytest.raises(InvalidArgument):
            await collection.search(image=b"no picture")

    async def test_a_modality_can_be_asked_for(self, store: AsyncVectorStore) -> None:
        """C50: target_modality keeps to texts or pictures of a multimodal collection; elsewhere it is an InvalidArgument."""
        collection = await store.ensure_collection(CollectionSpec("mixed", embedder="hashing"))
        await collection.upsert([Record("t", content="red"), Record("p", image=picture("red"), content_id="t")])
        assert [r.id for r in await collection.search("red", target_modality="image")] == ["p"]
        assert [r.id for r in await collection.search("red", target_modality="text")] == ["t"]
        assert [r.id for r in await collection.scan(Column("content_id") == "t")] == ["p", "t"]
        assert [r.id for r in await collection.scan({"$modality": "image"})] == ["p"]
        wrong: Any = "sound"
        with pytest.raises(InvalidArgument):
            await collection.search("red", target_modality=wrong)
        plain = await store.ensure_collection(CollectionSpec("plain", embedder="hashing", multimodal=False))
        with pytest.raises(InvalidArgument):
            await plain.search("red", target_modality="text")
        with pytest.raises(InvalidRecord):
            await plain.upsert(Record("x", content="red", content_id="y"))

    async def test_without_an_embedder_texts_are_refused(self, store: AsyncVectorStore) -> None:
        """C51: A collection without an embedder refuses to search by text or picture, and says what to do; like= works."""
        collection = await store.ensure_collection(SPEC)
        await collection.upsert([Record("a", [1, 0]), Record("b", [1, 1]), Record("c", [0, 1])])
        with pytest.raises(InvalidArgument, match="embedder"):
            await collection.search("red")
        with pytest.raises(InvalidRecord, match="vector"):
            await collection.upsert(Record("d", content="red"))
        assert [r.id for r in await collection.search(like="a")] == ["b", "c"]

    async def test_a_search_can_be_explained(self, store: AsyncVectorStore) -> None:
        """C52: explain names the plan, and the index where it was asked; an exact search is exact whatever indexes there are, and finds what the default finds."""
        collection = await circle(store)
        if store.capabilities.vector_indexes:
            await collection.ensure_indexes()
            how = (await collection.search_by_vector([1, 0], top_k=5)).explain()
            assert how.index == ("idx_circle_vector_hnsw" if how.by != "replica" else None)
        exact = await collection.search_by_vector([1, 0], top_k=5, exact=True)
        assert exact.explain().plan == "exact"
        assert exact.explain().index is None
        usual = await collection.search_by_vector([1, 0], top_k=5, ef_search=50)
        assert [r.id for r in usual] == [r.id for r in exact]
        assert usual[0].id in repr(usual)

    async def test_recall_is_measured(self, store: AsyncVectorStore) -> None:
        """C53: recall compares the index with exact search on stored vectors: 1.0 without an index, an error when there is nothing."""
        collection = await circle(store)
        assert await collection.recall(k=3, sample=5) == 1.0
        if store.capabilities.vector_indexes:
            await collection.ensure_indexes()
            assert await collection.recall(k=3, sample=10) >= 0.9
        empty = await store.ensure_collection(SPEC)
        with pytest.raises(InvalidArgument, match="empty"):
            await empty.recall()
        with pytest.raises(InvalidArgument):
            await collection.recall(k=0)

    async def test_recall_is_measured_on_queries(self, store: AsyncVectorStore) -> None:
        """C62: recall is measured on queries that are given, or on those that were asked last."""
        collection = await circle(store)
        with pytest.raises(InvalidArgument, match="no recent queries"):
            await collection.recall(queries="recent")
        if store.capabilities.vector_indexes:
            await collection.ensure_indexes()
        await collection.search_by_vector([0.6, 0.8], top_k=3)
        assert await collection.recall(k=3, queries="recent") == 1.0
        assert await collection.recall(k=3, queries=[[0.8, 0.6], [1, 0]]) == 1.0
        wrong: list[Any] = ["latest", [], [[1, 0, 0]], [["a", "b"]]]
        for queries in wrong:
            with pytest.raises((InvalidArgument, DimensionMismatch)):
                await collection.recall(queries=queries)

    async def test_recall_is_asked_for(self, store: AsyncVectorStore) -> None:
        """C60: recall is above 0 and up to 1, and says the same as ef_search in other words; all of it means every record."""
        collection = await circle(store)
        if store.capabilities.vector_indexes:
            await collection.ensure_indexes()
        usual = await collection.search_by_vector([1, 0], top_k=5)
        for recall in (0.5, 0.95, 1, 1.0):
            found = await collection.search_by_vector([1, 0], top_k=5, recall=recall)
            assert [r.id for r in found] == [r.id for r in usual]
            (many,) = await collection.search_many([[1, 0]], top_k=5, recall=recall)
            assert [r.id for r in many] == [r.id for r in usual]
        assert (await collection.search_by_vector([1, 0], recall=1)).explain().plan == "exact"
        wrong: list[Any] = [0, -0.5, 1.01, float("nan"), True, "0.9"]
        for recall in wrong:
            with pytest.raises(InvalidArgument, match="recall"):
                await collection.search_by_vector([1, 0], recall=recall)
        with pytest.raises(InvalidArgument, match="one of them"):
            await collection.search_many([[1, 0]], recall=0.9, ef_search=100)

    async def test_every_vector_has_its_health(self, store: AsyncVectorStore) -> None:
        """C61: what each vector is served by is said, and what is built is told of."""
        collection = await circle(store)
        (bare,) = await collection.index_health()
        assert (bare.vector, bare.index, bare.size, bare.recall) == ("", None, 0, None)
        if store.capabilities.vector_indexes:
            heard: list[IndexProgress] = []
            built = await collection.ensure_indexes(progress=heard.append)
            assert {each.index for each in heard if each.phase == "done"} == {index.name for index in built}
            assert heard[-1].phase == "done"
            heard.clear()
            await collection.ensure_indexes(progress=heard.append)
            assert heard == []
            (served,) = await collection.index_health()
            assert served.index is not None
            assert served.index.method == "hnsw"
            assert served.size > 0
            assert served.recall == 1.0
