"""FAISS: an HNSW index in memory, saved as one file. It answers with numbers only: no texts, no metadata, no filters by them."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from peers._serve import EF_CONSTRUCTION, TOP_K, M, Peer, Rows, Vector, serve

faiss: Any = importlib.import_module("faiss")


class Faiss(Peer):
    distribution: ClassVar[str] = "faiss-cpu"
    needs: ClassVar[str] = "folder"
    dial: ClassVar[str | None] = "efSearch"
    default: ClassVar[int | None] = 16
    filters: ClassVar[bool] = False
    note: ClassVar[str] = (
        "`IndexHNSWFlat(16, inner product)` of vectors that are normalised, `efConstruction` 64, `write_index`; row numbers only: "
        "texts and metadata are neither stored nor fetched; dial: `hnsw.efSearch`"
    )

    def create(self, fields: Sequence[str], dimension: int) -> None:
        self._index: Any = faiss.IndexHNSWFlat(dimension, M, faiss.METRIC_INNER_PRODUCT)
        self._index.hnsw.efConstruction = EF_CONSTRUCTION

    def load(self, rows: Rows) -> None:
        self._index.add(rows.vectors)
        faiss.write_index(self._index, str(Path(self.place) / "index.faiss"))

    def index(self) -> None:
        pass

    def open(self, fields: Sequence[str], dimension: int) -> None:
        self._index = faiss.read_index(str(Path(self.place) / "index.faiss"))

    def turn(self, value: int | None) -> None:
        self._index.hnsw.efSearch = 16 if value is None else value

    def search(self, query: Vector) -> list[str]:
        _, numbers = self._index.search(query[None], TOP_K)
        return [f"r{number}" for number in numbers[0] if number >= 0]


if __name__ == "__main__":
    serve(Faiss)
