"""The contract on replicas: PostgreSQL has the records, and what is searched is found in memory; afterwards nothing is left open.

Reads wait up to half a minute for the replica, so that it answers whatever it can, and that it did is asserted at the end.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

import psycopg
import pytest

from likewise import AsyncVectorStore, VectorStore
from likewise.backends.faiss import AsyncFaissStore, FaissStore, ReplicaOptions
from likewise.backends.postgres import AsyncPostgresStore, PostgresStore
from likewise.embedding import load_embedder
from likewise.testing.suite import StoreContract
from likewise.testing.suite_async import AsyncStoreContract

OPTIONS = ReplicaOptions(patience=30.0)
#: Of reads in the tests of a class, or in those that one process runs of them: how many at least the replica answered, for each test, and how many at most
#: it left to the database, which are those with ``recall=``, with several vectors, and inside a transaction: all of these may be in one process.
_FEWEST_ANSWERED = 0.33
_MOST_PASSED_ON, _ALL_PASSED_ON = 0.25, 20


@pytest.fixture(scope="class")
def reads() -> Iterator[Counter[str]]:
    """Counts the reads of a class, and says at its end that the replica answered them."""
    counted: Counter[str] = Counter()
    yield counted
    if counted["stores"] > 50:  # Not where somebody runs one test.
        assert counted["answered"] >= _FEWEST_ANSWERED * counted["stores"], counted
        assert counted["passed on"] <= max(_ALL_PASSED_ON, _MOST_PASSED_ON * counted["answered"]), counted


def _count(store: AsyncFaissStore | FaissStore, reads: Counter[str]) -> None:
    reads["stores"] += 1
    for status in store.replicas().values():
        assert status.state != "failed", status
        reads["answered"] += status.answered
        reads["passed on"] += status.passed_on


def _assert_nothing_is_left(url: str) -> None:
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("likewise-replica")]
    with psycopg.connect(url, autocommit=True) as connection:
        slots = connection.execute(
            "select slot_name, active from pg_replication_slots where database = current_database()"
        ).fetchall()
        assert not [name for name, active in slots if not active], slots
        publications = connection.execute(
            "select pubname from pg_publication where pubname like 'likewise\\__%'"
        ).fetchall()
        assert not publications


class TestAsyncFaiss(AsyncStoreContract):
    @pytest.fixture
    async def store(self, database_url: str, reads: Counter[str]) -> AsyncIterator[AsyncVectorStore]:
        inner = await AsyncPostgresStore.open(database_url, embedders=load_embedder)
        async with AsyncFaissStore(inner, OPTIONS) as store:
            yield store
            _count(store, reads)
            for spec in await store.collections():
                await store.drop_collection(spec.name)
        _assert_nothing_is_left(database_url)


class TestFaiss(StoreContract):
    @pytest.fixture
    def options(self) -> ReplicaOptions:
        return OPTIONS

    @pytest.fixture
    def store(self, database_url: str, options: ReplicaOptions, reads: Counter[str]) -> Iterator[VectorStore]:
        inner = PostgresStore.open(database_url, embedders=load_embedder)
        with FaissStore(inner, options) as store:
            yield store
            _count(store, reads)
            for spec in store.collections():
                store.drop_collection(spec.name)
        _assert_nothing_is_left(database_url)


class TestFaissByTriggers(TestFaiss):
    @pytest.fixture
    def options(self) -> ReplicaOptions:
        return replace(OPTIONS, follow="triggers")
