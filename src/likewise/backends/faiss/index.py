"""The vectors of one name, by place: found exactly, or by FAISS's graph (HNSW) where there are many. Rows are known by their slots.

Places are only ever appended: a vector that changes gets a new place, and the old one is dead until ``compacted``. The first ``base`` places are in the graph
(``main``); what came after is in the ``tail``, which every search compares.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from likewise.backends.faiss._arrays import Growing, Scaled
from likewise.backends.faiss._library import library, nearest
from likewise.metrics import Metric
from likewise.schema import VectorField

__all__ = ["Kept", "Near", "VectorIndex"]

#: A cosine is an inner product of vectors of length 1. One that is as near to it as this is held as it is, bit for bit.
UNIT = 1e-4
_EPSILON = 2.0**-24
_BATCH = 4_096


@dataclass(frozen=True, slots=True)
class Near:
    """What is near: slots and exact distances, at least as many as asked for where there are so many, in no order."""

    slots: NDArray[np.int64]
    distances: NDArray[np.float64]
    exact: bool


@dataclass(frozen=True, slots=True)
class Kept:
    """What a file keeps of an index, none of which changes while it is written."""

    main: Any
    base: int
    vectors: list[NDArray[np.float32]]
    slots: NDArray[np.int32]
    norms: NDArray[np.float64] | None
    fixes: NDArray[np.uint8] | None
    whole: dict[int, NDArray[np.float32]] | None
    longest: float
    uneven: float


class VectorIndex:
    """Vectors of one name. Any number of threads may search while none writes."""

    def __init__(self, field: VectorField) -> None:
        library()
        self.dimension = field.dimension
        self.metric = Metric(field.metric)
        self.main: Any = None
        self.base = 0
        self.tail = Growing((field.dimension,), np.float32)
        #: The slot of each place, -1 where the vector is dead; and the place of each slot, -1 where it has none.
        self.slots = Growing((), np.int32)
        self.places = Growing((), np.int32)
        self.scaled = Scaled(field.dimension)
        #: How many files of it are being written: until they are, nothing that is in the graph may move.
        self.writers = 0
        self.dead_main = 0
        self.dead_tail = 0
        self._longest = 0.0
        self._uneven = 0.0
        self._live_tail: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return self.slots.count - self.dead_main - self.dead_tail

    # --- writing ----------------------------------------------------------------------------------------------------------------

    def put(self, slots: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        """Give each slot this vector; what it had before is dead. A slot comes once.

        A cosine with a vector of zeros is not defined: such a one, which only SQL can have stored, is left out, as pgvector's indexes do.
        """
        self.drop(slots)
        if self.metric is Metric.COSINE and not (there := vectors.any(axis=1)).all():
            slots, vectors = slots[there], vectors[there]
        if not len(slots):
            return
        first = self.slots.count
        self.tail.append(self._held(vectors, first))
        self.slots.append(slots.astype(np.int32))
        self._reach(int(slots.max()) + 1)
        self.places.rows[slots] = np.arange(first, first + len(slots), dtype=np.int32)
        self._live_tail = None

    def change(self, slots: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        """As ``put``; a vector that is what it was already keeps its place."""
        places = self.places_of(slots)
        known = np.flatnonzero(places >= 0)
        same = np.zeros(len(slots), np.bool_)
        for start in range(0, len(known), _BATCH):
            part = known[start : start + _BATCH]
            same[part] = (self.vectors_at(places[part]).view(np.int32) == vectors[part].view(np.int32)).all(axis=1)
        self.put(slots[~same], vectors[~same])

    def drop(self, slots: NDArray[np.int64]) -> None:
        """Take the vectors of slots away, of those that have one."""
        slots = slots[slots < self.places.count]
        places = self.places.rows[slots]
        places = places[places >= 0]
        if not len(places):
            return
        self.slots.rows[places] = -1
        self.places.rows[slots] = -1
        tail = int((places >= self.base).sum())
        self.dead_tail += tail
        self.dead_main += len(places) - tail
        self._live_tail = None

    def _reach(self, slots: int) -> None:
        missing = slots - self.places.count
        if missing > 0:
            self.places.append(np.full(missing, -1, np.int32))

    def _held(self, vectors: NDArray[np.float32], first: int) -> NDArray[np.float32]:
        """Vectors as they are held from a place on: under cosine of length 1."""
        lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))
        if self.metric is not Metric.COSINE:
            self._longest = max(self._longest, float(lengths.max(initial=0.0)))
            return vectors
        uneven = np.abs(lengths - 1.0)
        other = uneven > UNIT
        self._longest = 1.0 + UNIT
        self._uneven = max(self._uneven, float(uneven[~other].max(initial=0.0)))
        return (
            self.scaled.append(vectors, np.where(other, lengths, 1.0), first)
            if other.any()
            else self.scaled.even(vectors)
        )

    # --- reading ----------------------------------------------------------------------------------------------------------------

    def has(self, slots: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which slots have a vector."""
        there = np.zeros(len(slots), np.bool_)
        known = slots < self.places.count
        there[known] = self.places.rows[slots[known]] >= 0
        return there

    def places_of(self, slots: NDArray[np.int64]) -> NDArray[np.int64]:
        """The place of each slot's vector, -1 where it has none."""
        places = np.full(len(slots), -1, np.int64)
        known = slots < self.places.count
        places[known] = self.places.rows[slots[known]]
        return places

    def vectors_at(self, places: NDArray[np.int64]) -> NDArray[np.float32]:
        """Vectors as they were given, bit for bit."""
        if self.main is None:
            found = self.tail.rows[places]
        else:
            found = np.empty((len(places), self.dimension), np.float32)
            late = places >= self.base
            found[late] = self.tail.rows[places[late] - self.base]
            found[~late] = self._main_rows()[places[~late]]
        return self.scaled.given(found, places)

    def _main_rows(self) -> NDArray[np.float32]:
        rows: NDArray[np.float32] = library().rev_swig_ptr(self.main.storage.get_xb(), self.base * self.dimension)
        return rows.reshape(self.base, self.dimension)

    @property
    def memory(self) -> dict[str, int]:
        """The bytes that are reserved, by part."""
        return {
            "vectors": self.tail.capacity,
            "places": self.slots.capacity + self.places.capacity,
            "lengths": self.scaled.memory,
        }

    def search(
        self,
        query: NDArray[np.float32],
        top_k: int,
        *,
        among: NDArray[np.int64] | None,
        exact: bool,
        ef_search: int | None,
    ) -> Near:
        """What is nearest to a query, of all vectors or of those of the slots ``among``, which are ascending."""
        near = query
        if self.metric is Metric.COSINE:
            near = (query / np.linalg.norm(query.astype(np.float64))).astype(np.float32)
        if among is None:
            chosen = None
        else:
            chosen = self.places_of(among)
            chosen = np.sort(chosen[chosen >= 0])
        places = self._compare(near, top_k, chosen)
        return self._near(query, places, exact=True)

    def _compare(self, query: NDArray[np.float32], top_k: int, chosen: NDArray[np.int64] | None) -> NDArray[np.int64]:
        """The places that may be among the ``top_k`` nearest, all vectors compared, or the chosen."""
        if chosen is None:
            if self._live_tail is None and self.dead_tail:
                self._live_tail = np.flatnonzero(self.slots.rows[self.base :] >= 0)
            chosen = self._live_tail if self.dead_tail else None
        return self._compare_part(self.tail.rows, query, top_k, chosen)

    def _compare_part(
        self, vectors: Any, query: NDArray[np.float32], top_k: int, chosen: NDArray[np.int64] | None
    ) -> NDArray[np.int64]:
        l2 = self.metric is Metric.L2
        count = len(vectors)
        most = count if chosen is None else len(chosen)
        wanted = min(most, top_k + 16)
        while True:
            values, places = nearest(vectors, count, query, wanted, l2=l2, among=chosen)
            if wanted <= top_k or not len(values):
                return places
            limit = self._limit(float(values[top_k - 1]), query)
            sure = int(
                np.searchsorted(values, limit, side="right") if l2 else np.searchsorted(-values, -limit, side="right")
            )
            if sure < wanted or wanted == most:
                return places[:sure]
            wanted = min(most, wanted * 8)

    def _limit(self, value: float, query: NDArray[np.float32]) -> float:
        """As far as float32 may be wrong beyond a value: what is within may be nearer than it."""
        terms = (self.dimension + 16) * _EPSILON
        if self.metric is Metric.L2:
            return value * (1.0 + 4.0 * terms) + self.dimension * 1e-37
        length = 1.0 if self.metric is Metric.COSINE else float(np.linalg.norm(query.astype(np.float64)))
        return value - 2.0 * (terms + self._uneven) * length * self._longest - self.dimension * 1e-37

    def _near(self, query: NDArray[np.float32], places: NDArray[np.int64], *, exact: bool) -> Near:
        distances = np.empty(len(places), np.float64)
        for start in range(0, len(places), _BATCH):
            part = places[start : start + _BATCH]
            distances[start : start + _BATCH] = self.distances(query, part)
        return Near(self.slots.rows[places].astype(np.int64), distances, exact)

    def distances(self, query: NDArray[np.float32], places: NDArray[np.int64]) -> NDArray[np.float64]:
        """Distances in float64, as ``likewise.metrics`` has them."""
        vectors = self.vectors_at(places).astype(np.float64)
        near = query.astype(np.float64)
        if self.metric is Metric.L2:
            return np.asarray(np.linalg.norm(vectors - near, axis=1))
        dots = np.einsum("ij,j->i", vectors, near)
        if self.metric is Metric.INNER_PRODUCT:
            return np.asarray(-dots)
        lengths = np.linalg.norm(vectors, axis=1) * np.linalg.norm(near)
        return np.asarray(1.0 - np.clip(dots / lengths, -1.0, 1.0))

    # --- on disk ----------------------------------------------------------------------------------------------------------------

    def keep(self) -> Kept:
        """What a file keeps. Nothing may be merged until it is written."""
        norms = self.scaled.norms
        return Kept(
            self.main,
            self.base,
            [self.tail.rows] if self.main is None else [self._main_rows(), self.tail.rows],
            self.slots.rows.copy(),
            None if norms is None else norms.rows,
            None if norms is None else self.scaled.fixes.rows,
            None if norms is None else dict(self.scaled.whole),
            self._longest,
            self._uneven,
        )

    def restore(
        self,
        graph: bytes | None,
        base: int,
        slots: NDArray[np.int32],
        fill: Callable[[NDArray[np.float32], int], None],
        norms: NDArray[np.float64] | None,
        fixes: NDArray[np.uint8] | None,
        whole: dict[int, NDArray[np.float32]],
        *,
        longest: float,
        uneven: float,
    ) -> None:
        """Become what was kept. ``fill`` reads vectors from a place on into an array. ``ValueError`` where the parts do not fit."""
        count = len(slots)
        rest = np.empty((count - base, self.dimension), np.float32)
        fill(rest, base)
        self.tail.append(rest)
        self.slots.append(slots)
        live = np.flatnonzero(slots >= 0)
        self.places.append(np.full(int(slots.max(initial=-1)) + 1, -1, np.int32))
        self.places.rows[slots[live]] = live
        self.dead_main = base - int(np.searchsorted(live, base))
        self.dead_tail = count - base - (len(live) - (base - self.dead_main))
        self.scaled.restore(count, norms, fixes, whole)
        self._longest, self._uneven = longest, uneven
        self.base = base
