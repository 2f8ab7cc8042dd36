"""The contract as tests, for every backend: subclass it and give it a store.

::

    class TestMyStore(AsyncStoreContract):
        @pytest.fixture
        async def store(self) -> AsyncIterator[AsyncVectorStore]:
            async with await MyStore.open(…, embedders=load_embedder) as store:
                yield store              # empty; each test gets its own

It needs pytest, pytest-asyncio and pyarrow. Each test's docstring begins with the number of its clause in ``docs/contract.md``. What a
backend's capabilities exclude is asserted to raise ``UnsupportedFeature``; nothing is skipped. The synchronous twin, ``StoreContract`` in ``suite``, is generated.
"""

from __future__ import annotations

from likewise.testing.clauses_collections_async import AsyncCollectionClauses
from likewise.testing.clauses_embedding_async import AsyncEmbeddingClauses
from likewise.testing.clauses_filters_async import AsyncFilterClauses
from likewise.testing.clauses_loading_async import AsyncLoadingClauses
from likewise.testing.clauses_records_async import AsyncRecordClauses
from likewise.testing.clauses_search_async import AsyncSearchClauses
from likewise.testing.clauses_similarity_async import AsyncSimilarityClauses

__all__ = ["AsyncStoreContract"]


class AsyncStoreContract(
    AsyncCollectionClauses,
    AsyncRecordClauses,
    AsyncFilterClauses,
    AsyncSearchClauses,
    AsyncSimilarityClauses,
    AsyncLoadingClauses,
    AsyncEmbeddingClauses,
):
    """Every clause of the contract."""
