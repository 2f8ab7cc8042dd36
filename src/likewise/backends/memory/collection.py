# Generated from src/likewise/backends/memory/collection_async.py by tools/async_to_sync.py; edit that file instead.
"""A collection in memory: checks the arguments, then looks at every row."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from typing import Any, Literal, Self

from likewise._deadline import check_deadline
from likewise.abc.blocks import rows_of_block
from likewise.abc.digests import StoredVector
from likewise.abc.embedder import Embedder, Modality
from likewise.abc.embedding import Known
from likewise.abc.loading import Part
from likewise.abc.sources import LoadMark
from likewise.abc.specs import stored_calibration
from likewise.abc.stores import Collection, ColumnOfVectors, IndexWatch, Progress, RecordSource
from likewise.abc.validation import (
    Prepared,
    as_ids,
    check_ef_search,
    check_include,
    check_limit,
    check_query,
    check_recall,
    check_top_k,
    check_weights,
    distance_limit,
)
from likewise.backends.memory._search import fuse, fusion_depth, nearest
from likewise.backends.memory._tables import Tables, record_from_row
from likewise.calibration import Calibration
from likewise.errors import InvalidArgument, UnsupportedFeature
from likewise.filters import Filter, Where, check_filter
from likewise.filters.matching import matches
from likewise.metrics import Metric
from likewise.records import (
    Include,
    LoadProgress,
    Page,
    Record,
    SearchExplanation,
    SearchResult,
    SearchResults,
    VectorInput,
)
from likewise.schema import CollectionSpec, IndexInfo, MetadataIndex, VectorHealth, VectorIndex

__all__ = ["MemoryCollection"]

#: After so many rows the deadline is looked at again.
_ROWS = 1_000


class MemoryCollection(Collection):
    """Records in one table of this process."""

    def __init__(self, tables: Tables, spec: CollectionSpec, *, embedder: Embedder | None) -> None:
        super().__init__(spec, embedder=embedder)
        self._tables = tables

    def using(self, connection: Any) -> Self:
        raise UnsupportedFeature("transactions", backend="memory", hint="each call is atomic; nothing larger is")

    # --- writing ----------------------------------------------------------------------------------------------------------------

    def insert(self, records: RecordSource, *, progress: Progress | None = None) -> int:
        return self._tables.insert(self.name, self._prepared(records, None, progress))

    def upsert(self, records: RecordSource, *, progress: Progress | None = None) -> int:
        return self._tables.upsert(self.name, self._prepared(records, self._stored_vectors, progress))

    def _prepared(self, records: RecordSource, known: Known | None, progress: Progress | None) -> list[Prepared]:
        """All records, checked; nothing is written before the last one is."""
        check_deadline()
        prepared: list[Prepared] = []
        for batch in self._batches(records, known):
            prepared += batch
            check_deadline()
            if progress is not None:
                progress(LoadProgress("rows", len(prepared)))
        if progress is not None:
            progress(LoadProgress("done", len(prepared)))
        return prepared

    def _stored_vectors(self, ids: list[str]) -> Mapping[str, StoredVector]:
        check_deadline()
        return {
            row.id: StoredVector(row.embedded, row.vectors[""])
            for row in self._tables.find(self.name, ids)
            if row.embedded is not None and "" in row.vectors
        }

    def _load_mark(self, token: str) -> LoadMark | None:
        check_deadline()
        return self._tables.load_mark(self.name, token)

    def _write_part(self, part: Part, *, replace: bool, progress: Progress | None) -> int:
        check_deadline()
        rows = [row for block in part.blocks for row in rows_of_block(block)]
        return self._tables.write_part(
            self.name, rows, replace=replace, token=part.token, before=part.before, after=part.after
        )

    def delete(self, ids: str | Iterable[str] | None = None, *, where: Where = None) -> int:
        if (ids is None) is (where is None):
            raise InvalidArgument("delete needs ids or where=, one of the two; to delete everything: where=And()")
        check_deadline()
        wanted = as_ids(ids) if ids is not None else [row.id for row in self._matching(self._condition(where))]
        return self._tables.delete(self.name, wanted)

    # --- reading ----------------------------------------------------------------------------------------------------------------

    def get_many(self, ids: Iterable[str], *, include: Include = ("metadata", "content")) -> list[Record]:
        wanted, chosen = as_ids(ids), check_include(include)
        check_deadline()
        return [record_from_row(row, chosen) for row in self._tables.find(self.name, wanted)]

    def count(self, where: Where = None) -> int:
        return len(self._matching(self._condition(where)))

    def scan(
        self,
        where: Where = None,
        *,
        cursor: str | None = None,
        limit: int = 100,
        include: Include = ("metadata", "content"),
    ) -> Page:
        chosen, condition, limit = check_include(include), self._condition(where), check_limit(limit)
        if cursor is not None:
            as_ids([cursor])
        found = [row for row in self._matching(condition) if cursor is None or row.id > cursor]
        found.sort(key=lambda row: row.id)
        records = [record_from_row(row, chosen) for row in found[:limit]]
        return Page(records, cursor=records[-1].id if len(found) > limit else None)

    def _condition(self, where: Where) -> Filter | None:
        return check_filter(where, self.columns)

    def _matching(self, condition: Filter | None) -> list[Prepared]:
        """The rows that match, in no order."""
        check_deadline()
        rows = self._tables.rows(self.name)
        if condition is None:
            return rows
        found: list[Prepared] = []
        for number, row in enumerate(rows, 1):
            if matches(row, condition):
                found.append(row)
            if number % _ROWS == 0:
                check_deadline()
        return found

    # --- searching --------------------------------------------------------------------------------------------------------------

    def search_by_vector(
        self,
        vector: VectorInput,
        *,
        top_k: int = 10,
        where: Where = None,
        max_distance: float | None = None,
        min_score: float | None = None,
        using: str | None = None,
        include: Include = ("metadata", "content"),
        exact: bool = False,
        ef_search: int | None = None,
        recall: float | None = None,
    ) -> SearchResults:
        found = self.search_many(
            [vector],
            top_k=top_k,
            where=where,
            max_distance=max_distance,
            min_score=min_score,
            using=using,
            include=include,
            exact=exact,
            ef_search=ef_search,
            recall=recall,
        )
        name, _, query = check_query(vector, self._spec, using)
        self._recent.add(name, query)
        return found[0]

    def search_many(
        self,
        vectors: ColumnOfVectors,
        *,
        top_k: int = 10,
        where: Where = None,
        max_distance: float | None = None,
        min_score: float | None = None,
        using: str | None = None,
        include: Include = ("metadata", "content"),
        exact: bool = False,
        ef_search: int | None = None,
        recall: float | None = None,
    ) -> list[SearchResults]:
        top_k, chosen, _ = check_top_k(top_k), check_include(include), check_ef_search(ef_search)
        check_recall(recall, ef_search)
        condition = self._condition(where)
        name, field = self._spec.vector_field(using)
        queries = [check_query(vector, self._spec, using)[2] for vector in vectors]
        metric = Metric(field.metric)
        furthest = distance_limit(metric, max_distance, min_score)
        rows = self._matching(condition)
        answers = []
        for query in queries:
            near = nearest(rows, name, query, metric, top_k)
            results = [
                SearchResult(
                    record=record_from_row(row, chosen),
                    distance=distance,
                    score=metric.score(distance),
                    similarity=metric.similarity(distance),
                    rank=rank,
                )
                for rank, (distance, row) in enumerate(near, 1)
                if furthest is None or distance <= furthest
            ]
            answers.append(SearchResults(results, complete=True, explanation=SearchExplanation("exact")))
        return answers

    def search_by_vectors(
        self,
        vectors: Mapping[str, VectorInput],
        *,
        weights: Mapping[str, float] | None = None,
        top_k: int = 10,
        where: Where = None,
        min_score: float | None = None,
        include: Include = ("metadata", "content"),
        exact: bool = False,
        ef_search: int | None = None,
    ) -> SearchResults:
        top_k, chosen, _ = check_top_k(top_k), check_include(include), check_ef_search(ef_search)
        condition = self._condition(where)
        weighed = check_weights(vectors, weights)
        queries = {name: check_query(vector, self._spec, name or None) for name, vector in vectors.items()}
        rows = self._matching(condition)
        depth = fusion_depth(top_k)
        rankings = {
            name: [row for _, row in nearest(rows, name, query, Metric(field.metric), depth)]
            for name, (_, field, query) in queries.items()
        }
        results = [
            SearchResult(
                record=record_from_row(row, chosen), distance=1.0 - score, score=score, similarity=score, rank=rank
            )
            for rank, (score, row) in enumerate(fuse(rankings, weighed, top_k), 1)
            if min_score is None or score >= min_score
        ]
        explanation = SearchExplanation("fused", legs={name: SearchExplanation("exact") for name in queries})
        return SearchResults(results, complete=True, explanation=explanation)

    # --- indexes ----------------------------------------------------------------------------------------------------------------

    def ensure_indexes(
        self,
        *,
        vector: VectorIndex | None = None,
        metadata: MetadataIndex | None = None,
        using: str | None = None,
        where: Where = None,
        concurrently: bool | None = None,
        progress: IndexWatch | None = None,
    ) -> list[IndexInfo]:
        raise UnsupportedFeature("indexes", backend="memory", hint="every search is exact")

    def indexes(self) -> list[IndexInfo]:
        check_deadline()
        self._tables.spec(self.name)
        return []

    def _calibration(self) -> Calibration | None:
        return stored_calibration(self._tables.spec(self.name))

    def _store_calibration(self, calibration: Calibration | None) -> None:
        check_deadline()
        self._tables.set_calibration(self.name, calibration)

    def _sample(self, count: int, modality: Modality | None) -> list[Record]:
        rows = self._matching(None if modality is None else self._modality_filter(modality))
        drawn = random.sample(rows, min(count, len(rows)))
        return [record_from_row(row, frozenset({"vector"})) for row in drawn]

    def index_health(self) -> list[VectorHealth]:
        rows = self.count()
        return [VectorHealth(name, rows) for name in self._spec.vector_fields]

    def recall(
        self,
        *,
        k: int = 10,
        sample: int = 100,
        using: str | None = None,
        ef_search: int | None = None,
        queries: ColumnOfVectors | Literal["recent"] | None = None,
    ) -> float:
        check_top_k(k)
        check_limit(sample)
        check_ef_search(ef_search)
        name, _ = self._spec.vector_field(using)
        if not any(name in row.vectors for row in self._matching(None)):
            raise InvalidArgument(f"collection {self.name!r} is empty, so there is no recall to measure")
        if queries is not None:
            self._recent.chosen(queries, self._spec, using)
        return 1.0
