"""llama-index: ``PGVectorStore``, nodes added in parts of 2,048 as ``VectorStoreIndex`` does.

With ``hnsw_kwargs`` the store makes the index when it first connects. The table is filled by a store without them, and opened by one with
them, which is the quicker order.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any, ClassVar

from peers._serve import EF_CONSTRUCTION, TOP_K, M, Peer, Rows, Vector, batches, serve

library: Any = importlib.import_module("llama_index.vector_stores.postgres")
schema: Any = importlib.import_module("llama_index.core.schema")
stores: Any = importlib.import_module("llama_index.core.vector_stores")


class LlamaIndex(Peer):
    distribution: ClassVar[str] = "llama-index-vector-stores-postgres"
    others: ClassVar[Sequence[str]] = ("llama-index-core", "psycopg2-binary", "SQLAlchemy")
    note: ClassVar[str] = (
        "`PGVectorStore.add` by 2,048 nodes, then a store with `hnsw_kwargs` (m 16, ef_construction 64, ef_search 40 as documented), "
        "`query(VectorStoreQuery)`; `use_jsonb`, `indexed_metadata_keys` for every key; dial: `query(…, hnsw_ef_search=…)`"
    )

    def _make(self, *, hnsw: bool) -> Any:
        options = {"hnsw_m": M, "hnsw_ef_construction": EF_CONSTRUCTION, "hnsw_ef_search": 40}
        return library.PGVectorStore(
            connection_string=self.place.replace("postgresql://", "postgresql+psycopg2://", 1),
            async_connection_string=self.place.replace("postgresql://", "postgresql+asyncpg://", 1),
            table_name="bench",
            embed_dim=self._dimension,
            use_jsonb=True,
            indexed_metadata_keys={(field, "float") for field in self._fields},
            hnsw_kwargs=options if hnsw else None,
            initialization_fail_on_error=True,
        )

    def create(self, fields: Sequence[str], dimension: int) -> None:
        self._fields, self._dimension = fields, dimension
        self._store: Any = self._make(hnsw=False)
        self._store.add([])  # connects, and makes the table

    def load(self, rows: Rows) -> None:
        for part in batches(len(rows), 2048):
            columns = zip(rows.ids[part], rows.vectors[part], rows.texts[part], rows.metadata[part], strict=True)
            self._store.add(
                [
                    schema.TextNode(id_=name, text=text, embedding=vector.tolist(), metadata=metadata)
                    for name, vector, text, metadata in columns
                ]
            )

    def index(self) -> None:
        self._store = self._make(hnsw=True)
        self._store.add([])

    def open(self, fields: Sequence[str], dimension: int) -> None:
        self._fields, self._dimension = fields, dimension
        self.index()

    def turn(self, value: int | None) -> None:
        self._options: dict[str, int] = {} if value is None else {"hnsw_ef_search": value}

    def search(self, query: Vector) -> list[str]:
        wanted = stores.VectorStoreQuery(query_embedding=query.tolist(), similarity_top_k=TOP_K)
        ids: list[str] = self._store.query(wanted, **self._options).ids
        return ids

    def search_filtered(self, query: Vector, field: str, value: int) -> list[str]:
        filters = stores.MetadataFilters(filters=[stores.MetadataFilter(key=field, value=value)])
        wanted = stores.VectorStoreQuery(query_embedding=query.tolist(), similarity_top_k=TOP_K, filters=filters)
        ids: list[str] = self._store.query(wanted, **self._options).ids
        return ids


if __name__ == "__main__":
    serve(LlamaIndex)
