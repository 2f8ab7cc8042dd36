# Generated from src/likewise/backends/faiss/collection_async.py by tools/async_to_sync.py; edit that file instead.
"""A collection whose nearest neighbours are found in this process: the replica answers where it can, the database everything else.

Whatever keeps the replica from answering (it is being built, it is behind and does not catch up in time, it does not hold what the filter
is about), the database answers in its place: nobody is given an error, or less than there is, because of it.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, Self

from likewise._deadline import check_deadline, remaining
from likewise.abc.digests import StoredVector
from likewise.abc.embedder import Modality
from likewise.abc.feeds import Position
from likewise.abc.loading import Part
from likewise.abc.running import run_apart, run_blocking, waited
from likewise.abc.sources import LoadMark
from likewise.abc.stores import Collection, ColumnOfVectors, IndexWatch, Progress, RecordSource
from likewise.abc.validation import (
    check_ef_search,
    check_include,
    check_query,
    check_recall,
    check_top_k,
    distance_limit,
)
from likewise.backends.faiss._reading import CURRENT, Reading
from likewise.backends.faiss._searching import Search
from likewise.backends.faiss.follower import Follower
from likewise.backends.faiss.replica import Learnt, Replica, ReplicaStatus, Written
from likewise.backends.faiss.verifying import VerifyReport, verify
from likewise.calibration import Calibration
from likewise.errors import BackendTimeout, LikewiseError
from likewise.filters import Where, check_filter
from likewise.metrics import Metric
from likewise.records import Include, LoadReport, Page, Record, SearchResults, VectorInput
from likewise.schema import IndexInfo, MetadataIndex, VectorHealth, VectorIndex

if TYPE_CHECKING:
    from likewise.abc.documents import Documents
    from likewise.backends.faiss.image import Image

__all__ = ["FaissCollection"]


class FaissCollection(Collection):
    """Records in a collection of another store, and a replica of their vectors in memory."""

    def __init__(self, inner: Collection, follower: Follower, kept: Replica | None) -> None:
        super().__init__(inner.spec, embedder=inner.embedder)
        self._inner = inner
        self._follower = follower
        self._replica = kept
        self._reading = CURRENT
        # One memory of vectors of queries, whoever answers.
        self._embedding = inner._embedding
        self._recent = inner._recent

    @property
    def inner(self) -> Collection:
        """The collection of record."""
        return self._inner

    def using(self, connection: Any) -> Self:
        """The same collection inside the caller's transaction. No replica knows what is not committed: there the database answers."""
        return type(self)(self._inner.using(connection), self._follower, None)

    # --- what is read -----------------------------------------------------------------------------------------------------------

    def reading(
        self,
        *,
        at_least: Position | str | None = None,
        within: float | None = None,
        newest: bool = False,
        available: bool = False,
    ) -> Self:
        """The same collection, searched by another rule of how new the answer has to be. Give one of the four.

        ``at_least`` is a position: what was committed before it was learnt is seen. ``within`` is a number of seconds: what was committed
        longer ago is seen. ``newest``: what was committed before the search began is seen. Without any of them, as this object reads until
        then, a search sees what was written through its store, and of what others wrote what has come here, usually some milliseconds late.
        So do these three see what their own store wrote. ``available`` is what has come here, of whomever: such a search never waits.
        """
        view = copy.copy(self)
        view._reading = Reading.checked(at_least, within, newest, available)
        return view

    def position(self) -> Position:
        """Everything that was committed before this call is at or before this position; any process may read ``at_least`` from there."""
        return self._inner._position()

    def replica_status(self) -> ReplicaStatus:
        """How the replica is; one that was not searched yet begins. ``lag`` is measured: it is asked for what is newest, for up to its patience."""
        if self._replica is not None:
            self.reading(newest=True)._current()
        return self._kept().status()

    def replica_wait(self, seconds: float = 60.0) -> ReplicaStatus:
        """Wait until the replica answers and has all that was committed before the call; ``BackendTimeout`` after so many seconds."""
        kept = self._kept()
        self._follower.start(kept)
        until = time.monotonic() + seconds
        wanted = [self._learn(kept)]
        while (future := kept.wait_for(wanted)) is not None:
            self._follower.hurry(kept)
            # What stopped has its waits ended; ``failed`` tries again by itself.
            came = kept.state != "stopped" and waited(future, max(0.0, until - time.monotonic()))
            if not came or kept.state == "stopped":
                kept.gave_up(future, [])
                raise BackendTimeout(f"the replica of {self.name!r} was not ready in {seconds:g} s: {kept.why_not()}")
        return kept.status()

    def verify_replica(self, *, seconds: float = 600.0) -> VerifyReport:
        """Compare every row of the replica with the database's; what differs is looked at again until it can be told from what is on its way.

        ``BackendTimeout`` if the replica is not ready, or the comparison not done, in so many seconds.
        """
        until = time.monotonic() + seconds
        self.replica_wait(seconds)
        kept = self._kept()

        def caught_up() -> Image:
            self.replica_wait(max(0.0, until - time.monotonic()))
            if (image := kept.image) is None:
                raise BackendTimeout(f"the replica of {self.name!r} went away while it was compared: {kept.why_not()}")
            return image

        return verify(self._inner, kept.holds, caught_up)

    def rebuild_replica(self) -> None:
        """Throw the replica and its file away, and begin anew. Until it is there, the database answers."""
        run_apart(self._follower.rebuild, self._kept())

    def drop_replica(self) -> None:
        """Stop the replica, delete its file, and have the database keep nothing for it. Blocks; who opens the collection next begins anew.

        ``BackendConflict`` if the file is another process's, which follows the collection; ``LikewiseError`` if the database could not be had
        to forget: then it may be tried again.
        """
        self._follower.drop(self._kept())

    def _kept(self) -> Replica:
        if self._replica is None:
            raise LikewiseError("inside a transaction there is no replica: the database answers")
        return self._replica

    def _learn(self, kept: Replica) -> Learnt:
        question = kept.ask()
        return kept.learnt(question, self._inner._position())

    def _current(self) -> Image | str:
        """The copy, if it has all that this object must see; else why the database has to answer."""
        kept = self._replica
        if kept is None:
            return "inside a transaction"
        image = kept.image
        if image is not None and self._reading is CURRENT and not kept.outstanding:
            return image
        self._follower.start(kept)
        if self._reading.available:
            return image or kept.why_not()
        seconds = kept.seconds()
        if image is None and not seconds:
            return kept.why_not()
        wanted = self._wanted(kept)
        future = kept.wait_for(wanted)
        if future is not None:
            self._follower.hurry(kept)
            left = remaining()
            came = False
            try:
                came = waited(future, seconds if left is None else min(seconds, left))
            finally:
                if not came:
                    kept.gave_up(future, wanted)
            if not came:
                return kept.why_not()
        return kept.image or kept.why_not()

    def _wanted(self, kept: Replica) -> list[Learnt]:
        """What the copy must have reached."""
        reading = self._reading
        if reading.newest:
            return [self._learn(kept)]
        wanted = []
        if kept.outstanding:
            wanted.append(kept.own_writes() or self._learn(kept))
        if reading.at_least is not None:
            wanted.append(Learnt(reading.at_least))
        if reading.within is not None:
            moment = time.monotonic() - reading.within
            if not kept.current_since(moment):
                wanted.append(kept.learnt_since(moment) or self._learn(kept))
        return wanted

    # --- writing ----------------------------------------------------------------------------------------------------------------

    def insert(self, records: RecordSource, *, progress: Progress | None = None) -> int:
        try:
            count = self._inner.insert(records, progress=progress)
        finally:
            self._wrote()
        return self._written(count)

    def upsert(self, records: RecordSource, *, progress: Progress | None = None) -> int:
        try:
            count = self._inner.upsert(records, progress=progress)
        finally:
            self._wrote()
        return self._written(count)

    def load(
        self,
        records: RecordSource,
        *,
        replace: bool = True,
        skip_invalid: bool = False,
        token: str | None = None,
        part_rows: int = 50_000,
        progress: Progress | None = None,
    ) -> LoadReport:
        try:
            return self._inner.load(
                records, replace=replace, skip_invalid=skip_invalid, token=token, part_rows=part_rows, progress=progress
            )
        finally:
            self._wrote()

    def delete(self, ids: str | Iterable[str] | None = None, *, where: Where = None) -> int:
        try:
            count = self._inner.delete(ids, where=where)
        finally:
            self._wrote()
        return self._written(count)

    def _wrote(self) -> None:
        """Also after an error: what was sent may have been committed."""
        if self._replica is not None:
            self._replica.wrote()

    def _written(self, count: int) -> int:
        """The number, with a position that has what was written; that it was written does not depend on learning it."""
        if self._replica is None:
            return count
        try:
            return Written(count, self._learn(self._replica).position)
        except LikewiseError:
            return Written(count, None)

    def _stored_vectors(self, ids: list[str]) -> Mapping[str, StoredVector]:
        return self._inner._stored_vectors(ids)

    def _load_mark(self, token: str) -> LoadMark | None:
        return self._inner._load_mark(token)

    def _write_part(self, part: Part, *, replace: bool, progress: Progress | None) -> int:
        try:
            return self._inner._write_part(part, replace=replace, progress=progress)
        finally:
            self._wrote()

    # --- reading ----------------------------------------------------------------------------------------------------------------

    def get_many(self, ids: Iterable[str], *, include: Include = ("metadata", "content")) -> list[Record]:
        return self._inner.get_many(ids, include=include)

    def count(self, where: Where = None) -> int:
        return self._inner.count(where)

    def scan(
        self,
        where: Where = None,
        *,
        cursor: str | None = None,
        limit: int = 100,
        include: Include = ("metadata", "content"),
    ) -> Page:
        return self._inner.scan(where, cursor=cursor, limit=limit, include=include)

    def documents(self, *, tenant: str = "", owner: str = "") -> Documents:
        documents = self._inner.documents(tenant=tenant, owner=owner)
        documents.wrote = self._wrote
        return documents

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
        condition = check_filter(where, self.columns)
        name, field, query = check_query(vector, self._spec, using)
        why: Image | str
        if check_recall(recall, ef) is not None:
            why = "recall= is the dial of the database's index"
        else:
            why = self._current()
        if not isinstance(why, str):
            furthest = distance_limit(Metric(field.metric), max_distance, min_score)
            self._recent.add(name, query)
            search = Search(self._inner, why, name, Metric(field.metric), top_k, condition, chosen, furthest, exact, ef)
            if search.heavy(1):
                found = run_blocking(search.found, [query])
            else:
                check_deadline()
                found = search.found(query[None])
            answer = search.answered(found, [query])
            if not isinstance(answer, str):
                self._answered()
                return answer[0]
            why = answer
        results = self._inner.search_by_vector(
            vector,
            top_k=top_k,
            where=condition,
            max_distance=max_distance,
            min_score=min_score,
            using=using,
            include=include,
            exact=exact,
            ef_search=ef_search,
            recall=recall,
        )
        return self._passed_on(results, why)

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
        condition = check_filter(where, self.columns)
        name, field = self._spec.vector_field(using)
        why: Image | str
        if check_recall(recall, ef) is not None:
            why = "recall= is the dial of the database's index"
        else:
            why = self._current()
        if not isinstance(why, str):
            queries = [check_query(vector, self._spec, using)[2] for vector in vectors]
            furthest = distance_limit(Metric(field.metric), max_distance, min_score)
            if not queries:
                return []
            search = Search(self._inner, why, name, Metric(field.metric), top_k, condition, chosen, furthest, exact, ef)
            if search.heavy(len(queries)):
                found = run_blocking(search.found, queries)
            else:
                check_deadline()
                found = search.found(queries)
            answer = search.answered(found, queries)
            if not isinstance(answer, str):
                self._answered()
                return answer
            why = answer
        several = self._inner.search_many(
            vectors,
            top_k=top_k,
            where=condition,
            max_distance=max_distance,
            min_score=min_score,
            using=using,
            include=include,
            exact=exact,
            ef_search=ef_search,
            recall=recall,
        )
        return [self._passed_on(results, why) for results in several]

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
        results = self._inner.search_by_vectors(
            vectors,
            weights=weights,
            top_k=top_k,
            where=where,
            min_score=min_score,
            include=include,
            exact=exact,
            ef_search=ef_search,
        )
        return self._passed_on(results, "several vectors are fused there")

    def _answered(self) -> None:
        if self._replica is not None:
            self._replica.answered += 1

    def _passed_on(self, results: SearchResults, why: str) -> SearchResults:
        if self._replica is not None:
            self._replica.passed_on += 1
        return SearchResults(
            results, complete=results.complete, explanation=replace(results.explain(), by=f"database: {why}")
        )

    # --- indexes of the database ------------------------------------------------------------------------------------------------

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
        return self._inner.ensure_indexes(
            vector=vector, metadata=metadata, using=using, where=where, concurrently=concurrently, progress=progress
        )

    def indexes(self) -> list[IndexInfo]:
        return self._inner.indexes()

    def index_health(self) -> list[VectorHealth]:
        return self._inner.index_health()

    def recall(
        self,
        *,
        k: int = 10,
        sample: int = 100,
        using: str | None = None,
        ef_search: int | None = None,
        queries: ColumnOfVectors | Literal["recent"] | None = None,
    ) -> float:
        return self._inner.recall(k=k, sample=sample, using=using, ef_search=ef_search, queries=queries)

    # --- for the base class -----------------------------------------------------------------------------------------------------

    def set_calibration(self, calibration: Calibration | None) -> None:
        self._inner.set_calibration(calibration)
        self._spec = self._inner.spec

    def _calibration(self) -> Calibration | None:
        return self._inner._calibration()

    def _store_calibration(self, calibration: Calibration | None) -> None:
        self._inner._store_calibration(calibration)

    def _sample(self, count: int, modality: Modality | None) -> list[Record]:
        return self._inner._sample(count, modality)
