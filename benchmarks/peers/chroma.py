"""Chroma: a collection of a persistent client, which keeps its index while rows are added."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any, ClassVar

from peers._serve import EF_CONSTRUCTION, TOP_K, M, Peer, Rows, Vector, batches, serve

chromadb: Any = importlib.import_module("chromadb")


class Chroma(Peer):
    distribution: ClassVar[str] = "chromadb"
    needs: ClassVar[str] = "folder"
    default: ClassVar[int | None] = 100
    note: ClassVar[str] = (
        "`PersistentClient`, `collection.add` by the largest batch it takes (the index grows meanwhile), hnsw with `max_neighbors` 16, "
        "`ef_construction` 64, space cosine; `collection.query`; dial: `collection.modify(configuration={'hnsw': {'ef_search': …}})`, then a new client"
    )

    def _configure(self, ef_search: int) -> dict[str, Any]:
        return {"hnsw": {"ef_search": ef_search}}

    def create(self, fields: Sequence[str], dimension: int) -> None:
        self._client: Any = chromadb.PersistentClient(path=self.place)
        self._collection: Any = self._client.create_collection(
            "bench",
            embedding_function=None,
            configuration={"hnsw": {"space": "cosine", "max_neighbors": M, "ef_construction": EF_CONSTRUCTION}},
        )

    def load(self, rows: Rows) -> None:
        for part in batches(len(rows), self._client.get_max_batch_size()):
            self._collection.add(
                ids=rows.ids[part],
                embeddings=rows.vectors[part],
                documents=rows.texts[part],
                metadatas=rows.metadata[part],
            )

    def index(self) -> None:
        pass

    def _open(self) -> None:
        self._client = chromadb.PersistentClient(path=self.place)
        self._collection = self._client.get_collection("bench", embedding_function=None)

    def open(self, fields: Sequence[str], dimension: int) -> None:
        self._open()
        self._set = 100

    def turn(self, value: int | None) -> None:
        wanted = 100 if value is None else value
        if wanted != self._set:
            self._collection.modify(configuration={"hnsw": {"ef_search": wanted}})
            self._client.close()  # an index that is loaded keeps the ef_search it was loaded with
            self._open()
            self._set = wanted

    def close(self) -> None:
        self._client.close()

    def search(self, query: Vector) -> list[str]:
        ids: list[str] = self._collection.query(query_embeddings=[query], n_results=TOP_K)["ids"][0]
        return ids

    def search_filtered(self, query: Vector, field: str, value: int) -> list[str]:
        found = self._collection.query(query_embeddings=[query], n_results=TOP_K, where={field: value})
        ids: list[str] = found["ids"][0]
        return ids


if __name__ == "__main__":
    serve(Chroma)
