"""Random sequences of calls leave PostgreSQL and the exact backend in the same state, step by step."""

from __future__ import annotations

import secrets

import pytest

import likewise
from likewise import Collection, CollectionSpec, Record, RecordExists
from oracle.generate import Generator

STEPS = 600


def step(generator: Generator, tested: Collection, oracle: Collection) -> None:
    """One random call on both; the same answer or the same error."""
    random = generator.random
    known = [f"r{random.randrange(40)}" for _ in range(random.choice([1, 2, 8]))]
    match random.choice(["insert", "upsert", "upsert", "delete", "delete_where", "get", "search", "scan", "count"]):
        case "insert":
            records = [generator.record(i) for i in known]
            outcomes: list[tuple[int, tuple[str, ...]]] = []
            for collection in (tested, oracle):
                try:
                    outcomes.append((collection.insert(records), ()))
                except RecordExists as error:
                    outcomes.append((-1, tuple(sorted(error.record_ids))))
            assert outcomes[0] == outcomes[1]
        case "upsert":
            records = [generator.record(i) for i in known]
            assert tested.upsert(records) == oracle.upsert(records)
        case "delete":
            assert tested.delete(known) == oracle.delete(known)
        case "delete_where":
            if random.random() < 0.2:
                where = generator.filter()
                assert tested.delete(where=where) == oracle.delete(where=where), where
        case "get":
            assert tested.get_many(known, include=("metadata", "content", "vector")) == oracle.get_many(
                known, include=("metadata", "content", "vector")
            )
        case "search":
            vector = generator.vector()
            found, wanted = tested.search_by_vector(vector, top_k=5), oracle.search_by_vector(vector, top_k=5)
            assert [r.distance for r in found] == pytest.approx([r.distance for r in wanted], abs=2e-5)
        case "scan":
            where, limit = generator.filter(), random.choice([1, 3, 50])
            cursor: str | None = None
            while True:
                page, expected = (
                    tested.scan(where, cursor=cursor, limit=limit),
                    oracle.scan(where, cursor=cursor, limit=limit),
                )
                assert list(page) == list(expected)
                assert page.cursor == expected.cursor
                cursor = page.cursor
                if cursor is None:
                    break
        case _:
            where = generator.filter()
            assert tested.count(where) == oracle.count(where)


def state(collection: Collection) -> list[Record]:
    return list(collection.scan(limit=1000, include=("metadata", "content", "vector")))


@pytest.mark.slow
@pytest.mark.parametrize("indexed", [False, True])
def test_postgres_follows_the_oracle_step_by_step(database_url: str, indexed: bool) -> None:
    seed = secrets.randbits(32)
    print(f"seed {seed}")
    generator = Generator(seed)
    spec = CollectionSpec(f"machine_{indexed}", dimension=3, multimodal=True)
    with likewise.connect(database_url) as store, likewise.connect("memory://") as memory:
        tested, oracle = store.ensure_collection(spec), memory.ensure_collection(spec)
        if indexed:
            tested.ensure_indexes()
        for number in range(STEPS):
            step(generator, tested, oracle)
            if number % 10 == 0:
                assert state(tested) == state(oracle), f"seed {seed}, step {number}"
        assert state(tested) == state(oracle)
        store.drop_collection(spec.name)
