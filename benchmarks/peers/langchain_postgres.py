"""langchain-postgres: ``PGVectorStore`` (the second version) over ``PGEngine``, metadata in columns of their own."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Sequence
from typing import Any, ClassVar

from peers._serve import EF_CONSTRUCTION, TOP_K, M, Peer, Rows, Vector, batches, serve

library: Any = importlib.import_module("langchain_postgres")
indexes: Any = importlib.import_module("langchain_postgres.v2.indexes")
embeddings: Any = importlib.import_module("langchain_core.embeddings")

TABLE = "bench"


class LangchainPostgres(Peer):
    distribution: ClassVar[str] = "langchain-postgres"
    others: ClassVar[Sequence[str]] = ("langchain-core", "asyncpg", "SQLAlchemy")
    note: ClassVar[str] = (
        "`PGVectorStore.add_embeddings` by 1,000, `apply_vector_index(HNSWIndex(m=16, ef_construction=64))`, "
        "`similarity_search_by_vector`; asyncpg; metadata in `metadata_columns`, for which the library makes no index; "
        "dial: `HNSWQueryOptions(ef_search=…)`"
    )

    def _connect(self) -> None:
        self._engine: Any = library.PGEngine.from_connection_string(
            url=self.place.replace("postgresql://", "postgresql+asyncpg://", 1)
        )

    def _store_with(self, options: Any) -> Any:
        # Vectors are given, so that the model is never asked.
        return library.PGVectorStore.create_sync(
            engine=self._engine,
            embedding_service=embeddings.FakeEmbeddings(size=self._dimension),
            table_name=TABLE,
            metadata_columns=self._fields,
            index_query_options=options,
        )

    def create(self, fields: Sequence[str], dimension: int) -> None:
        self._connect()
        self._fields, self._dimension = list(fields), dimension
        self._engine.init_vectorstore_table(
            table_name=TABLE,
            vector_size=dimension,
            id_column=library.Column("langchain_id", "TEXT", nullable=False),
            metadata_columns=[library.Column(field, "INTEGER") for field in fields],
        )
        self._store: Any = self._store_with(None)

    def load(self, rows: Rows) -> None:
        for part in batches(len(rows), 1000):
            self._store.add_embeddings(
                texts=rows.texts[part],
                embeddings=rows.vectors[part].tolist(),
                metadatas=rows.metadata[part],
                ids=rows.ids[part],
            )

    def index(self) -> None:
        self._store.apply_vector_index(indexes.HNSWIndex(m=M, ef_construction=EF_CONSTRUCTION))

    def open(self, fields: Sequence[str], dimension: int) -> None:
        self._connect()
        self._fields, self._dimension = list(fields), dimension

    def turn(self, value: int | None) -> None:
        self._store = self._store_with(None if value is None else indexes.HNSWQueryOptions(ef_search=value))

    def search(self, query: Vector) -> list[str]:
        found = self._store.similarity_search_by_vector(query.tolist(), k=TOP_K)
        return [document.id for document in found]

    def search_filtered(self, query: Vector, field: str, value: int) -> list[str]:
        found = self._store.similarity_search_by_vector(query.tolist(), k=TOP_K, filter={field: value})
        return [document.id for document in found]

    def close(self) -> None:
        asyncio.run(self._engine.close())


if __name__ == "__main__":
    serve(LangchainPostgres)
