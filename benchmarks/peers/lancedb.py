"""LanceDB: a table made from Arrow, an HNSW index in one partition, scalar indexes on the metadata columns."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any, ClassVar

from peers._serve import EF_CONSTRUCTION, TOP_K, M, Peer, Rows, Vector, serve

lancedb: Any = importlib.import_module("lancedb")
indexes: Any = importlib.import_module("lancedb.index")
pyarrow: Any = importlib.import_module("pyarrow")


class LanceDB(Peer):
    distribution: ClassVar[str] = "lancedb"
    others: ClassVar[Sequence[str]] = ("pyarrow",)
    needs: ClassVar[str] = "folder"
    dial: ClassVar[str | None] = "ef"
    default: ClassVar[int | None] = None
    note: ClassVar[str] = (
        "`create_table` from Arrow, `create_index` with `HnswFlat(cosine, num_partitions=1, m=16, ef_construction=64)` and a bitmap index "
        "on each metadata column; `table.search(…).select(…).limit(10).to_list()`; dial: `.ef(…)`"
    )

    def create(self, fields: Sequence[str], dimension: int) -> None:
        self._database: Any = lancedb.connect(self.place)
        self._fields = list(fields)

    def load(self, rows: Rows) -> None:
        flat = pyarrow.array(rows.vectors.reshape(-1))
        columns = {
            "id": rows.ids,
            "vector": pyarrow.FixedSizeListArray.from_arrays(flat, rows.vectors.shape[1]),
            "text": rows.texts,
        }
        columns |= {field: [metadata[field] for metadata in rows.metadata] for field in self._fields}
        self._table: Any = self._database.create_table("bench", data=pyarrow.table(columns))

    def index(self) -> None:
        config = indexes.HnswFlat(distance_type="cosine", num_partitions=1, m=M, ef_construction=EF_CONSTRUCTION)
        self._table.create_index("vector", config=config)
        for field in self._fields:
            self._table.create_index(field, config=indexes.Bitmap())
        self._table.wait_for_index([index.name for index in self._table.list_indices()])

    def open(self, fields: Sequence[str], dimension: int) -> None:
        self._table = lancedb.connect(self.place).open_table("bench")
        self._columns = ["id", "text", *fields]

    def turn(self, value: int | None) -> None:
        self._value = value

    def _query(self, query: Vector) -> Any:
        made = self._table.search(query).distance_type("cosine").select([*self._columns, "_distance"]).limit(TOP_K)
        return made if self._value is None else made.ef(self._value)

    def search(self, query: Vector) -> list[str]:
        return [row["id"] for row in self._query(query).to_list()]

    def search_filtered(self, query: Vector, field: str, value: int) -> list[str]:
        return [row["id"] for row in self._query(query).where(f"{field} = {value}").to_list()]


if __name__ == "__main__":
    serve(LanceDB)
