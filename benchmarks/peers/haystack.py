"""Haystack: ``PgvectorDocumentStore`` and its embedding retriever.

With the strategy ``hnsw`` the store makes the index when it first connects. The table is filled by a store with the default strategy, and
opened by one with ``hnsw``, which is the quicker order.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any, ClassVar

from peers._serve import EF_CONSTRUCTION, TOP_K, M, Peer, Rows, Vector, batches, serve

core: Any = importlib.import_module("haystack")
utils: Any = importlib.import_module("haystack.utils")
stores: Any = importlib.import_module("haystack_integrations.document_stores.pgvector")
retrievers: Any = importlib.import_module("haystack_integrations.components.retrievers.pgvector")


class Haystack(Peer):
    distribution: ClassVar[str] = "pgvector-haystack"
    others: ClassVar[Sequence[str]] = ("haystack-ai", "psycopg")
    note: ClassVar[str] = (
        "`PgvectorDocumentStore.write_documents` by 1,000, then a store with `search_strategy='hnsw'` (m 16, ef_construction 64), "
        "`PgvectorEmbeddingRetriever.run`; it keeps a keyword index while loading, and none on the metadata; dial: `hnsw_ef_search`"
    )

    def _make(self, strategy: str, ef_search: int | None = None) -> Any:
        return stores.PgvectorDocumentStore(
            connection_string=utils.Secret.from_token(self.place),
            table_name="bench",
            embedding_dimension=self._dimension,
            vector_function="cosine_similarity",
            search_strategy=strategy,
            hnsw_index_creation_kwargs={"m": M, "ef_construction": EF_CONSTRUCTION},
            hnsw_ef_search=ef_search,
        )

    def create(self, fields: Sequence[str], dimension: int) -> None:
        self._dimension = dimension
        self._store: Any = self._make("exact_nearest_neighbor")
        self._store.count_documents()  # connects, and makes the table

    def load(self, rows: Rows) -> None:
        for part in batches(len(rows), 1000):
            columns = zip(rows.ids[part], rows.vectors[part], rows.texts[part], rows.metadata[part], strict=True)
            self._store.write_documents(
                [
                    core.Document(id=name, content=text, embedding=vector.tolist(), meta=dict(metadata))
                    for name, vector, text, metadata in columns
                ]
            )

    def index(self) -> None:
        self._store.close()
        self._store = self._make("hnsw")
        self._store.count_documents()

    def open(self, fields: Sequence[str], dimension: int) -> None:
        self._dimension = dimension
        self._store = self._make("hnsw")

    def turn(self, value: int | None) -> None:
        self._store.close()
        self._store = self._make("hnsw", value)
        self._retriever: Any = retrievers.PgvectorEmbeddingRetriever(document_store=self._store, top_k=TOP_K)

    def search(self, query: Vector) -> list[str]:
        found = self._retriever.run(query_embedding=query.tolist())["documents"]
        return [document.id for document in found]

    def search_filtered(self, query: Vector, field: str, value: int) -> list[str]:
        filters = {"field": f"meta.{field}", "operator": "==", "value": value}
        found = self._retriever.run(query_embedding=query.tolist(), filters=filters)["documents"]
        return [document.id for document in found]

    def close(self) -> None:
        self._store.close()


if __name__ == "__main__":
    serve(Haystack)
