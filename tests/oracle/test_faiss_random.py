"""Images against the memory backend: random commits, filters and searches, under every metric, with vectors that some rows have not."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from likewise import CollectionSpec, Filter, VectorField
from likewise.abc.feeds import Change, Cleared, Commit, Gone, Payload, Position, Put, Rows
from likewise.abc.validation import Prepared, prepare
from likewise.backends.faiss import _renewal, index
from likewise.backends.faiss.image import Found, Image
from likewise.backends.memory._search import nearest
from likewise.filters.matching import matches
from likewise.metrics import Metric
from likewise.schema import MetricName

from .generate import Generator

ALL: frozenset[Payload] = frozenset({"metadata", "content", "modality", "content_id"})
FIELDS: dict[str, VectorField] = {"other": VectorField(5, "l2"), "third": VectorField(2, "inner_product")}


def payload_of(row: Prepared) -> dict[Payload, bytes | None]:
    return {
        "metadata": row.metadata_json.encode(),
        "content": None if row.content is None else row.content.encode(),
        "modality": None if row.modality is None else row.modality.encode(),
        "content_id": None if row.content_id is None else row.content_id.encode(),
    }


class World:
    """The rows as the oracle has them, and the image that is told of them."""

    def __init__(self, seed: int, metric: MetricName) -> None:
        self.draw = Generator(seed)
        self.random = self.draw.random
        self.spec = CollectionSpec("world", dimension=3, metric=metric, vectors=FIELDS, multimodal=True)
        self.rows: dict[str, Prepared] = {}
        self.image = Image(self.spec, holds=ALL)
        self.position = 0

    def vectors(self) -> dict[str, NDArray[np.float32]]:
        """Of numbers that often meet, so that there are equal distances."""
        made = {}
        for name, field in self.spec.vector_fields.items():
            if name and self.random.random() < 0.3:
                continue
            numbers = [
                self.random.choice([-2.0, -1.0, 0.25, 1.0, self.random.uniform(-9, 9)]) for _ in range(field.dimension)
            ]
            made[name] = np.array(numbers, np.float32)
        return made

    def row(self, record_id: str) -> Prepared:
        drawn = prepare(self.draw.record(record_id), self.spec, 0)
        return Prepared(
            record_id,
            self.vectors(),
            drawn.metadata,
            drawn.metadata_json,
            drawn.content,
            drawn.modality,
            drawn.content_id,
        )

    def fill(self, count: int) -> None:
        made = [self.row(f"r{i}") for i in range(count)]
        self.rows = {row.id: row for row in made}
        for part in (made[: count // 3], made[count // 3 :]):
            present = {
                name: np.array([name in row.vectors for row in part], np.bool_) for name in self.spec.vector_fields
            }
            vectors = {
                name: np.array(
                    [row.vectors.get(name, np.zeros(field.dimension, np.float32)) for row in part], np.float32
                ).reshape(len(part), field.dimension)
                for name, field in self.spec.vector_fields.items()
            }
            payload = {name: [payload_of(row)[name] for row in part] for name in sorted(ALL)}
            self.image.fill(Rows([row.id for row in part], vectors, present, payload))
        self.image.filled(Position("0"))

    def commit(self) -> None:
        changes: list[Change] = []
        for _ in range(self.random.randrange(6)):
            changes += self.change()
        self.position += 1
        self.image.apply(Commit(Position(str(self.position)), changes))

    def change(self) -> list[Change]:
        draw = self.random.random()
        known = list(self.rows)
        if draw < 0.02:
            self.rows.clear()
            return [Cleared()]
        if draw < 0.25 and known:
            gone = self.random.choice(known)
            del self.rows[gone]
            return [Gone(gone)]
        if draw < 0.35 and known:
            before, after = self.random.choice(known), f"n{self.random.randrange(10_000)}"
            if after in self.rows:
                return []
            new = self.row(after)
            del self.rows[before]
            self.rows[after] = new
            return [Put(after, self.told(new), payload_of(new), was=before)]
        if draw < 0.7 and known:
            return [self.update(self.rows[self.random.choice(known)])]
        new = self.row(f"r{self.random.randrange(300)}")
        self.rows[new.id] = new
        return [Put(new.id, self.told(new), payload_of(new))]

    def update(self, row: Prepared) -> Put:
        """A change that tells only what it changes."""
        new = self.row(row.id)
        names = [name for name in self.spec.vector_fields if self.random.random() < 0.5]
        kinds: list[Payload] = [kind for kind in sorted(ALL) if self.random.random() < 0.5]
        vectors = {
            name: vector
            for name in self.spec.vector_fields
            if (vector := (new if name in names else row).vectors.get(name)) is not None
        }
        self.rows[row.id] = Prepared(
            row.id,
            vectors,
            (new if "metadata" in kinds else row).metadata,
            (new if "metadata" in kinds else row).metadata_json,
            (new if "content" in kinds else row).content,
            (new if "modality" in kinds else row).modality,
            (new if "content_id" in kinds else row).content_id,
        )
        told = {name: new.vectors.get(name) for name in names}
        return Put(row.id, told, {kind: payload_of(new)[kind] for kind in kinds})

    def told(self, row: Prepared) -> Mapping[str, NDArray[np.float32] | None]:
        return {name: row.vectors.get(name) for name in self.spec.vector_fields}

    def check(self, where: Filter | None, top_k: int, *, exact: bool) -> None:
        rows = [row for row in self.rows.values() if where is None or matches(row, where)]
        for name, field in self.spec.vector_fields.items():
            queries = np.array(
                [[self.random.uniform(-9, 9) for _ in range(field.dimension)], [1.0] * field.dimension], np.float32
            )
            for query, found in zip(
                queries, self.image.search(name, queries, top_k, where=where, exact=exact), strict=True
            ):
                wanted = nearest(rows, name, query, Metric(field.metric), top_k)
                self.compare(found, wanted)
                assert found.matching == sum(name in row.vectors for row in rows)

    def compare(self, found: Found, wanted: list[tuple[float, Prepared]]) -> None:
        distances = [distance for distance, _ in wanted]
        np.testing.assert_allclose(found.distances, distances, rtol=1e-12, atol=1e-12)
        ids = [row.id for _, row in wanted]
        if self.image.ids(found) != ids:
            # Distances that differ by a rounding of float64 may change places.
            for place, (mine, theirs) in enumerate(zip(self.image.ids(found), ids, strict=True)):
                near = np.isclose(distances, distances[place], rtol=1e-12, atol=1e-12)
                assert mine == theirs or near.sum() > 1 or near[-1], (mine, theirs)
        for record in self.image.records(found, ("metadata", "content", "vector")):
            row = self.rows[record.id]
            assert (record.metadata, record.content) == (row.metadata, row.content)
            assert (record.modality, record.content_id) == (row.modality, row.content_id)
            have = {**record.vectors, **({} if record.vector is None else {"": record.vector})}
            assert have.keys() == row.vectors.keys()
            for name, vector in have.items():
                assert np.asarray(vector).tobytes() == row.vectors[name].tobytes()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 2**32),
    metric=st.sampled_from(["cosine", "l2", "inner_product"]),
    count=st.sampled_from([0, 1, 7, 120]),
)
def test_an_image_answers_as_the_oracle_does(seed: int, metric: Any, count: int) -> None:
    world = World(seed, metric)
    world.fill(count)
    for _ in range(8):
        world.commit()
        assert len(world.image) == len(world.rows)
        top_k = world.random.choice([1, 3, 10, 500])
        where = world.draw.filter() if world.random.random() < 0.7 else None
        world.check(where, top_k, exact=world.random.random() < 0.5)


@pytest.mark.parametrize("metric", ["cosine", "l2", "inner_product"])
def test_every_filter_means_what_it_means_to_the_oracle(metric: MetricName) -> None:
    world = World(5, metric)
    world.fill(200)
    for _ in range(300):
        where = world.draw.filter()
        wanted = sorted(row.id for row in world.rows.values() if "" in row.vectors and matches(row, where))
        found = world.image.search("", np.ones((1, 3), np.float32), 500, where=where)[0]
        assert sorted(world.image.ids(found)) == wanted, where
        if world.random.random() < 0.2:
            world.commit()


@pytest.fixture
def small_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Graphs from 40 vectors on, which every search without exact=True goes along; merges and renewals all the time."""
    for module in (index, _renewal):
        monkeypatch.setattr(module, "GRAPH_FROM", 40)
    monkeypatch.setattr(index, "TAIL", 8)
    monkeypatch.setattr(_renewal, "_DEAD", 4)
    monkeypatch.setattr(index, "VERY_FEW", 5)
    for name in ("COMPARED_FOR_EACH", "COMPARED_ALWAYS"):
        monkeypatch.setattr(index, name, 0)


@pytest.mark.usefixtures("small_graphs")
@pytest.mark.parametrize("seed", range(12))
def test_an_image_with_graphs_answers_as_the_oracle_does(seed: int, tmp_path: Path) -> None:
    metric: MetricName = ("cosine", "l2", "inner_product")[seed % 3]
    world = World(seed, metric)
    world.fill(150)
    for step in range(40):
        world.commit()
        if world.random.random() < 0.8:
            world.image.maintain()
        if step % 10 == 9:
            world.image.save(tmp_path / "image")
            world.image = Image.load(tmp_path / "image", world.spec, holds=ALL)
        where = world.draw.filter() if world.random.random() < 0.5 else None
        world.check(where, world.random.choice([1, 10, 500]), exact=True)
        rows = {row.id: row for row in world.rows.values() if where is None or matches(row, where)}
        for name, field in world.spec.vector_fields.items():
            having = [row for row in rows.values() if name in row.vectors]
            query = np.array([world.random.uniform(-9, 9) for _ in range(field.dimension)], np.float32)
            found = world.image.search(name, query[None], 5, where=where)[0]
            ids = world.image.ids(found)
            assert len(set(ids)) == len(ids) == min(5, len(having))
            right = {
                row.id: distance for distance, row in nearest(having, name, query, Metric(field.metric), len(having))
            }
            np.testing.assert_allclose(found.distances, [right[each] for each in ids], rtol=1e-12, atol=1e-12)


@pytest.mark.usefixtures("small_graphs")
def test_the_graphs_of_the_test_above_are_there() -> None:
    world = World(1, "cosine")
    world.fill(150)
    assert world.image._indexes[""].graph is not None
    assert not world.image.search("", np.ones((1, 3), np.float32), 5)[0].exact
