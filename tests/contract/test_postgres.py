"""The contract on PostgreSQL, the newest version and 16; afterwards nothing is left open."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from likewise import AsyncVectorStore, VectorStore
from likewise.backends.postgres import AsyncPostgresStore, PostgresStore
from likewise.backends.postgres.connection import OwnPool
from likewise.backends.postgres.connection_async import AsyncOwnPool
from likewise.embedding import load_embedder
from likewise.testing.suite import StoreContract
from likewise.testing.suite_async import AsyncStoreContract


class TestAsyncPostgres(AsyncStoreContract):
    @pytest.fixture
    async def store(self, database_url: str) -> AsyncIterator[AsyncVectorStore]:
        async with await AsyncPostgresStore.open(database_url, embedders=load_embedder) as store:
            yield store
            assert isinstance(store.source, AsyncOwnPool)
            assert store.source.checked_out == 0
            for spec in await store.collections():
                await store.drop_collection(spec.name)


class TestPostgres(StoreContract):
    @pytest.fixture
    def store(self, database_url: str) -> Iterator[VectorStore]:
        with PostgresStore.open(database_url, embedders=load_embedder) as store:
            yield store
            assert isinstance(store.source, OwnPool)
            assert store.source.checked_out == 0
            for spec in store.collections():
                store.drop_collection(spec.name)


class TestPostgres16(TestPostgres):
    @pytest.fixture
    def database_url(self, database_16_url: str) -> str:
        return database_16_url
