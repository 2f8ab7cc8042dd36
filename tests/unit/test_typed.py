"""Typed collections and codecs: what goes in comes out, and what does not fit is refused with its place."""

from __future__ import annotations

import datetime
import decimal
import enum
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import pydantic
import pytest

import likewise
from likewise.abc.vector_stores import VectorStore
from likewise.codecs import DataclassCodec, PydanticCodec
from likewise.errors import InvalidArgument, InvalidRecord, RecordExists, RecordNotFound
from likewise.filters import Metadata
from likewise.records import Include, LoadProgress, Record
from likewise.schema import CollectionSpec
from likewise.typed import TypedCollection


class Colour(enum.Enum):
    RED = "red"
    GREEN = "green"


@dataclass(frozen=True)
class Maker:
    name: str
    founded: int | None = None


@dataclass(frozen=True)
class Thing:
    id: str
    vector: Any
    title: str
    price: decimal.Decimal
    added: datetime.date
    colour: Colour = Colour.RED
    maker: Maker | None = None
    tags: tuple[str, ...] = ()
    pair: tuple[int, str] = (1, "one")
    size: Literal["s", "m"] = "s"
    key: uuid.UUID | None = None
    weights: dict[str, float] = field(default_factory=dict)
    seen: frozenset[str] = frozenset()
    note: str | None = None


def thing(n: int, **changes: Any) -> Thing:
    values: dict[str, Any] = {
        "id": f"t{n}",
        "vector": [1.0, float(n)],
        "title": f"thing {n}",
        "price": decimal.Decimal("9.90"),
        "added": datetime.date(2024, 2, 29),
    }
    return Thing(**{**values, **changes})


CODEC = DataclassCodec(Thing, content="title", vector="vector")


@pytest.fixture
def store() -> Iterator[VectorStore]:
    with likewise.connect("memory://") as opened:
        yield opened


@pytest.fixture
def things(store: VectorStore) -> TypedCollection[Thing]:
    return TypedCollection(store.ensure_collection(CollectionSpec("things", dimension=2)), CODEC)


FULL = thing(
    1,
    colour=Colour.GREEN,
    maker=Maker("Ada", 1842),
    tags=("a", "b"),
    pair=(2, "two"),
    size="m",
    weights={"x": 1.5, "y": 2},
    seen=frozenset({"p", "q"}),
    note="n",
    key=uuid.UUID(int=7),
)


class TestDataclassCodec:
    def test_every_kind_of_field_comes_back(self) -> None:
        assert CODEC.decode(CODEC.encode(FULL)) == FULL

    def test_places(self) -> None:
        record = CODEC.encode(FULL)
        assert (record.id, record.content, record.vector) == ("t1", "thing 1", [1.0, 1.0])
        assert "title" not in record.metadata
        assert record.metadata["price"] == "9.90"
        assert record.metadata["maker"] == {"name": "Ada", "founded": 1842}
        assert record.metadata["colour"] == "green"

    def test_content_may_be_computed_and_its_fields_are_stored(self) -> None:
        codec = DataclassCodec(Maker, id="name", content=lambda maker: f"{maker.name}, {maker.founded}")
        record = codec.encode(Maker("Ada", 1842))
        assert record.content == "Ada, 1842"
        assert codec.decode(record) == Maker("Ada", 1842)

    def test_a_key_that_is_missing_takes_its_default(self) -> None:
        assert DataclassCodec(Maker, id="name").decode(Record("Ada")) == Maker("Ada")

    @pytest.mark.parametrize(
        ("metadata", "problem"),
        [
            ({"founded": "1842"}, "founded"),
            ({"founded": True}, "founded"),
            ({"founded": 1.5}, "founded"),
        ],
    )
    def test_a_record_of_another_shape_is_refused(self, metadata: dict[str, Any], problem: str) -> None:
        with pytest.raises(InvalidRecord, match=problem) as caught:
            DataclassCodec(Maker, id="name").decode(Record("Ada", metadata=metadata))
        assert caught.value.record_id == "Ada"

    def test_a_missing_field_without_default_is_refused(self) -> None:
        with pytest.raises(InvalidRecord, match="'t9' is not a Thing"):
            CODEC.decode(Record("t9", [1.0, 0.0], {"price": "1"}, "title"))

    def test_unknown_metadata_is_passed_over(self) -> None:
        assert DataclassCodec(Maker, id="name").decode(Record("Ada", metadata={"later": 1})) == Maker("Ada")

    @pytest.mark.parametrize("model", [int, "Thing", FULL])
    def test_only_dataclasses(self, model: Any) -> None:
        with pytest.raises(InvalidArgument, match="dataclass"):
            DataclassCodec(model)

    @pytest.mark.parametrize("role", ["id", "content", "vector", "image"])
    def test_fields_that_do_not_exist(self, role: str) -> None:
        with pytest.raises(InvalidArgument, match="no field 'nope'"):
            DataclassCodec(Maker, **{"id": "name", role: "nope"})

    def test_another_class_is_refused(self) -> None:
        with pytest.raises(InvalidRecord, match="expected a Thing, got Maker"):
            CODEC.encode(Maker("Ada"))  # type: ignore[arg-type]


class Note(pydantic.BaseModel):
    key: int
    body: str
    at: datetime.datetime
    title: str = pydantic.Field(default="", alias="Title")


NOTE = Note(key=3, body="words", at=datetime.datetime(2024, 1, 2, tzinfo=datetime.UTC), Title="T")


class TestPydanticCodec:
    codec = PydanticCodec(Note, id="key", content="body")

    def test_comes_back(self) -> None:
        record = self.codec.encode(NOTE)
        assert (record.id, record.content) == ("3", "words")
        assert record.metadata == {"at": "2024-01-02T00:00:00Z", "title": "T"}
        assert self.codec.decode(record) == NOTE

    def test_a_record_of_another_shape_is_refused(self) -> None:
        with pytest.raises(InvalidRecord, match="not a Note"):
            self.codec.decode(Record("3", metadata={"at": "yesterday"}, content="x"))

    def test_only_models(self) -> None:
        with pytest.raises(InvalidArgument, match="pydantic model"):
            PydanticCodec(Maker)  # type: ignore[type-var]

    def test_a_model_is_one_object_though_it_can_be_iterated(self, store: VectorStore) -> None:
        class Point(pydantic.BaseModel):
            id: str
            vector: list[float]

        collection = store.ensure_collection(CollectionSpec("points", dimension=2))
        points = TypedCollection(collection, PydanticCodec(Point, vector="vector"))
        assert points.insert(Point(id="a", vector=[1, 0])) == 1
        assert points.upsert([Point(id="a", vector=[1, 0]), Point(id="b", vector=[0, 1])]) == 2
        assert points.get("b", include=("vector", "metadata", "content")).vector == [0.0, 1.0]


class TestTypedCollection:
    def test_writing_and_reading(self, things: TypedCollection[Thing]) -> None:
        assert things.insert(thing(n) for n in range(5)) == 5
        assert things.insert(thing(5)) == 1
        with pytest.raises(RecordExists):
            things.insert(thing(5))
        told: list[LoadProgress] = []
        assert things.upsert(thing(5, title="new"), progress=told.append) == 1
        assert told[-1] == LoadProgress("done", 1)
        everything: Include = ("vector", "metadata", "content")
        assert things.get("t5", include=everything).title == "new"
        with pytest.raises(RecordNotFound):
            things.get("t6")
        assert [t.id for t in things.get_many(["t3", "t6", "t1"], include=everything)] == ["t3", "t1"]
        assert things.count() == 6
        assert things.count(Metadata("colour") == "green") == 0
        assert things.delete("t0") == 1
        assert things.delete(where=Metadata("price") == "9.90") == 5

    def test_what_was_not_asked_for_is_an_error_only_if_the_class_needs_it(
        self, things: TypedCollection[Thing]
    ) -> None:
        things.insert(thing(1))
        with pytest.raises(InvalidRecord, match="vector"):
            things.get("t1")

    def test_scan_and_iterate(self, store: VectorStore) -> None:
        makers = _makers(store)
        page = makers.scan(limit=2)
        assert [m.name for m in page] == ["m0", "m1"]
        assert page.cursor is not None
        assert [m.name for m in makers.scan(cursor=page.cursor, limit=9)] == ["m2", "m3", "m4"]
        assert [m.name for m in makers.iterate(page_size=2)] == [f"m{n}" for n in range(5)]
        assert [m.name for m in makers.iterate(Metadata("founded") < 2)] == ["m0", "m1"]

    def test_search(self, store: VectorStore) -> None:
        found = _makers(store).search_by_vector([1.0, 0.0], top_k=3)
        assert [r.item.name for r in found] == ["m0", "m1", "m2"]
        assert [r.rank for r in found] == [1, 2, 3]
        assert found.items[0] == Maker("m0", 0)
        assert found[0].record.id == "m0"
        assert found.complete
        assert found.explain().plan == "exact"
        assert [r.item.name for r in _makers(store).search(like="m0", top_k=1)] == ["m1"]


def _makers(store: VectorStore) -> TypedCollection[Maker]:
    class Codec:
        """A codec need not be one of ours."""

        def encode(self, item: Maker, /) -> Record:
            return Record(item.name, [1.0, float(item.founded or 0)], {"founded": item.founded})

        def decode(self, record: Record, /) -> Maker:
            return Maker(record.id, record.metadata["founded"])

    makers = TypedCollection(store.ensure_collection(CollectionSpec("makers", dimension=2)), Codec())
    makers.upsert([Maker(f"m{n}", n) for n in range(5)])
    return makers
