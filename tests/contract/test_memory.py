"""The contract on the exact backend."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from likewise import AsyncVectorStore, VectorStore
from likewise.backends.memory import AsyncMemoryStore, MemoryStore
from likewise.embedding import load_embedder
from likewise.testing.suite import StoreContract
from likewise.testing.suite_async import AsyncStoreContract


class TestAsyncMemory(AsyncStoreContract):
    @pytest.fixture
    async def store(self) -> AsyncIterator[AsyncVectorStore]:
        async with AsyncMemoryStore(embedders=load_embedder) as store:
            yield store


class TestMemory(StoreContract):
    @pytest.fixture
    def store(self) -> Iterator[VectorStore]:
        with MemoryStore(embedders=load_embedder) as store:
            yield store
