"""Qdrant Edge: Qdrant's engine in this process; ids are numbers, the record's id is one more key of the payload."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any, ClassVar

from peers._serve import EF_CONSTRUCTION, TOP_K, M, Peer, Rows, Vector, batches, serve

edge: Any = importlib.import_module("qdrant_edge")


class QdrantEdge(Peer):
    distribution: ClassVar[str] = "qdrant-edge-py"
    needs: ClassVar[str] = "folder"
    dial: ClassVar[str | None] = "hnsw_ef"
    default: ClassVar[int | None] = EF_CONSTRUCTION
    note: ClassVar[str] = (
        "`EdgeShard.update(upsert_points)` by 1,000 with an integer index on each payload key, `optimize()` (m 16, ef_construct 64), "
        "`query`; without a dial it searches with ef_construct; dial: `SearchParams(hnsw_ef=…)`"
    )

    def create(self, fields: Sequence[str], dimension: int) -> None:
        self._shard: Any = edge.EdgeShard.create(
            self.place,
            edge.EdgeConfig(
                vectors=edge.EdgeVectorParams(size=dimension, distance=edge.Distance.Cosine),
                hnsw_config=edge.HnswIndexConfig(m=M, ef_construct=EF_CONSTRUCTION, full_scan_threshold=10_000),
            ),
        )
        for field in fields:
            self._shard.update(edge.UpdateOperation.create_field_index(field, edge.PayloadSchemaType.Integer))

    def load(self, rows: Rows) -> None:
        for part in batches(len(rows), 1000):
            columns = zip(
                range(part.start, part.stop),
                rows.ids[part],
                rows.vectors[part],
                rows.texts[part],
                rows.metadata[part],
                strict=True,
            )
            points = [
                edge.Point(id=number, vector=vector.tolist(), payload={"id": name, "text": text, **metadata})
                for number, name, vector, text, metadata in columns
            ]
            self._shard.update(edge.UpdateOperation.upsert_points(points))
        self._shard.flush()

    def index(self) -> None:
        self._shard.optimize()
        self._shard.flush()

    def open(self, fields: Sequence[str], dimension: int) -> None:
        self._shard = edge.EdgeShard.load(self.place)

    def turn(self, value: int | None) -> None:
        self._parameters: Any = None if value is None else edge.SearchParams(hnsw_ef=value)

    def _find(self, query: Vector, condition: Any) -> list[str]:
        request = edge.QueryRequest(
            query=edge.Query.Nearest(query.tolist()),
            limit=TOP_K,
            filter=condition,
            params=self._parameters,
            with_payload=True,
        )
        return [point.payload["id"] for point in self._shard.query(request)]

    def search(self, query: Vector) -> list[str]:
        return self._find(query, None)

    def search_filtered(self, query: Vector, field: str, value: int) -> list[str]:
        condition = edge.FieldCondition(key=field, match=edge.MatchValue(value=value))
        return self._find(query, edge.Filter(must=[condition]))

    def close(self) -> None:
        self._shard.close()


if __name__ == "__main__":
    serve(QdrantEdge)
