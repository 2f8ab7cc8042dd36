# Generated from src/likewise/backends/postgres/collection_async.py by tools/async_to_sync.py; edit that file instead.
"""A collection in PostgreSQL: asks ``_statements`` what to say, says it, and turns rows into records. No SQL is written here."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Literal, Self

from likewise.abc.columns import Columns
from likewise.abc.digests import StoredVector
from likewise.abc.embedder import Embedder, Modality
from likewise.abc.feeds import Feed, Payload, Position
from likewise.abc.loading import Part
from likewise.abc.sources import LoadMark, is_held
from likewise.abc.specs import stored_calibration
from likewise.abc.stores import Collection, ColumnOfVectors, IndexWatch, Progress, RecordSource
from likewise.abc.validation import (
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
from likewise.backends.postgres import _ddl
from likewise.backends.postgres import _searches as searches
from likewise.backends.postgres import _statements as statements
from likewise.backends.postgres._planner import FilterMemory
from likewise.backends.postgres._recall import overlap
from likewise.backends.postgres._rows import record_from_row, unpack_vector
from likewise.backends.postgres._table import Table, TableIndex, canonical
from likewise.backends.postgres.borrowed import borrow
from likewise.backends.postgres.connection import Database, Row, run
from likewise.backends.postgres.documents import PostgresDocuments
from likewise.backends.postgres.following import open_feed
from likewise.backends.postgres.health import look_at_vectors
from likewise.backends.postgres.indexing import IndexBuilder
from likewise.backends.postgres.loading import Load, check_claims
from likewise.backends.postgres.searching import FilteredSearch, find_fused
from likewise.backends.postgres.tuning import Tuning
from likewise.calibration import Calibration
from likewise.errors import CollectionNotFound, InvalidArgument, SchemaMismatch
from likewise.filters import Filter, Where, check_filter
from likewise.metrics import Metric
from likewise.records import (
    Include,
    IncludeField,
    Page,
    Record,
    SearchExplanation,
    SearchResult,
    SearchResults,
    VectorInput,
    found_record,
)
from likewise.schema import Gin, IndexInfo, MetadataIndex, VectorHealth, VectorIndex

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["PostgresCollection"]

#: Seconds until the table is looked at again, for indexes that somebody else has built or dropped.
_TABLE_SECONDS = 60.0
_NEAREST_FIRST = itemgetter("distance", "id")


def _own(index: TableIndex | None, ef_search: int | None) -> int | None:
    """The caller's ef_search, where the index has such a dial."""
    return ef_search if index is not None and index.method == "hnsw" else None


class PostgresCollection(Collection):
    """Records in one table."""

    def __init__(
        self,
        database: Database,
        table: Table,
        *,
        load: Callable[[str, Database], Table],
        embedder: Embedder | None,
    ) -> None:
        super().__init__(table.spec, embedder=embedder)
        self._database = database
        self._known = table
        self._known_at = time.monotonic()
        self._load = load
        self._filters = FilterMemory()
        self._tuning = Tuning(database)

    def _table(self) -> Table:
        if time.monotonic() - self._known_at > _TABLE_SECONDS:
            self._known = self._load(self.name, self._database)
            self._known_at = time.monotonic()
        return self._known

    def using(self, connection: Any) -> Self:
        inside = type(self)(Database(borrow(connection)), self._known, load=self._load, embedder=self.embedder)
        inside._filters = self._filters
        inside._tuning = self._tuning
        inside._recent = self._recent
        return inside

    # --- writing ----------------------------------------------------------------------------------------------------------------

    def insert(self, records: RecordSource, *, progress: Progress | None = None) -> int:
        return self._write(records, replace=False, progress=progress)

    def upsert(self, records: RecordSource, *, progress: Progress | None = None) -> int:
        return self._write(records, replace=True, progress=progress)

    def _write(self, records: RecordSource, *, replace: bool, progress: Progress | None) -> int:
        table = self._table()
        slow = self.embedder is not None and not (isinstance(records, Columns) and records.placed)
        lazy = not is_held(records)
        load = Load(self._database, table, replace=replace, slow=slow, lazy=lazy, progress=progress)
        known = load.known if replace and slow and table.embedded else None
        return load.run(self._blocks(records, known))

    def _stored_vectors(self, ids: list[str]) -> Mapping[str, StoredVector]:
        table = self._table()
        return Load(self._database, table, replace=True).known(ids) if table.embedded else {}

    def _load_mark(self, token: str) -> LoadMark | None:
        table = self._table()
        try:
            found = self._fetch(statements.load_mark(table, token))
        except CollectionNotFound as error:
            raise SchemaMismatch(
                "this database was set up by an older Likewise, which had no tokens of loads: run `likewise install`",
                collection=self.name,
            ) from error
        if not found:
            return None
        (row,) = found
        return LoadMark(row["position"], row["last_id"], row["finished"])

    def _write_part(self, part: Part, *, replace: bool, progress: Progress | None) -> int:
        table = self._table()
        saving = None if part.token is None else statements.save_mark(table, part.token, part.before, part.after)
        load = Load(self._database, table, replace=replace, saving=saving, progress=progress)
        return load.run(part.drawn())

    def delete(self, ids: str | Iterable[str] | None = None, *, where: Where = None) -> int:
        if (ids is None) is (where is None):
            raise InvalidArgument("delete needs ids or where=, one of the two; to delete everything: where=And()")
        table = self._table()
        if ids is not None:
            wanted = as_ids(ids)
            if not wanted:
                return 0
            statement = statements.delete_ids(table, wanted)
        else:
            condition = check_filter(where, self.columns)
            assert condition is not None
            statement = statements.delete_where(table, condition)
        check_claims(self._database, table)
        with self._database.transaction(collection=self.name) as connection:
            return run(connection, statement)

    # --- reading ----------------------------------------------------------------------------------------------------------------

    def get_many(self, ids: Iterable[str], *, include: Include = ("metadata", "content")) -> list[Record]:
        wanted, chosen = as_ids(ids), check_include(include)
        table = self._table()
        found = self._fetch(statements.get_many(table, wanted, chosen)) if wanted else []
        there = {row["id"]: record_from_row(row, chosen, table.vectors) for row in found}
        return [there[each] for each in wanted if each in there]

    def count(self, where: Where = None) -> int:
        table = self._table()
        found = self._fetch(statements.count(table, check_filter(where, self.columns)))
        return int(found[0]["count"])

    def scan(
        self,
        where: Where = None,
        *,
        cursor: str | None = None,
        limit: int = 100,
        include: Include = ("metadata", "content"),
    ) -> Page:
        chosen, condition, limit = check_include(include), check_filter(where, self.columns), check_limit(limit)
        if cursor is not None:
            as_ids([cursor])
        table = self._table()
        found = self._fetch(statements.scan(table, condition, after=cursor, limit=limit, include=chosen))
        records = [record_from_row(row, chosen, table.vectors) for row in found[:limit]]
        return Page(records, cursor=records[-1].id if len(found) > limit else None)

    def _fetch(self, statement: statements.Statement) -> list[Row]:
        return self._database.fetch(statement, collection=self.name)

    def documents(self, *, tenant: str = "", owner: str = "") -> PostgresDocuments:
        return PostgresDocuments(self, self._database, tenant=tenant, owner=owner)

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
        top_k, chosen, ef = check_top_k(top_k), check_include(include), check_ef_search(ef_search)
        wanted = check_recall(recall, ef)
        condition = check_filter(where, self.columns)
        name, field, query = check_query(vector, self._spec, using)
        furthest = distance_limit(Metric(field.metric), max_distance, min_score)
        self._recent.add(name, query)
        table = self._table()
        index = None if exact else table.vector_index(name)
        tuned: int | None = None
        if index is not None and wanted is not None:
            filtered = condition is not None
            tuned = self._tuning.dial(self._search_at, table, name, index, top_k, wanted, filtered=filtered)
            index = index if tuned else None
        elif condition is not None and not exact and ef is None and table.extension.iterative_scan:
            index = table.partial_index(name, condition) or index
        if index is not None and (planned := self._planned(table, index, condition, top_k, ef, tuned)):
            found, explanation = planned.nearest(name, query, chosen, index)
            return self._results(table, name, found, chosen, furthest, explanation)
        statement = searches.search(
            table, name, query, top_k=top_k, where=condition, include=chosen, index=index, dial=tuned or _own(index, ef)
        )
        found = self._fetch(statement)
        plan = "exact" if index is None else "approximate"
        if index is not None and len(found) < top_k:
            # The index may have given up early (correlated filters make it), or nothing more matches: look at every row.
            exactly = searches.search(table, name, query, top_k=top_k, where=condition, include=chosen, index=None)
            found, plan = self._fetch(exactly), "approximate, then exact"
        explanation = SearchExplanation(plan, index.name if index else None, statement.settings)
        return self._results(table, name, found, chosen, furthest, explanation)

    def _search_at(
        self,
        table: Table,
        name: str,
        queries: Sequence[NDArray[np.float32]],
        top_k: int,
        index: TableIndex | None,
        dial: int | None,
    ) -> list[SearchResults]:
        """The nearest of all records to each vector, ids only, by this index at this dial or by none."""
        nothing: frozenset[IncludeField] = frozenset()
        groups, _ = self._search_groups(table, name, queries, top_k, None, nothing, index, dial)
        how = SearchExplanation("approximate" if index else "exact")
        return [self._results(table, name, group, nothing, None, how) for group in groups]

    def _planned(
        self,
        table: Table,
        index: TableIndex,
        where: Filter | None,
        top_k: int,
        ef_search: int | None,
        tuned: int | None = None,
    ) -> FilteredSearch | None:
        """What answers a filtered search; None where there is nothing to choose, or the caller has chosen."""
        if where is None or ef_search is not None or index.method != "hnsw" or not table.extension.iterative_scan:
            return None
        return FilteredSearch(self._fetch, self._filters, table, where, top_k, dial=tuned)

    def _results(
        self,
        table: Table,
        name: str,
        found: Iterable[Row],
        include: frozenset[IncludeField],
        furthest: float | None,
        explanation: SearchExplanation,
    ) -> SearchResults:
        score = Metric(self._spec.vector_fields[name].metric).score
        near = [row for row in found if furthest is None or row["distance"] <= furthest]
        near.sort(key=_NEAREST_FIRST)
        results = []
        for rank, row in enumerate(near, 1):
            distance = row["distance"]
            results.append(found_record(record_from_row(row, include, table.vectors), distance, score(distance), rank))
        return SearchResults(results, complete=True, explanation=explanation)

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
        top_k, chosen, ef = check_top_k(top_k), check_include(include), check_ef_search(ef_search)
        wanted = check_recall(recall, ef)
        condition = check_filter(where, self.columns)
        name, field = self._spec.vector_field(using)
        queries = [check_query(v, self._spec, using)[2] for v in vectors]
        furthest = distance_limit(Metric(field.metric), max_distance, min_score)
        if not queries:
            return []
        table = self._table()
        index = None if exact else table.vector_index(name)
        tuned: int | None = None
        if index is not None and wanted is not None:
            filtered = condition is not None
            tuned = self._tuning.dial(self._search_at, table, name, index, top_k, wanted, filtered=filtered)
            index = index if tuned else None
        if index is not None and (planned := self._planned(table, index, condition, top_k, ef, tuned)):
            index = None if planned.exactly() else index
        groups, settings = self._search_groups(
            table, name, queries, top_k, condition, chosen, index, tuned or _own(index, ef)
        )
        plans = ["exact" if index is None else "approximate"] * len(queries)
        short = [i for i, group in enumerate(groups) if len(group) < top_k] if index is not None else []
        if short:
            again, _ = self._search_groups(
                table, name, [queries[i] for i in short], top_k, condition, chosen, None, None
            )
            for i, group in zip(short, again, strict=True):
                groups[i], plans[i] = group, "approximate, then exact"
        return [
            self._results(
                table, name, group, chosen, furthest, SearchExplanation(plan, index.name if index else None, settings)
            )
            for group, plan in zip(groups, plans, strict=True)
        ]

    def _search_groups(
        self,
        table: Table,
        name: str,
        queries: Sequence[NDArray[np.float32]],
        top_k: int,
        where: Filter | None,
        include: frozenset[IncludeField],
        index: TableIndex | None,
        dial: int | None,
    ) -> tuple[list[list[Row]], Mapping[str, str]]:
        """The rows found for each query, all in one statement, and the settings that it made."""
        statement = searches.search_many(
            table, name, queries, top_k=top_k, where=where, include=include, index=index, dial=dial
        )
        groups: list[list[Row]] = [[] for _ in queries]
        for row in self._fetch(statement):
            groups[row["query"] - 1].append(row)
        return groups, statement.settings

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
        top_k, chosen, ef = check_top_k(top_k), check_include(include), check_ef_search(ef_search)
        condition = check_filter(where, self.columns)
        weighed = check_weights(vectors, weights)
        queries = {name: check_query(vector, self._spec, name or None)[2] for name, vector in vectors.items()}
        table = self._table()
        legs = [
            searches.Leg(name, query, weighed[name], None if exact else table.vector_index(name))
            for name, query in queries.items()
        ]
        depth = searches.fusion_depth(top_k)
        for n, leg in enumerate(legs):
            planned = self._planned(table, leg.index, condition, depth, ef) if leg.index else None
            if planned is not None and planned.exactly():
                legs[n] = searches.Leg(leg.name, leg.vector, leg.weight, None)
        found, explanation = find_fused(
            self._fetch, table, legs, top_k=top_k, where=condition, include=chosen, ef_search=ef
        )
        results = [
            SearchResult(
                record=record_from_row(row, chosen, table.vectors),
                distance=1.0 - row["score"],
                score=row["score"],
                similarity=row["score"],
                rank=rank,
            )
            for rank, row in enumerate(found, 1)
            if min_score is None or row["score"] >= min_score
        ]
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
        table = self._known = self._load(self.name, self._database)
        condition = check_filter(where, self.columns)
        if condition is not None and vector is None:
            raise InvalidArgument("where= is about the rows of a vector index: give its plan too, say vector=Hnsw()")
        wanted: list[_ddl.Wanted] = []
        if vector is not None:
            rows = None if condition is None else canonical(condition)
            wanted.append(_ddl.Wanted(vector, table.spec.vector_field(using)[0], rows))
        elif metadata is None:
            names = [table.spec.vector_field(using)[0]] if using is not None else list(table.spec.vector_fields)
            fields = table.spec.vector_fields
            wanted.extend(_ddl.Wanted(_ddl.default_vector_index(fields[n]), n) for n in names)
            wanted.append(_ddl.Wanted(Gin()))
        if metadata is not None:
            wanted.append(_ddl.Wanted(metadata))
        builder = IndexBuilder(
            self._database, partial(self._load, self.name), concurrently=concurrently, watcher=progress
        )
        builder.ensure(table, wanted)
        return self.indexes()

    def indexes(self) -> list[IndexInfo]:
        self._known = self._load(self.name, self._database)
        self._known_at = time.monotonic()
        return self._known.index_infos()

    def recall(
        self,
        *,
        k: int = 10,
        sample: int = 100,
        using: str | None = None,
        ef_search: int | None = None,
        queries: ColumnOfVectors | Literal["recent"] | None = None,
    ) -> float:
        k, sample = check_top_k(k), check_limit(sample)
        name, _ = self._spec.vector_field(using)
        table = self._table()
        drawn = self._fetch(statements.sample_vectors(table, name, sample if queries is None else 1))
        if not drawn:
            raise InvalidArgument(f"collection {self.name!r} is empty, so there is no recall to measure")
        if queries is None:
            asked = [unpack_vector(row["vector"], table.element(name)) for row in drawn]
        else:
            asked = self._recent.chosen(queries, self._spec, using)
        if table.vector_index(name) is None:
            return 1.0
        truth = self.search_many(asked, top_k=k, using=using, include=(), exact=True)
        found = self.search_many(asked, top_k=k, using=using, include=(), ef_search=ef_search)
        return overlap(truth, found)

    def _feed(
        self, holds: frozenset[Payload], *, name: str | None, how: Literal["log", "triggers"] | None = None
    ) -> Feed:
        return open_feed(self._database.source.conninfo, self._known, holds, name, how)

    def _position(self) -> Position:
        return Position(self._fetch(statements.position(self._known))[0]["position"])

    def _calibration(self) -> Calibration | None:
        return stored_calibration(self._table().spec)

    def _store_calibration(self, calibration: Calibration | None) -> None:
        table = self._table()
        with self._database.transaction(collection=self.name) as connection:
            if not run(connection, statements.set_calibration(table, calibration)):
                raise CollectionNotFound(self.name)
        self._known = self._load(self.name, self._database)

    def _sample(self, count: int, modality: Modality | None) -> list[Record]:
        table = self._table()
        condition = None if modality is None else self._modality_filter(modality)
        found = self._fetch(statements.sample_records(table, count, condition))
        return [record_from_row(row, frozenset({"vector"}), table.vectors) for row in found]

    def index_health(self) -> list[VectorHealth]:
        table = self._known = self._load(self.name, self._database)
        return look_at_vectors(table, fetch=self._fetch, search=self._search_at, tuning=self._tuning)
