"""One collection as it was at one position of its database's history: vectors to search, and what is held beside them.

What is in memory and nothing else: no database, no event loop, no threads of its own. Any number of threads may read; one writes.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from likewise._json import loads
from likewise.abc.feeds import Commit, Payload, Position, Rows
from likewise.backends.faiss._locks import ReadersWriter
from likewise.backends.faiss._plans import Drift, Plan, plan
from likewise.backends.faiss._renewal import Renewal, outdated
from likewise.backends.faiss.columns import Columns, needed
from likewise.backends.faiss.file import DamagedImage, load_image, save_image
from likewise.backends.faiss.index import Near, VectorIndex
from likewise.backends.faiss.table import Table
from likewise.errors import LikewiseError
from likewise.filters import Filter
from likewise.records import NOTHING, IncludeField, Record, stored_record
from likewise.schema import CollectionSpec

__all__ = ["DamagedImage", "Drift", "Found", "Image", "digest"]

#: Seconds for which a search of many queries keeps writers out; one query may take longer.
_AT_A_TIME = 0.02
#: Rows that ``digest`` looks at before it lets a writer in.
_DIGESTED = 1_000


# Not frozen: that takes a call for each field, and this is made for each search.
@dataclass(slots=True)
class Found:
    """What a search found: nearest first, equal distances in the order of ids. ``Image.ids`` and ``Image.records`` say what it is.

    It stays what it was when it was found, whatever is committed afterwards.
    """

    keys: NDArray[np.int64]
    #: As ``likewise.metrics`` has them.
    distances: NDArray[np.float64]
    #: Whether every vector that could be meant was compared.
    exact: bool
    #: How many rows were looked among: those that match the filter and have the vector.
    matching: int | None
    _ids: list[str] = field(repr=False)
    _payload: Mapping[Payload, list[bytes | None]] = field(repr=False)
    _indexes: Mapping[str, VectorIndex] = field(repr=False)
    _places: Mapping[str, NDArray[np.int64]] = field(repr=False)

    def __len__(self) -> int:
        return len(self.keys)


class Image:
    """The image of a collection, which ``fill`` and ``filled`` make of a snapshot, and ``apply`` keeps up to date."""

    def __init__(self, spec: CollectionSpec, *, holds: frozenset[Payload]) -> None:
        self.spec = spec
        self.holds = holds
        #: Where in the history it is; None while it is being filled.
        self.position: Position | None = None
        self._lock = ReadersWriter()
        self._one_writer = threading.Lock()
        self._start()

    def _start(self) -> None:
        """Be empty."""
        self._table = Table(self.holds)
        self._columns = Columns(self._table)
        self._indexes = {name: VectorIndex(each) for name, each in self.spec.vector_fields.items()}
        self._renewals: dict[str, Renewal] = {}

    def __len__(self) -> int:
        return len(self._table)

    # --- writing ----------------------------------------------------------------------------------------------------------------

    def fill(self, rows: Rows) -> None:
        """Take a part of a snapshot, whose rows are new."""
        with self._one_writer, self._lock.writing:
            slots = np.array(self._table.extend(rows.ids, rows.payload), np.int64)
            for name, index in self._indexes.items():
                if name not in rows.vectors or (name in rows.present and not rows.present[name].any()):
                    continue
                vectors = np.ascontiguousarray(rows.vectors[name], np.float32)
                if name in rows.present and not rows.present[name].all():
                    index.fill(slots[rows.present[name]], vectors[rows.present[name]])
                else:
                    index.fill(slots, vectors)

    def filled(self, position: Position) -> None:
        """The snapshot is whole, and of this position: the graph is built, on all processors. From here on the image may be searched."""
        with self._one_writer:
            for index in self._indexes.values():
                index.filled()
            self.position = position

    def apply(self, commit: Commit) -> None:
        """Do what a commit did; a search sees all of it or nothing.

        Raises ``Drift``, with nothing done, for a change of a row that leaves out what the image does not know: then it is not of this history.
        """
        with self._one_writer:
            if not commit.changes:
                self.position = commit.position
                return
            planned = plan(commit.changes, self._table.slot_of, self.spec, self.holds)
            with self._lock.writing:
                self._carry_out(planned)
                self.position = commit.position

    def _carry_out(self, planned: Plan) -> None:
        table, indexes = self._table, self._indexes
        if planned.cleared:
            self._start()
            table, indexes = self._table, self._indexes
        elif planned.gone:
            gone = np.array(planned.gone, np.int64)
            for index in indexes.values():
                index.drop(gone)
            for slot in planned.gone:
                table.remove(slot)
        table.rename(
            {row.slot: row.id for row in planned.rows if row.slot is not None and table.ids[row.slot] != row.id}
        )
        changed: list[int] = list(planned.gone)
        vectors: dict[str, tuple[list[int], list[NDArray[np.float32]]]] = {name: ([], []) for name in indexes}
        for row in planned.rows:
            if row.slot is None:
                slot = table.add(row.id, row.payload)
            else:
                slot = row.slot
                table.change(slot, row.payload)
            changed.append(slot)
            for name, vector in row.vectors.items():
                if vector is None:
                    indexes[name].drop(np.array([slot], np.int64))
                else:
                    vectors[name][0].append(slot)
                    vectors[name][1].append(vector)
        for name, (slots, rows) in vectors.items():
            if slots:
                indexes[name].change(np.array(slots, np.int64), np.stack(rows).astype(np.float32, copy=False))
        self._columns.changed(changed)

    def maintain(self) -> bool:
        """One bounded step, about 20 ms, of what makes searches quicker; whether there is more to do.

        Vectors that came late are put into the graph (searches wait for that, 10 ms at most); an index of which a quarter is dead, or which has
        grown to need a graph, is made anew beside itself, for which nobody waits: until it is done both are in memory.
        """
        with self._one_writer:
            more = False
            for name, index in self._indexes.items():
                if index.merging and not index.writers:
                    with self._lock.writing:
                        more |= index.merge()
                renewal = self._renewals.get(name)
                if renewal is None and outdated(index):
                    renewal = self._renewals[name] = Renewal(index)
                if renewal is not None:
                    more = True
                    if not renewal.step():
                        with self._lock.writing:
                            self._indexes = {**self._indexes, name: renewal.finished()}
                        del self._renewals[name]
            return more

    # --- reading ----------------------------------------------------------------------------------------------------------------

    def answers(self, where: Filter | None) -> bool:
        """Whether it holds what the filter is about."""
        return where is None or needed(where) <= self.holds

    def answers_quickly(self, where: Filter | None) -> bool:
        """Whether the very filter's answer is known: the first search by a field takes some microseconds for each row."""
        return where is None or self._columns.answered(where)

    def answers_include(self, include: Iterable[IncludeField]) -> bool:
        """Whether ``records`` can be had with these fields: vectors always, metadata and content where they are held."""
        wanted = {str(each) for each in include if each != "vector"}
        if self.spec.multimodal:
            wanted |= {"modality", "content_id"}
        return wanted <= self.holds

    def search(
        self,
        name: str,
        queries: NDArray[np.float32],
        top_k: int,
        *,
        where: Filter | None = None,
        exact: bool = False,
        ef_search: int | None = None,
    ) -> list[Found]:
        """What is nearest to each query, of shape (queries, dimension), by the vector of this name (empty: the collection's own).

        Never fewer than ``top_k`` where as many rows match the filter and have the vector. ``ef_search`` is how many candidates the graph
        looks at; more of them find more of the nearest. What is found for one query is of one moment; between the queries of a long list commits may
        be applied, for who writes waits for who reads, and other readers wait for who writes.
        """
        if where is not None and not self._columns.answered(where):
            # What the filter needs of columns is made in steps, between which commits may be applied.
            for _ in range(len(self._table.ids) + 1):
                if not self._advance(where):
                    break
        found: list[Found] = []
        while True:
            with self._lock.reading:
                if self.position is None:
                    raise LikewiseError(
                        f"the image of collection {self.spec.name!r} is being filled, and cannot be searched yet"
                    )
                until = time.monotonic() + _AT_A_TIME
                index = self._indexes[name]
                among = None if where is None else index.select(self._columns.select(where))
                matching = len(index if among is None else among)
                for query in queries[len(found) :]:
                    near = index.search(query, top_k, among=among, exact=exact, ef_search=ef_search)
                    found.append(self._found(name, near, top_k, matching))
                    if time.monotonic() >= until:
                        break
            if len(found) >= len(queries):
                return found

    def _advance(self, where: Filter) -> bool:
        with self._lock.reading:
            return self._columns.advance(where)

    def _found(self, name: str, near: Near, top_k: int, matching: int) -> Found:
        distances = near.distances
        order = distances.argsort(kind="stable")
        distances = distances[order]
        if (distances[1:] == distances[:-1]).any():
            ids = self._table.ids_at(near.slots[order].tolist())
            ranks = np.empty(len(ids), np.int64)
            ranks[sorted(range(len(ids)), key=ids.__getitem__)] = np.arange(len(ids))
            again = np.lexsort((ranks, distances))
            order, distances = order[again], distances[again]
        order = order[:top_k]
        slots = near.slots[order].astype(np.int64)
        chosen = slots.tolist()
        places = {name: near.places[order]}
        if len(self._indexes) > 1:
            places = {each: places.get(each, index.places_of(slots)) for each, index in self._indexes.items()}
        payload: dict[Payload, list[bytes | None]] = {
            each: [column[slot] for slot in chosen] for each, column in self._table.payload.items()
        }
        return Found(
            slots, distances[:top_k], near.exact, matching, self._table.ids_at(chosen), payload, self._indexes, places
        )

    def ids(self, found: Found) -> list[str]:
        """The ids of what was found, in its order."""
        return list(found._ids)

    def find(self, ids: Iterable[str]) -> Found:
        """Those of these rows that are there, as if a search had found them, for ``records``; distances are zero."""
        with self._lock.reading:
            chosen = [slot for each in ids if (slot := self._table.slot_of.get(each)) is not None]
            slots = np.array(chosen, np.int64)
            payload: dict[Payload, list[bytes | None]] = {
                each: [column[slot] for slot in chosen] for each, column in self._table.payload.items()
            }
            places = {each: index.places_of(slots) for each, index in self._indexes.items()}
            there = self._table.ids_at(chosen)
            return Found(slots, np.zeros(len(slots)), True, None, there, payload, self._indexes, places)

    def every_id(self) -> list[str]:
        """The ids of all rows, in no order."""
        with self._lock.reading:
            return list(self._table.slot_of)

    def records(self, found: Found, include: Iterable[IncludeField]) -> list[Record]:
        """The records of what was found, in its order, as they were then: with what ``include`` asks for and ``answers_include`` allows."""
        wanted = frozenset(include)
        if not self.answers_include(wanted):
            raise LikewiseError(
                f"the image of collection {self.spec.name!r} holds {sorted(self.holds)}, not all of {sorted(wanted)}"
            )
        held = found._payload
        metadata = (
            [loads(data) if data is not None else NOTHING for data in held["metadata"]]
            if "metadata" in wanted
            else None
        )
        contents = _texts(held["content"]) if "content" in wanted else None
        if not self.spec.multimodal and "vector" not in wanted:
            return [
                stored_record(
                    each,
                    NOTHING if metadata is None else cast("Mapping[str, Any]", metadata[i]),
                    None if contents is None else contents[i],
                )
                for i, each in enumerate(found._ids)
            ]
        vectors = self._vectors(found) if "vector" in wanted else [{} for _ in found._ids]
        modalities = _texts(held["modality"]) if self.spec.multimodal else [None] * len(found)
        content_ids = _texts(held["content_id"]) if self.spec.multimodal else [None] * len(found)
        return [
            Record(
                each,
                vectors[i].pop("", None),
                NOTHING if metadata is None else cast("Mapping[str, Any]", metadata[i]),
                None if contents is None else contents[i],
                vectors=vectors[i] or NOTHING,
                modality=cast("Literal['text', 'image'] | None", modalities[i]),
                content_id=content_ids[i],
            )
            for i, each in enumerate(found._ids)
        ]

    def _vectors(self, found: Found) -> list[dict[str, NDArray[np.float32]]]:
        rows: list[dict[str, NDArray[np.float32]]] = [{} for _ in found._ids]
        with self._lock.reading:
            for name, places in found._places.items():
                for row, vector in enumerate(found._indexes[name].vectors_of(places)):
                    if vector is not None:
                        rows[row][name] = vector.copy()
                        rows[row][name].flags.writeable = False
        return rows

    def digest(self, ids: Sequence[str] | None = None) -> dict[str, bytes]:
        """For each row (of these, those that are there) the ``digest`` of what is held of it.

        A thousand rows at a time are of one moment; commits may be applied in between.
        """
        with self._lock.reading:
            wanted = list(self._table.slot_of) if ids is None else list(dict.fromkeys(ids))
        found: dict[str, bytes] = {}
        for start in range(0, len(wanted), _DIGESTED):
            with self._lock.reading:
                self._digest(wanted[start : start + _DIGESTED], found)
        return found

    def _digest(self, ids: Sequence[str], found: dict[str, bytes]) -> None:
        table = self._table
        slots = {each: slot for each in ids if (slot := table.slot_of.get(each)) is not None}
        at = np.fromiter(slots.values(), np.int64, len(slots))
        vectors = {name: index.vectors_of(index.places_of(at)) for name, index in self._indexes.items()}
        for row, (record_id, slot) in enumerate(slots.items()):
            payload: dict[Payload, bytes | None] = {name: column[slot] for name, column in table.payload.items()}
            found[record_id] = digest(record_id, {name: rows[row] for name, rows in vectors.items()}, payload)

    # --- on disk ----------------------------------------------------------------------------------------------------------------

    def save(self, path: Path) -> Position:
        """Write the image to a file, which replaces the one that is there when it is whole and on the disk; the position that it has there.

        Commits may be applied meanwhile: they wait for a copy of ids and of what payloads are where, a few milliseconds, and what is written
        is of the moment of that copy. ``LikewiseError`` while it is being filled; ``OSError`` if the file cannot be written.
        """
        with self._lock.reading:
            position = self.position
            if position is None:
                raise LikewiseError(
                    f"the image of collection {self.spec.name!r} is being filled, so that there is nothing to save"
                )
            table = self._table.copy()
            indexes = self._indexes
            for index in indexes.values():
                index.writers += 1
            kept = {name: index.keep() for name, index in indexes.items()}
        try:
            save_image(path, self.spec, position, table, kept)
        finally:
            with self._lock.writing:
                for index in indexes.values():
                    index.writers -= 1
        return position

    @classmethod
    def load(cls, path: Path, spec: CollectionSpec, *, holds: frozenset[Payload]) -> Image:
        """The image that ``save`` wrote. Raises ``DamagedImage`` for anything else: cut off, changed by a bit, of another collection or format."""
        image = cls(spec, holds=holds)
        image.position, image._table, image._indexes = load_image(path, spec, holds)
        image._columns = Columns(image._table)
        return image

    @property
    def memory(self) -> dict[str, int]:
        """The bytes that it takes, by part; of texts and identifiers it is an estimate."""
        with self._lock.reading:
            parts = {"rows": self._table.memory, "columns": self._columns.memory}
            for name, index in self._indexes.items():
                for part, size in index.memory.items():
                    parts[f"{part}:{name}" if name else part] = size
            return parts


def digest(
    record_id: str, vectors: Mapping[str, NDArray[np.float32] | None], payload: Mapping[Payload, bytes | None]
) -> bytes:
    """Sixteen bytes that tell a row from any other: over its id, its vectors' float32 numbers, and those payloads."""
    found = hashlib.blake2b(digest_size=16)
    parts: list[bytes | None] = [record_id.encode()]
    for name in sorted(vectors):
        vector = vectors[name]
        parts += [name.encode(), None if vector is None else np.asarray(vector, "<f4").tobytes()]
    for kind in sorted(payload):
        parts += [kind.encode(), payload[kind]]
    for part in parts:
        found.update((-1 if part is None else len(part)).to_bytes(8, "little", signed=True))
        found.update(part or b"")
    return found.digest()


def _texts(values: Sequence[bytes | None]) -> list[str | None]:
    return [None if value is None else str(value, "utf-8") for value in values]
