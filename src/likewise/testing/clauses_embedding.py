# Generated from src/likewise/testing/clauses_embedding_async.py by tools/async_to_sync.py; edit that file instead.
"""The contract's clauses on collections that have a model: what is embedded, by which model, and what cannot be."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from likewise import (
    Collection,
    CollectionSpec,
    InvalidRecord,
    ModelCard,
    ModelNotAvailable,
    Record,
    SchemaMismatch,
    VectorStore,
)
from likewise.abc import ImageInput
from likewise.embedding import HashingEmbedder, register_embedder
from likewise.errors import InvalidArgument
from likewise.records import Include

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["EmbeddingClauses"]

SPEC = CollectionSpec("things", embedder="contract")
EVERYTHING: Include = ("vector", "metadata", "content")


class Counting(HashingEmbedder):
    """Counts what it embeds, and refuses texts with a certain word in them without saying where, as some models do."""

    def __init__(self, revision: str = "1", dimension: int = 16) -> None:
        super().__init__(dimension)
        self.texts: list[str] = []
        self.images = 0
        self._counting = ModelCard("contract", dimension, ("text", "image"), revision=revision)

    @property
    def card(self) -> ModelCard:
        return self._counting

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        if any("unspeakable" in text for text in texts if isinstance(text, str)):
            raise InvalidArgument("these texts cannot be embedded")
        vectors = super().embed_texts(texts)
        self.texts += texts
        return vectors

    def embed_images(self, images: Sequence[ImageInput]) -> NDArray[np.float32]:
        vectors = super().embed_images(images)
        self.images += len(images)
        return vectors

    def asked(self) -> tuple[list[str], int]:
        """The texts in order, and how many pictures, since the last time."""
        result = sorted(self.texts), self.images
        self.texts, self.images = [], 0
        return result


def registered(revision: str = "1", dimension: int = 16) -> Counting:
    model = Counting(revision, dimension)
    register_embedder("contract", lambda _: model)
    return model


def png(colour: str) -> bytes:
    from PIL import Image

    out = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(out, "PNG")
    return out.getvalue()


def vector_of(collection: Collection, record_id: str) -> list[float]:
    vector = collection.get(record_id, include=("vector",)).vector
    assert vector is not None
    return [float(number) for number in vector]


class EmbeddingClauses:
    """Clauses C69 to C72."""

    def test_what_has_not_changed_is_not_embedded_again(self, store: VectorStore) -> None:
        """C69: upsert and load keep the vector of a text or picture that the same model has embedded for the id; the rest is written."""
        model = registered()
        things = store.ensure_collection(SPEC)
        records = [
            Record("text", content="a red dress", metadata={"n": 1}),
            Record("picture", image=png("red"), content="caption"),
            Record("twin", content="a red dress"),
        ]
        things.upsert(records)
        assert model.asked() == (["a red dress"], 1), "equal texts of a batch are embedded once"
        before = {i: vector_of(things, i) for i in ("text", "picture", "twin")}
        assert before["text"] == before["twin"]
        things.upsert([Record("text", content="a red dress", metadata={"n": 2}), *records[1:]])
        things.load(records[1:])
        things.upsert_columns(ids=["text"], content=["a red dress"], metadata=[{"n": 3}])
        things.upsert(Record("picture", image=png("red"), content="another caption"))
        assert model.asked() == ([], 0)
        kept = things.get("text", include=EVERYTHING)
        assert (kept.metadata, kept.content) == ({"n": 3}, "a red dress")
        assert things.get("picture").content == "another caption"
        assert {i: vector_of(things, i) for i in before} == before
        things.upsert([Record("text", content="a blue dress"), Record("picture", image=png("blue")), records[2]])
        assert model.asked() == (["a blue dress"], 1)
        assert vector_of(things, "text") != before["text"]
        things.upsert(Record("picture", content="a blue dress"))
        assert model.asked() == (["a blue dress"], 0), "what another record holds, or held, does not count"
        things.upsert(Record("text", np.eye(16)[0], content="a blue dress"))
        things.upsert(Record("text", content="a blue dress"))
        assert model.asked() == (["a blue dress"], 0), "a vector that was given is not the model's"
        things.delete("text")
        things.insert(Record("text", content="a blue dress"))
        assert model.asked() == (["a blue dress"], 0)
        things.upsert([Record("text", content="x"), Record("text", content="a blue dress")])
        assert model.asked() == (["x"], 0)
        assert things.get("text").content == "a blue dress"

    @pytest.mark.parametrize("by_column", [False, True])
    def test_many_unchanged_records_are_not_embedded_again(self, store: VectorStore, by_column: bool) -> None:
        """C70: However many records a call writes, and by whichever way, only those that are new or have changed are embedded."""
        model = registered()
        things = store.ensure_collection(SPEC)
        texts = [f"text number {i}" for i in range(1_300)]
        ids = [f"r{i:04}" for i in range(1_300)]

        def write() -> int:
            if by_column:
                return things.upsert_columns(ids=ids, content=texts)
            return things.upsert(Record(i, content=text) for i, text in zip(ids, texts, strict=True))

        assert write() == 1_300
        assert len(model.asked()[0]) == 1_300
        texts[700] = "another text"
        assert write() == 1_300
        assert model.asked() == (["another text"], 0)
        report = things.load((Record(i, content=text) for i, text in zip(ids, texts, strict=True)), part_rows=600)
        assert (report.written, model.asked()) == (1_300, ([], 0))
        assert things.search("another text", top_k=1)[0].id == "r0700"
        assert things.count() == 1_300

    def test_another_model_of_the_same_name_is_refused(self, store: VectorStore) -> None:
        """C71: A model of another revision or dimension is a SchemaMismatch naming both; a model that is not there embeds nothing."""
        registered("1")
        made = store.ensure_collection(SPEC)
        made.upsert(Record("a", content="a red dress"))
        for revision, dimension in (("2", 16), ("1", 32)):
            registered(revision, dimension)
            wanted: Any
            for wanted in (SPEC, CollectionSpec("things", embedder="contract", mode="auto_migrate")):
                with pytest.raises(SchemaMismatch) as caught:
                    store.ensure_collection(wanted)
                assert "revision '1' with 16 dimensions" in str(caught.value)
                assert f"revision '{revision}' with {dimension} dimensions" in str(caught.value)
                assert caught.value.differences
            self._searches_by_vector_only(store, f"revision '{revision}'")

        def missing(variant: str) -> Counting:
            raise ValueError("install the package 'contract-models'")

        register_embedder("contract", missing)
        with pytest.raises(ModelNotAvailable, match="contract-models"):
            store.ensure_collection(SPEC)
        self._searches_by_vector_only(store, "contract-models")
        model = registered("1")
        again = store.ensure_collection(SPEC)
        again.upsert(Record("a", content="a red dress"))
        assert model.asked() == ([], 0)

    def _searches_by_vector_only(self, store: VectorStore, why: str) -> None:
        things = store.collection("things")
        assert things.embedder is not None
        assert things.embedder.card.name == "contract"
        assert [r.id for r in things.search_by_vector(np.eye(16)[0])] == ["a"]
        assert [r.id for r in things.search(like="a")] == []
        things.upsert(Record("b", np.eye(16)[1]))
        calls: list[Callable[[], Any]] = [
            lambda: things.search("dress"),
            lambda: things.search(image=png("red")),
            lambda: things.upsert(Record("c", content="text")),
            lambda: things.upsert(Record("c", image=png("red"))),
        ]
        for call in calls:
            with pytest.raises(ModelNotAvailable, match=why) as caught:
                call()
            assert "'things'" in str(caught.value)
        assert things.delete("b") == 1
        assert things.count() == 1

    def test_what_cannot_be_embedded_is_one_record(self, store: VectorStore) -> None:
        """C72: A record that cannot be embedded is named by its place and id; with skip_invalid the others are stored, and embedded once."""
        model = registered()
        things = store.ensure_collection(SPEC)
        records = [Record(f"r{i:03}", content=f"text {i}") for i in range(90)]
        bad = {
            7: Record("truncated", image=png("red")[:40]),
            20: Record("surrogate", content="half a \ud800 pair"),
            41: Record("unspeakable", content="unspeakable"),
            42: Record("no file", image="/nowhere/at/all.png"),
            70: Record("nothing"),
        }
        for place, record in bad.items():
            records[place] = record
        records[43] = Record("fine", image=png("green"))
        for place, record in bad.items():
            with pytest.raises(InvalidRecord) as caught:
                things.upsert([*records[:7], record, *records[8:20]])
            assert (caught.value.position, caught.value.record_id) == (7, record.id)
            assert things.count() == 0
            with pytest.raises(InvalidRecord) as caught:
                things.load([record], skip_invalid=False)
            assert caught.value.position == 0, place
        model.asked()
        report = things.load(iter(records), skip_invalid=True, part_rows=50)
        assert [(r.position, r.id) for r in report.rejected] == [(place, record.id) for place, record in bad.items()]
        assert all(isinstance(r.error, InvalidRecord) for r in report.rejected)
        assert (report.read, report.written) == (90, 85)
        assert {r.id for r in things.scan(limit=100)} == {r.id for i, r in enumerate(records) if i not in bad}
        texts, images = model.asked()
        assert texts == sorted(r.content for i, r in enumerate(records) if i not in bad and r.content is not None)
        assert images == 1
