# Generated from src/likewise/backends/faiss/_searching_async.py by tools/async_to_sync.py; edit that file instead.
"""One search of a replica: what is nearest in memory, and the rows of it, from memory too where it holds them, else from the database.

Rows from the database are looked up by their ids in one query, and checked again: what is no more there, or no longer matches, is no
result, and others come in its place. Where that does not give as many as there may be, the database has to answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

import numpy as np

from likewise.abc.stores import Collection
from likewise.abc.validation import MAX_TOP_K
from likewise.backends.faiss.columns import needed
from likewise.filters import Filter
from likewise.filters.matching import matches
from likewise.metrics import Metric
from likewise.records import NOTHING, IncludeField, Record, SearchExplanation, SearchResults, found_record

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from likewise.backends.faiss.image import Found, Image

__all__ = ["Search"]

#: Queries at once, rows that are compared one by one, and rows whose metadata may have to be read for a filter, beyond which a
#: search is no work for an event loop.
_MANY_QUERIES, _MANY_ROWS, _MANY_READ = 4, 100_000, 10_000
#: So many times as many candidates as results, where the replica cannot tell which match.
_OVER = 5
#: Candidates beyond those that were no more there, when they are looked for again.
_MORE = 10
#: How often candidates are looked for before the database answers.
_ROUNDS = 2
_EXACT, _APPROXIMATE = SearchExplanation("exact", by="replica"), SearchExplanation("approximate", by="replica")


# Not frozen: that takes a call for each field, and this is made for each search.
@dataclass(slots=True)
class Search:
    """What is asked: checked already. Nobody changes it."""

    inner: Collection
    image: Image
    name: str
    metric: Metric
    top_k: int
    where: Filter | None
    include: frozenset[IncludeField]
    furthest: float | None
    exact: bool
    ef_search: int | None

    def heavy(self, queries: int) -> bool:
        """Whether so many queries are too much for an event loop."""
        image = self.image
        return (
            queries > _MANY_QUERIES
            or (self.exact and len(image) > _MANY_ROWS)
            or (len(image) > _MANY_READ and not image.answers_quickly(self.where))
        )

    def found(self, queries: Sequence[NDArray[np.float32]] | NDArray[np.float32]) -> list[Found]:
        """What is nearest to each query. Holds up the caller for as long as it takes."""
        asked = queries if isinstance(queries, np.ndarray) else np.stack(queries)
        image = self.image
        if self.where is None or image.answers(self.where):
            return self._search(asked, self.top_k, self.where)
        return self._search(asked, min(MAX_TOP_K, _OVER * self.top_k), None)

    def answered(self, found: list[Found], queries: Sequence[NDArray[np.float32]]) -> list[SearchResults] | str:
        """The results, as many as there are up to ``top_k``; or why the database has to answer."""
        image = self.image
        if image.answers_include(self.include) and image.answers(self.where):
            return [self._results(image.records(each, self.include), each.distances.tolist(), each) for each in found]
        return self._checked(found, queries)

    def _checked(self, found: list[Found], queries: Sequence[NDArray[np.float32]]) -> list[SearchResults] | str:
        """The same with rows from the database."""
        image, where = self.image, self.where
        over = where is not None and not image.answers(where)
        fields = self.include if where is None else self.include | _fields(where)
        answers: list[SearchResults | None] = [None] * len(found)
        asked = min(MAX_TOP_K, _OVER * self.top_k) if over else self.top_k
        for _ in range(_ROUNDS):
            rows = self._rows(found, fields)
            gone = 0
            for place, each in enumerate(found):
                pairs = list(zip(image.ids(each), each.distances.tolist(), strict=True))
                there = [(rows[i], distance) for i, distance in pairs if i in rows]
                kept = [pair for pair in there if where is None or matches(pair[0], where)][: self.top_k]
                # All that there are: every candidate was looked at, and no row has changed since.
                everything = len(pairs) < asked and len(there) == len(pairs) and (over or len(kept) == len(there))
                if len(kept) == self.top_k or everything:
                    records = [self._only_asked(record) for record, _ in kept]
                    answers[place] = self._results(records, [distance for _, distance in kept], each)
                gone = max(gone, len(pairs) - len(kept))
            if all(answer is not None for answer in answers):
                return cast("list[SearchResults]", answers)
            asked = min(MAX_TOP_K, asked * _OVER if over else asked + gone + _MORE)
            found = self._search(np.stack(queries), asked, None if over else where)
        if over:
            return "the filter is about what the replica does not hold, and few of those near match it"
        return "rows have changed since"

    def _search(self, queries: NDArray[np.float32], top_k: int, where: Filter | None) -> list[Found]:
        return self.image.search(self.name, queries, top_k, where=where, exact=self.exact, ef_search=self.ef_search)

    def _rows(self, found: list[Found], fields: frozenset[IncludeField]) -> dict[str, Record]:
        ids = list(dict.fromkeys(i for each in found for i in self.image.ids(each)))
        rows = self.inner.get_many(ids, include=tuple(fields)) if ids else []
        return {record.id: record for record in rows}

    def _only_asked(self, record: Record) -> Record:
        """Without what was fetched for the filter's sake."""
        if "metadata" not in self.include and record.metadata:
            record = replace(record, metadata=NOTHING)
        if "content" not in self.include and record.content is not None:
            record = replace(record, content=None)
        return record

    def _results(self, records: list[Record], distances: list[float], found: Found) -> SearchResults:
        """The records with their distances, nearest first, up to the limit."""
        explanation = _EXACT if found.exact else _APPROXIMATE
        if self.where is not None and found.matching is not None:
            explanation = replace(explanation, matching=found.matching)
        score, furthest = self.metric.score, self.furthest
        if furthest is not None:
            distances = [distance for distance in distances if distance <= furthest]
        results = [
            found_record(record, distance, score(distance), rank)
            for rank, (record, distance) in enumerate(zip(records, distances, strict=False), 1)
        ]
        return SearchResults(results, complete=True, explanation=explanation)


def _fields(where: Filter) -> frozenset[IncludeField]:
    """What has to be fetched of a record so that the filter can be evaluated."""
    payloads = needed(where)
    fields: tuple[IncludeField, IncludeField] = ("metadata", "content")
    return frozenset(field for field in fields if field in payloads)
