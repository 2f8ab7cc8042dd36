"""The contract's clauses on collections: making, opening, comparing, dropping them."""

from __future__ import annotations

from typing import Any

import pytest

from likewise import (
    AsyncVectorStore,
    CollectionNotFound,
    CollectionSpec,
    InvalidArgument,
    Record,
    SchemaMismatch,
    UnsupportedFeature,
    VectorField,
)

__all__ = ["AsyncCollectionClauses"]


class AsyncCollectionClauses:
    """Clauses C1 to C9."""

    async def test_a_collection_is_made_once_and_opened_again(self, store: AsyncVectorStore) -> None:
        """C1: ensure_collection makes what is not there, and opens what is."""
        spec = CollectionSpec("things", dimension=3)
        first = await store.ensure_collection(spec)
        await first.upsert(Record("a", [1, 0, 0]))
        second = await store.ensure_collection(spec)
        assert second.name == "things"
        assert second.spec.dimension == 3
        assert await second.count() == 1
        assert await (await store.collection("things")).count() == 1

    async def test_an_unknown_collection_is_an_error_that_names_the_known_ones(self, store: AsyncVectorStore) -> None:
        """C2: collection and drop_collection raise CollectionNotFound with the names that are known."""
        await store.ensure_collection(CollectionSpec("things", dimension=3))
        with pytest.raises(CollectionNotFound) as caught:
            await store.collection("absent")
        assert caught.value.collection == "absent"
        assert caught.value.known == ("things",)
        with pytest.raises(CollectionNotFound):
            await store.drop_collection("absent")
        await store.drop_collection("absent", missing_ok=True)

    async def test_collections_are_listed_by_name(self, store: AsyncVectorStore) -> None:
        """C3: collections lists every specification in the order of the names; dropped ones are gone with their records."""
        for name in ("b", "a", "_c"):
            await (await store.ensure_collection(CollectionSpec(name, dimension=2))).upsert(Record("x", [1, 1]))
        assert [spec.name for spec in await store.collections()] == ["_c", "a", "b"]
        dropped = await store.collection("a")
        await store.drop_collection("a")
        assert [spec.name for spec in await store.collections()] == ["_c", "b"]
        with pytest.raises(CollectionNotFound):
            await dropped.count()
        assert await (await store.ensure_collection(CollectionSpec("a", dimension=2))).count() == 0

    @pytest.mark.parametrize("name", ["", "1a", "a-b", "a b", "é", 'q"', "a;b", "a" * 64, "a\n", None, 5])
    async def test_a_name_is_letters_digits_and_underscores(self, store: AsyncVectorStore, name: Any) -> None:
        """C4: A collection's name is up to 63 letters of the English alphabet, digits and underscores; anything else is refused."""
        with pytest.raises(InvalidArgument):
            CollectionSpec(name, dimension=3)
        longest = await store.ensure_collection(CollectionSpec("Z" * 63, dimension=1))
        assert longest.name == "Z" * 63

    @pytest.mark.parametrize(
        ("other", "difference"),
        [
            (CollectionSpec("things", dimension=4), "dimension"),
            (CollectionSpec("things", dimension=3, metric="l2"), "metric"),
            (CollectionSpec("things", dimension=3, storage="halfvec"), "storage"),
            (CollectionSpec("things", dimension=3, vectors={"more": VectorField(2)}), "'more'"),
            (CollectionSpec("things", dimension=3, multimodal=True), "multimodal"),
            (CollectionSpec("things", vectors={"text": VectorField(3)}), "'text'"),
            (CollectionSpec("things", embedder="hashing"), "embedder"),
        ],
        ids=str,
    )
    async def test_strict_mode_refuses_any_difference(
        self, store: AsyncVectorStore, other: CollectionSpec, difference: str
    ) -> None:
        """C5: In strict mode a stored collection that differs raises SchemaMismatch, which lists every difference."""
        await store.ensure_collection(CollectionSpec("things", dimension=3))
        with pytest.raises(SchemaMismatch, match=difference) as caught:
            await store.ensure_collection(other)
        assert caught.value.collection == "things"
        assert caught.value.differences
        assert (await store.collection("things")).spec.dimension == 3

    async def test_auto_migrate_adds_what_is_optional(self, store: AsyncVectorStore) -> None:
        """C6: In auto_migrate mode named vectors and the multimodal columns are added; records stay, as texts about themselves."""
        first = await store.ensure_collection(CollectionSpec("things", dimension=3))
        await first.upsert(Record("a", [1, 0, 0], {"n": 1}, "text"))
        wider = CollectionSpec(
            "things", dimension=3, vectors={"more": VectorField(2)}, multimodal=True, mode="auto_migrate"
        )
        collection = await store.ensure_collection(wider)
        kept = await collection.get("a", include=("vector", "metadata", "content"))
        assert (kept.metadata, kept.content, kept.modality, kept.content_id) == ({"n": 1}, "text", "text", "a")
        assert kept.vectors == {}
        await collection.upsert(Record("b", [0, 1, 0], vectors={"more": [1, 1]}, modality="image", content_id="a"))
        assert [r.id for r in await collection.search_by_vector([1, 1], using="more")] == ["b"]
        assert (await store.ensure_collection(wider)).spec.multimodal is True

    async def test_auto_migrate_never_changes_a_dimension_or_a_metric(self, store: AsyncVectorStore) -> None:
        """C7: The dimension and metric of a stored vector are an error in both modes."""
        await store.ensure_collection(CollectionSpec("things", dimension=3))
        with pytest.raises(SchemaMismatch, match="dimension"):
            await store.ensure_collection(CollectionSpec("things", dimension=4, mode="auto_migrate"))
        with pytest.raises(SchemaMismatch, match="metric"):
            await store.ensure_collection(CollectionSpec("things", dimension=3, metric="l2", mode="auto_migrate"))

    async def test_a_collection_remembers_its_embedder(self, store: AsyncVectorStore) -> None:
        """C8: With an embedder the dimension comes from its card, and the collection opens with it again."""
        made = await store.ensure_collection(CollectionSpec("things", embedder="hashing:16"))
        assert made.spec.dimension == 16
        assert made.spec.multimodal is True
        opened = await store.collection("things")
        assert opened.embedder is not None
        assert opened.embedder.card.name == "hashing:16"
        assert opened.spec == made.spec
        with pytest.raises(InvalidArgument, match="dimension"):
            await store.ensure_collection(CollectionSpec("others", dimension=5, embedder="hashing:16"))
        with pytest.raises(SchemaMismatch, match="hashing:16"):
            await store.ensure_collection(CollectionSpec("things", embedder="hashing:32"))

    async def test_what_a_backend_cannot_do_is_said(self, store: AsyncVectorStore) -> None:
        """C9: What the capabilities exclude raises UnsupportedFeature; what they include works."""
        collection = await store.ensure_collection(CollectionSpec("things", dimension=3))
        can = store.capabilities
        assert (await store.info()).backend == can.backend
        assert store.url
        if can.transactions:
            async with store.transaction() as connection:
                await collection.using(connection).upsert(Record("a", [1, 0, 0]))
            assert await collection.count() == 1
        else:
            with pytest.raises(UnsupportedFeature):
                store.transaction()
            with pytest.raises(UnsupportedFeature):
                collection.using(object())
        if can.vector_indexes:
            assert {index.method for index in await collection.ensure_indexes()} >= {"hnsw"}
        else:
            with pytest.raises(UnsupportedFeature):
                await collection.ensure_indexes()
            assert await collection.indexes() == []
