"""Ten thousand random filters give the same records on PostgreSQL as on the exact backend, which is the specification."""

from __future__ import annotations

import secrets

import pytest

import likewise
from likewise import CollectionSpec, Gin
from likewise.filters import parse, serialise
from oracle.generate import Generator

DATASETS, FILTERS = 20, 500


@pytest.mark.slow
@pytest.mark.parametrize("server", ["database_url", "database_16_url"])
def test_postgres_and_the_oracle_agree_on_ten_thousand_filters(server: str, request: pytest.FixtureRequest) -> None:
    seed = secrets.randbits(32)
    print(f"seed {seed}")
    cases = 0
    with likewise.connect(request.getfixturevalue(server)) as tested, likewise.connect("memory://") as oracle:
        for number in range(DATASETS):
            generator = Generator(seed + number, multimodal=number % 3 != 0)
            spec = CollectionSpec(f"random_{number}", dimension=3, multimodal=generator.multimodal)
            records = generator.records(60)
            collection, truth = tested.ensure_collection(spec), oracle.ensure_collection(spec)
            assert collection.upsert(records) == truth.upsert(records) == 60
            if number % 2:
                collection.ensure_indexes(metadata=Gin(path_ops=number % 4 == 1))
            assert list(collection.scan(limit=100)) == list(truth.scan(limit=100))
            for _ in range(FILTERS):
                where = generator.filter()
                found = [record.id for record in collection.scan(where, limit=100, include=())]
                wanted = [record.id for record in truth.scan(where, limit=100, include=())]
                assert found == wanted, f"seed {seed + number}: {where}"
                assert parse(serialise(where)) == where
                cases += 1
            tested.drop_collection(spec.name)
    assert cases >= 10_000


@pytest.mark.parametrize("metric", ["cosine", "l2", "inner_product"])
@pytest.mark.parametrize("indexed", [False, True])
def test_searches_agree_with_the_oracle(database_url: str, metric: str, indexed: bool) -> None:
    seed = secrets.randbits(32)
    print(f"seed {seed}")
    generator = Generator(seed)
    spec = CollectionSpec("random_search", dimension=8, metric=metric, multimodal=True)  # type: ignore[arg-type]
    with likewise.connect(database_url) as tested, likewise.connect("memory://") as oracle:
        records = generator.records(400, dimension=8)
        collection, truth = tested.ensure_collection(spec), oracle.ensure_collection(spec)
        collection.upsert(records)
        truth.upsert(records)
        if indexed:
            collection.ensure_indexes()
        for _ in range(60):
            vector, where = generator.vector(8), generator.random.choice([None, generator.filter()])
            furthest, least = generator.random.choice([None, None, 0.7]), generator.random.choice([None, None, 0.2])
            top_k = generator.random.choice([1, 10, 400])
            found, wanted = (
                c.search_by_vector(vector, top_k=top_k, where=where, max_distance=furthest, min_score=least)
                for c in (collection, truth)
            )
            assert len(found) == len(wanted)
            assert [r.distance for r in found] == pytest.approx([r.distance for r in wanted], abs=2e-5)
            assert [r.score for r in found] == pytest.approx([r.score for r in wanted], abs=2e-5)
            differing = [(a, b) for a, b in zip(found, wanted, strict=True) if a.id != b.id]
            assert all(abs(a.distance - b.distance) < 2e-5 for a, b in differing), "only ties may change places"
            many = collection.search_many(
                [vector, vector], top_k=top_k, where=where, max_distance=furthest, min_score=least
            )
            assert [[r.id for r in one] for one in many] == [[r.id for r in found]] * 2
        tested.drop_collection(spec.name)
