# Generated from src/likewise/testing/suite_async.py by tools/async_to_sync.py; edit that file instead.
"""The contract as tests, for every backend: subclass it and give it a store.

::

    class TestMyStore(StoreContract):
        @pytest.fixture
        def store(self) -> Iterator[VectorStore]:
            with MyStore.open(…, embedders=load_embedder) as store:
                yield store              # empty; each test gets its own

It needs pytest, pytest-asyncio and pyarrow. Each test's docstring begins with the number of its clause in ``docs/contract.md``. What a
backend's capabilities exclude is asserted to raise ``UnsupportedFeature``; nothing is skipped. The synchronous twin, ``StoreContract`` in ``suite``, is generated.
"""

from __future__ import annotations

from likewise.testing.clauses_collections import CollectionClauses
from likewise.testing.clauses_embedding import EmbeddingClauses
from likewise.testing.clauses_filters import FilterClauses
from likewise.testing.clauses_loading import LoadingClauses
from likewise.testing.clauses_records import RecordClauses
from likewise.testing.clauses_search import SearchClauses
from likewise.testing.clauses_similarity import SimilarityClauses

__all__ = ["StoreContract"]


class StoreContract(
    CollectionClauses,
    RecordClauses,
    FilterClauses,
    SearchClauses,
    SimilarityClauses,
    LoadingClauses,
    EmbeddingClauses,
):
    """Every clause of the contract."""
