"""vecs: a collection, with the text as one more key of the metadata, for it has no other place for it."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any, ClassVar

from peers._serve import EF_CONSTRUCTION, TOP_K, M, Peer, Rows, Vector, serve

vecs: Any = importlib.import_module("vecs")


class Vecs(Peer):
    distribution: ClassVar[str] = "vecs"
    others: ClassVar[Sequence[str]] = ("psycopg2-binary", "SQLAlchemy")
    note: ClassVar[str] = (
        "`get_or_create_collection`, `upsert`, `create_index(method=hnsw, IndexArgsHNSW(16, 64))`, `query(…, include_metadata=True)`; "
        "no index on the metadata is made this way; dial: `query(…, ef_search=…)`"
    )

    def create(self, fields: Sequence[str], dimension: int) -> None:
        # vecs brings psycopg2, and SQLAlchemy takes psycopg 3 if the URL names neither.
        self._client: Any = vecs.create_client(self.place.replace("postgresql://", "postgresql+psycopg2://", 1))
        self._collection: Any = self._client.get_or_create_collection(name="bench", dimension=dimension)

    def load(self, rows: Rows) -> None:
        columns = zip(rows.ids, rows.vectors, rows.texts, rows.metadata, strict=True)
        self._collection.upsert(
            records=[(name, vector, {"text": text, **metadata}) for name, vector, text, metadata in columns]
        )

    def index(self) -> None:
        self._collection.create_index(
            method=vecs.IndexMethod.hnsw,
            measure=vecs.IndexMeasure.cosine_distance,
            index_arguments=vecs.IndexArgsHNSW(m=M, ef_construction=EF_CONSTRUCTION),
        )

    def open(self, fields: Sequence[str], dimension: int) -> None:
        self.create(fields, dimension)

    def turn(self, value: int | None) -> None:
        self._options: dict[str, int] = {} if value is None else {"ef_search": value}

    def search(self, query: Vector) -> list[str]:
        found = self._collection.query(
            data=query, limit=TOP_K, include_value=True, include_metadata=True, **self._options
        )
        return [row[0] for row in found]

    def search_filtered(self, query: Vector, field: str, value: int) -> list[str]:
        found = self._collection.query(
            data=query,
            limit=TOP_K,
            filters={field: {"$eq": value}},
            include_value=True,
            include_metadata=True,
            **self._options,
        )
        return [row[0] for row in found]

    def close(self) -> None:
        self._client.disconnect()


if __name__ == "__main__":
    serve(Vecs)
