"""The vectors of one name, by place: compared one by one, or found by a graph where there are many. Rows are known by their slots.

Places are only ever appended: a vector that changes gets a new place, and the old one is dead until the index is made anew (``_renewal``). The first
``base`` places are in the graph; what came after is in the tail, which every search compares.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from likewise.backends.faiss._arrays import Growing, Scaled, apart
from likewise.backends.faiss._distances import distances, lengths
from likewise.backends.faiss._graph import Graph, usual_ef_search
from likewise.backends.faiss._library import library
from likewise.backends.faiss._selection import Places, Selection, nearest
from likewise.metrics import Metric
from likewise.schema import VectorField

__all__ = ["GRAPH_FROM", "Kept", "Near", "VectorIndex"]

#: From so many vectors on there is a graph. Fewer are compared as quickly, and exactly.
GRAPH_FROM = 5_000
#: When the tail has so many, the oldest of them go into the graph, until there are half as many.
TAIL = 2_048
#: A cosine is an inner product of vectors of length 1. One that is as near to it as this is held as it is, bit for bit.
UNIT = 1e-4
#: Of so few rows of a filter there are copies for its next searches.
VERY_FEW = 64
#: So few rows are always compared one by one; and of a filter's rows, at most so many for each candidate that the graph would look at.
COMPARED_ALWAYS = 2_000
COMPARED_FOR_EACH = 20
#: With a filter so much more is looked at than would be enough if its rows were everywhere alike, as they never are; and what is enough.
AHEAD, ENOUGH = 1.25, 0.75
_MOST_SELECTIONS = _MOST_PARAMETERS = 64
#: The bytes that selections may take in any case; more where the vectors take 32 times as many.
_REMEMBERED = 1_000_000
_EPSILON = 2.0**-24
_BATCH = 4_096
#: In place of a place: the slot has no vector; or one of zeros only under cosine, which has no distance to anything.
NONE, ZERO = -1, -2
_NOTHING = np.empty(0, np.int64)


# Not frozen: that takes a call for each field, and this is made for each search.
@dataclass(slots=True)
class Near:
    """What is near: slots, places and exact distances, at least as many as asked for where there are so many, in no order."""

    slots: NDArray[np.int32]
    places: NDArray[np.int64]
    distances: NDArray[np.float64]
    exact: bool


@dataclass(frozen=True, slots=True)
class Kept:
    """What a file keeps of an index, none of which changes while it is written."""

    graph: Graph | None
    base: int
    vectors: list[NDArray[np.float32]]
    slots: NDArray[np.int32]
    norms: NDArray[np.float64] | None
    fixes: NDArray[np.uint8] | None
    whole: dict[int, NDArray[np.float32]] | None
    longest: float
    uneven: float
    zeros: NDArray[np.int64]


class VectorIndex:
    """Vectors of one name. Any number of threads may search while none writes."""

    def __init__(self, field: VectorField) -> None:
        library()
        self.field = field
        self.dimension = field.dimension
        self.metric = Metric(field.metric)
        self.graph: Graph | None = None
        #: How many places are in the graph, and the place of the tail's first row, which may be in the graph already.
        self.base = 0
        self.first = 0
        self.tail = Growing((field.dimension,), np.float32)
        #: The slot of each place, -1 where the vector is dead; and the place of each slot, or NONE, or ZERO.
        self.slots = Growing((), np.int32)
        self.places = Growing((), np.int32)
        self.scaled = Scaled(field.dimension)
        #: How many files of it are being written: until they are, nothing that is in the graph may move.
        self.writers = 0
        #: Whether the tail is too long.
        self.merging = False
        self.dead_main = 0
        self.dead_tail = 0
        self.longest = 0.0
        self.uneven = 0.0
        self._filling: list[NDArray[np.float32]] = []
        # Made when they are needed, and forgotten with every change.
        self._live_tail: Places | None = None
        self._live_main: Places | None = None
        self._live_bits: NDArray[np.uint8] | None = None
        self._parameters: dict[int, Any] = {}
        self._selections: dict[int, tuple[NDArray[np.int64], Selection]] = {}

    def __len__(self) -> int:
        return self.slots.count - self.dead_main - self.dead_tail

    # --- writing ----------------------------------------------------------------------------------------------------------------

    def fill(self, slots: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        """Give slots, all of them new, these vectors; then ``filled``, and not before is the index to be used."""
        slots, vectors = self._without_zeros(slots, vectors)
        if len(slots):
            self._filling.append(apart(self._held(vectors, self.slots.count)))
            self._note(slots)

    def filled(self) -> None:
        """Build what is cheaper to build at once, on all processors. Each block of vectors is let go as soon as it is in the graph."""
        blocks, self._filling = self._filling, []
        if self.slots.count >= GRAPH_FROM:
            self.graph = Graph(self.dimension, l2=self.metric is Metric.L2)
            self.graph.build(blocks)
            self.base = self.first = self.slots.count
        for block in blocks:
            self.tail.append(block)

    def put(self, slots: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        """Give each slot this vector; what it had before is dead. A slot comes once."""
        self.drop(slots)
        slots, vectors = self._without_zeros(slots, vectors)
        if not len(slots):
            return
        self.tail.append(self._held(vectors, self.slots.count))
        self._note(slots)
        self._live_tail = None
        self._selections = {}
        if self.graph is not None and self.slots.count - self.base > TAIL:
            self.merging = True

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
        self.places.rows[slots] = NONE
        if not len(places):
            return
        self.slots.rows[places] = -1
        tail = int((places >= self.base).sum())
        self.dead_tail += tail
        self.dead_main += len(places) - tail
        self._forget()

    def _forget(self) -> None:
        self._live_tail = self._live_main = None
        self._live_bits = None
        self._parameters = {}
        self._selections = {}

    def merge(self) -> bool:
        """Put the next vectors of the tail into the graph, as many as a step allows, if it is too long; whether it still is."""
        if self.graph is None or self.writers or not self.merging:
            return False
        step = min(self.graph.pace(), self.slots.count - self.base)
        start = self.base - self.first
        self.graph.add_step(self.tail.rows[start : start + step])
        dead = int((self.slots.rows[self.base : self.base + step] < 0).sum())
        self.dead_tail -= dead
        self.dead_main += dead
        self.base += step
        self._forget()
        left = self.slots.count - self.base
        if left <= TAIL // 2:
            self.merging = False
        if not self.merging or self.base - self.first >= TAIL:
            rest = Growing((self.dimension,), np.float32)
            rest.append(self.tail.rows[self.base - self.first :])
            self.tail, self.first = rest, self.base
        return self.merging

    def _without_zeros(
        self, slots: NDArray[np.int64], vectors: NDArray[np.float32]
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Vectors that can be near to something: only SQL can have stored others, and pgvector's indexes leave them out too."""
        if self.metric is not Metric.COSINE or (there := vectors.any(axis=1)).all():
            return slots, vectors
        self._reach(slots)
        self.places.rows[slots[~there]] = ZERO
        return slots[there], vectors[there]

    def _reach(self, slots: NDArray[np.integer[Any]]) -> None:
        missing = int(slots.max(initial=-1)) + 1 - self.places.count
        if missing > 0:
            self.places.append(np.full(missing, NONE, np.int32))

    def _note(self, slots: NDArray[np.int64]) -> None:
        """The next places are of these slots."""
        self._reach(slots)
        first = self.slots.count
        self.slots.append(slots.astype(np.int32))
        self.places.rows[slots] = np.arange(first, first + len(slots), dtype=np.int32)

    def _held(self, vectors: NDArray[np.float32], first: int) -> NDArray[np.float32]:
        """Vectors as they are held from a place on: under cosine of length 1."""
        lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))
        if self.metric is not Metric.COSINE:
            self.longest = max(self.longest, float(lengths.max(initial=0.0)))
            return vectors
        uneven = np.abs(lengths - 1.0)
        other = uneven > UNIT
        self.longest = 1.0 + UNIT
        self.uneven = max(self.uneven, float(uneven[~other].max(initial=0.0)))
        return (
            self.scaled.append(vectors, np.where(other, lengths, 1.0), first)
            if other.any()
            else self.scaled.even(vectors)
        )

    # --- reading ----------------------------------------------------------------------------------------------------------------

    def places_of(self, slots: NDArray[np.int64]) -> NDArray[np.int64]:
        """The place of each slot's vector, or ``NONE``, or ``ZERO``."""
        places = np.full(len(slots), NONE, np.int64)
        known = slots < self.places.count
        places[known] = self.places.rows[slots[known]]
        return places

    def vectors_of(self, places: NDArray[np.int64]) -> list[NDArray[np.float32] | None]:
        """A vector as it was given, or None, for each of ``places_of``."""
        found: list[NDArray[np.float32] | None] = [None] * len(places)
        there = np.flatnonzero(places >= 0)
        for row, vector in zip(there.tolist(), self.vectors_at(places[there]), strict=True):
            found[row] = vector
        for row in np.flatnonzero(places == ZERO).tolist():
            found[row] = np.zeros(self.dimension, np.float32)
        return found

    def vectors_at(self, places: NDArray[np.int64]) -> NDArray[np.float32]:
        """Vectors as they were given, bit for bit."""
        return self.scaled.given(self.held_at(places), places)

    def held_at(self, places: NDArray[np.int64]) -> NDArray[np.float32]:
        """Vectors as they are held."""
        if self.graph is None:
            return np.asarray(self.tail.rows[places - self.first])
        late = places >= self.base
        if not late.any():
            return np.asarray(self.graph.rows[places])
        found = np.empty((len(places), self.dimension), np.float32)
        found[late] = self.tail.rows[places[late] - self.first]
        found[~late] = self.graph.rows[places[~late]]
        return found

    @property
    def memory(self) -> dict[str, int]:
        """The bytes that are reserved, by part."""
        return {
            "vectors": self.tail.capacity + 4 * self.dimension * (0 if self.graph is None else self.base),
            "links": 0 if self.graph is None else self.graph.links,
            "places": self.slots.capacity + self.places.capacity,
            "lengths": self.scaled.memory,
        }

    def search(
        self,
        query: NDArray[np.float32],
        top_k: int,
        *,
        among: Selection | None,
        exact: bool,
        ef_search: int | None,
    ) -> Near:
        """What is nearest to a query, of all vectors or of those of a selection."""
        wide = query.astype(np.float64)
        if among is not None and 0 < len(among) <= VERY_FEW:
            return self._near_few(wide, among)
        if self.metric is Metric.COSINE:
            near = (wide / math.sqrt(wide.dot(wide))).astype(np.float32)
        else:
            near = np.ascontiguousarray(query, np.float32)
        if self.graph is None:
            return self._near(wide, self._compare_tail(near, top_k, among), exact=True)
        found, compared = self._search_main(self.graph, near, top_k, among, exact=exact, ef_search=ef_search)
        if self.slots.count > self.base:
            found = np.concatenate((found, self._compare_tail(near, top_k, among)))
        return self._near(wide, found, exact=compared)

    def _search_main(
        self,
        graph: Graph,
        query: NDArray[np.float32],
        top_k: int,
        among: Selection | None,
        *,
        exact: bool,
        ef_search: int | None,
    ) -> tuple[NDArray[np.int64], bool]:
        """Places in the graph, and whether all were compared."""
        there = self.base - self.dead_main if among is None else len(among.main)
        if not exact and there > max(top_k, COMPARED_ALWAYS):
            wanted = max(top_k, ef_search or usual_ef_search(self.base))
            if among is None:
                found = graph.search(query, top_k + 4, self._looking_at(graph, wanted))
            else:
                found = self._walk(graph, query, top_k, wanted, among)
            if len(found) >= top_k:
                return found, False
        if among is not None:
            return self._compare_part(graph.rows, query, top_k, among.main), True
        if self._live_main is None and self.dead_main:
            self._live_main = Places(np.flatnonzero(self.slots.rows[: self.base] >= 0))
        return self._compare_part(graph.rows, query, top_k, self._live_main if self.dead_main else None), True

    def _walk(
        self, graph: Graph, query: NDArray[np.float32], top_k: int, wanted: int, among: Selection
    ) -> NDArray[np.int64]:
        """Places of a selection along the graph; none where comparing all of them is quicker.

        The nearest of all are looked for, until enough of them are the selection's: how many of them are tells what part of this query's
        neighbours a filter leaves, which may be all, or none, whatever part of all rows it leaves.
        """
        enough = max(top_k, math.ceil(ENOUGH * wanted))
        width = AHEAD * wanted * self.base / len(among.main)
        while width < self.base and width * COMPARED_FOR_EACH < len(among.main):
            rounded = 16 * math.ceil(width / 16)  # one of few, so that FAISS's parameters are made once
            places = graph.search(query, rounded, self._looking_at(graph, rounded))
            found = places[among.has(places)]
            if len(found) >= enough:
                return found[: top_k + 4]
            width = rounded * max(2.0, AHEAD * wanted / max(1, len(found)))
        return _NOTHING

    def _looking_at(self, graph: Graph, candidates: int) -> Any:
        """FAISS's parameters for so many candidates, which are the same until a vector in the graph dies."""
        known = self._parameters.get(candidates)
        if known is None:
            if self.dead_main and self._live_bits is None:
                self._live_bits = np.packbits(self.slots.rows[: self.base] >= 0, bitorder="little")
            if len(self._parameters) >= _MOST_PARAMETERS:
                self._parameters = {}
            known = self._parameters[candidates] = graph.parameters(candidates, self._live_bits)
        return known

    def select(self, slots: NDArray[np.int64]) -> Selection:
        """The vectors of slots, to search among until the next change. It is remembered for this very array."""
        known = self._selections.get(id(slots))
        if known is not None and known[0] is slots:
            return known[1]
        places = self.places_of(slots)
        places = np.sort(places[places >= 0])
        split = int(np.searchsorted(places, self.base))
        made = Selection(Places(places[:split]), Places(places[split:] - self.first), self.base, self.first)
        remembered = sum(each.memory for _, each in tuple(self._selections.values()))
        if len(self._selections) >= _MOST_SELECTIONS or remembered > max(
            _REMEMBERED, 4 * self.dimension * self.base // 32
        ):
            self._selections = {}
        self._selections[id(slots)] = slots, made
        return made

    def _compare_tail(self, query: NDArray[np.float32], top_k: int, among: Selection | None) -> NDArray[np.int64]:
        """The places in the tail that may be among the ``top_k`` nearest."""
        if among is not None:
            chosen: Places | None = among.tail
        elif self.dead_tail or self.first < self.base:
            if self._live_tail is None:
                self._live_tail = Places(np.flatnonzero(self.slots.rows[self.base :] >= 0) + (self.base - self.first))
            chosen = self._live_tail
        else:
            chosen = None
        return self._compare_part(self.tail.rows, query, top_k, chosen) + self.first

    def _compare_part(
        self, vectors: NDArray[np.float32], query: NDArray[np.float32], top_k: int, chosen: Places | None
    ) -> NDArray[np.int64]:
        """The rows that may be among the ``top_k`` nearest of the chosen, or of all: those that float32 cannot tell from the last are among them."""
        l2 = self.metric is Metric.L2
        most = len(vectors if chosen is None else chosen)
        if not most:
            return _NOTHING
        wanted = min(most, top_k + 16)
        while True:
            values, places = nearest(vectors, query, wanted, l2=l2, among=chosen)
            if places[-1] < 0 or not (math.isfinite(values[0]) and math.isfinite(values[-1])):
                # Some are too far for float32, and left out.
                return np.arange(most) if chosen is None else chosen.rows
            if wanted <= top_k:
                return places
            limit = self._limit(float(values[top_k - 1]), query)
            sure = int(np.count_nonzero(values <= limit if l2 else values >= limit))
            if sure < wanted or wanted == most:
                return places[:sure]
            wanted = min(most, wanted * 8)

    def _limit(self, value: float, query: NDArray[np.float32]) -> float:
        """As far as float32 may be wrong beyond a value: what is within may be nearer than it."""
        terms = (self.dimension + 16) * _EPSILON
        if self.metric is Metric.L2:
            return value * (1.0 + 4.0 * terms) + self.dimension * 1e-37
        length = 1.0 if self.metric is Metric.COSINE else _length(query)
        return value - 2.0 * (terms + self.uneven) * length * self.longest - self.dimension * 1e-37

    def _near(self, query: NDArray[np.float64], places: NDArray[np.int64], *, exact: bool) -> Near:
        if len(places) <= _BATCH:
            found = distances(self.metric, query, self.vectors_at(places).astype(np.float64), None)
        else:
            found = np.empty(len(places), np.float64)
            for start in range(0, len(places), _BATCH):
                part = self.vectors_at(places[start : start + _BATCH]).astype(np.float64)
                found[start : start + _BATCH] = distances(self.metric, query, part, None)
        return Near(self.slots.rows[places], places, found, exact)

    def _near_few(self, query: NDArray[np.float64], among: Selection) -> Near:
        """The distances of all of a selection's, from copies of them that need not be gathered for each query."""
        if among.few is None:
            vectors = self.vectors_at(among.places).astype(np.float64)
            among.few = vectors, lengths(vectors)
        places = among.places
        return Near(self.slots.rows[places], places, distances(self.metric, query, *among.few), True)

    # --- on disk ----------------------------------------------------------------------------------------------------------------

    def keep(self) -> Kept:
        """What a file keeps. Nothing may be merged until it is written."""
        norms = self.scaled.norms
        late = self.tail.rows[self.base - self.first :]
        return Kept(
            self.graph,
            self.base,
            [late] if self.graph is None else [self.graph.rows, late],
            self.slots.rows.copy(),
            None if norms is None else norms.rows,
            None if norms is None else self.scaled.fixes.rows,
            None if norms is None else dict(self.scaled.whole),
            self.longest,
            self.uneven,
            self.zeros(),
        )

    def restore(
        self,
        links: bytes | None,
        base: int,
        slots: NDArray[np.int32],
        fill: Callable[[NDArray[np.float32], int], None],
        norms: NDArray[np.float64] | None,
        fixes: NDArray[np.uint8] | None,
        whole: dict[int, NDArray[np.float32]],
        *,
        longest: float,
        uneven: float,
        zeros: NDArray[np.int64],
    ) -> None:
        """Become what was kept. ``fill`` reads vectors from a place on into an array. ``ValueError`` where the parts do not fit."""
        if links is not None:
            self.graph = Graph.restored(links, base, self.dimension, l2=self.metric is Metric.L2)
            fill(self.graph.rows, 0)
        rest = np.empty((len(slots) - base, self.dimension), np.float32)
        fill(rest, base)
        self.tail.append(rest)
        self.base = self.first = base
        self.take_slots(slots, zeros)
        self.scaled.restore(len(slots), norms, fixes, whole)
        self.longest, self.uneven = longest, uneven

    def zeros(self) -> NDArray[np.int64]:
        """The slots whose vector is of zeros only, under cosine."""
        return np.flatnonzero(self.places.rows == ZERO)

    def take_slots(self, slots: NDArray[np.int32], zeros: NDArray[np.int64]) -> None:
        """Say whose each vector is, of an index that has vectors only."""
        self.slots.append(slots)
        live = np.flatnonzero(slots >= 0)
        self._reach(slots)
        self._reach(zeros)
        self.places.rows[slots[live]] = live
        self.places.rows[zeros] = ZERO
        self.dead_main = self.base - int(np.searchsorted(live, self.base))
        self.dead_tail = len(slots) - len(live) - self.dead_main
        self.merging = self.graph is not None and len(slots) - self.base > TAIL


def _length(vector: NDArray[np.float32]) -> float:
    wide = vector.astype(np.float64)
    return math.sqrt(wide.dot(wide))
