"""This library, at its defaults: records by column, the usual indexes, ``search_by_vector``."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any, ClassVar

from peers._serve import EF_CONSTRUCTION, TOP_K, M, Peer, Rows, Vector, serve

likewise: Any = importlib.import_module("likewise")


class Likewise(Peer):
    distribution: ClassVar[str] = "likewise"
    others: ClassVar[Sequence[str]] = ("psycopg",)
    default: ClassVar[int | None] = 100
    note: ClassVar[str] = (
        "`upsert_columns`, `ensure_indexes(vector=Hnsw(m=16, ef_construction=64), metadata=Gin(path_ops=True))`, "
        "`search_by_vector(…, where=Metadata(field) == value)`"
    )

    def _connect(self) -> None:
        self._store: Any = likewise.connect(self.place)

    def create(self, fields: Sequence[str], dimension: int) -> None:
        self._connect()
        self._collection: Any = self._store.ensure_collection(likewise.CollectionSpec("bench", dimension=dimension))

    def load(self, rows: Rows) -> None:
        self._collection.upsert_columns(ids=rows.ids, vectors=rows.vectors, metadata=rows.metadata, content=rows.texts)

    def index(self) -> None:
        self._collection.ensure_indexes(
            vector=likewise.Hnsw(m=M, ef_construction=EF_CONSTRUCTION), metadata=likewise.Gin(path_ops=True)
        )

    def open(self, fields: Sequence[str], dimension: int) -> None:
        self._connect()
        self._collection = self._store.collection("bench")

    def turn(self, value: int | None) -> None:
        self._options: dict[str, int] = {} if value is None else {"ef_search": value}

    def search(self, query: Vector) -> list[str]:
        return [each.id for each in self._collection.search_by_vector(query, top_k=TOP_K, **self._options)]

    def search_filtered(self, query: Vector, field: str, value: int) -> list[str]:
        where = likewise.Metadata(field) == value
        found = self._collection.search_by_vector(query, top_k=TOP_K, where=where, **self._options)
        return [each.id for each in found]

    def close(self) -> None:
        self._store.close()


if __name__ == "__main__":
    serve(Likewise)
