"""Results and collections as JSON documents, the same keys in every command."""

from __future__ import annotations

import dataclasses
from typing import Any

from likewise.abc.stores import Collection
from likewise.records import SearchResult, SearchResults
from likewise.schema import IndexInfo

__all__ = ["collection_json", "index_json", "result_json", "results_json"]


def result_json(result: SearchResult) -> dict[str, Any]:
    """One result."""
    record = result.record
    return {
        "rank": result.rank,
        "id": record.id,
        "score": result.score,
        "similarity": result.similarity,
        "distance": result.distance,
        "modality": record.modality,
        "content_id": record.content_id,
        "content": record.content,
        "metadata": dict(record.metadata),
    }


def results_json(collection: str, query: dict[str, Any], found: SearchResults) -> dict[str, Any]:
    """What a search found, and how."""
    explanation = found.explain()
    return {
        "collection": collection,
        "query": query,
        "count": len(found),
        "complete": found.complete,
        "plan": explanation.plan,
        "index": explanation.index,
        "results": [result_json(r) for r in found],
    }


def index_json(index: IndexInfo) -> dict[str, Any]:
    """An index."""
    return dataclasses.asdict(index)


def collection_json(collection: Collection) -> dict[str, Any]:
    """A collection: its specification, how many records it has, and its indexes."""
    return {
        **collection.spec.to_json(),
        "records": collection.count(),
        "indexes": [index_json(i) for i in collection.indexes()],
    }
