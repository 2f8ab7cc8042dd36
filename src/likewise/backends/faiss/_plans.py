"""What a commit comes to, row by row, before any of it is done: so that it is done whole or not at all. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import assert_never

import numpy as np
from numpy.typing import NDArray

from likewise.abc.feeds import Change, Cleared, Gone, Payload, Put
from likewise.errors import LikewiseError
from likewise.schema import CollectionSpec

__all__ = ["Drift", "Plan", "PlannedRow", "plan"]


class Drift(LikewiseError):
    """What the database tells does not go with what the image holds: the image has to be made anew."""


@dataclass(slots=True)
class PlannedRow:
    """A row that is to be there, and what changes of it; everything where ``slot`` is None, which is a row that is new."""

    id: str
    slot: int | None
    vectors: dict[str, NDArray[np.float32] | None] = field(default_factory=dict)
    payload: dict[Payload, bytes | None] = field(default_factory=dict)


@dataclass(slots=True)
class Plan:
    """First everything is forgotten, if ``cleared``, or the rows at the slots ``gone``; then ``rows`` are put."""

    cleared: bool
    gone: list[int]
    rows: list[PlannedRow]


def plan(
    changes: Iterable[Change], slot_of: Mapping[str, int], spec: CollectionSpec, holds: frozenset[Payload]
) -> Plan:
    """What changes come to for a table with these rows. ``Drift`` if one leaves out what is not known, or does not fit the collection."""
    made = _Making(slot_of, spec, holds)
    for change in changes:
        match change:
            case Put():
                made.put(change)
            case Gone():
                made.drop(change.id)
            case Cleared():
                made.clear()
            case _:
                assert_never(change)
    return Plan(made.cleared, made.gone, [row for row in made.now.values() if row is not None])


class _Making:
    def __init__(self, slot_of: Mapping[str, int], spec: CollectionSpec, holds: frozenset[Payload]) -> None:
        self._slot_of = slot_of
        self._spec = spec
        self._holds = holds
        self.cleared = False
        self.gone: list[int] = []
        #: Rows that are touched, by their id; None for one that is not there any more.
        self.now: dict[str, PlannedRow | None] = {}

    def clear(self) -> None:
        self.cleared = True
        self.gone.clear()
        self.now.clear()

    def drop(self, record_id: str) -> None:
        row = self._row(record_id)
        if row is not None:
            self.now[record_id] = None
            if row.slot is not None:
                self.gone.append(row.slot)

    def put(self, change: Put) -> None:
        row = self._row(change.id)
        if change.was is not None and change.was != change.id:
            before = self._row(change.was)
            # A change that is told again finds the row under its new id already.
            if before is not None:
                if row is not None:
                    self.drop(change.id)
                self.now[change.was] = None
                row = before
        if row is None:
            row = PlannedRow(change.id, None)
            self._check_whole(change)
        row.id = change.id
        for name, vector in change.vectors.items():
            self._check_vector(change.id, name, vector)
            row.vectors[name] = vector
        row.payload.update({name: value for name, value in change.payload.items() if name in self._holds})
        self.now[change.id] = row

    def _row(self, record_id: str) -> PlannedRow | None:
        if record_id in self.now:
            return self.now[record_id]
        slot = None if self.cleared else self._slot_of.get(record_id)
        return None if slot is None else PlannedRow(record_id, slot)

    def _check_whole(self, change: Put) -> None:
        missing = [repr(name) if name else "vector" for name in self._spec.vector_fields if name not in change.vectors]
        missing += sorted(self._holds - change.payload.keys())
        if missing:
            raise Drift(
                f"a change of row {change.id!r:.80} of collection {self._spec.name!r} leaves out {', '.join(missing)}, and the image has no "
                "such row to take it from"
            )

    def _check_vector(self, record_id: str, name: str, vector: NDArray[np.float32] | None) -> None:
        known = self._spec.vector_fields.get(name)
        if known is None or (vector is not None and vector.shape != (known.dimension,)):
            expected = "no such vector" if known is None else f"one of dimension {known.dimension}"
            raise Drift(
                f"a change of row {record_id!r:.80} has a vector {name!r} of shape {() if vector is None else vector.shape}; "
                f"the image of collection {self._spec.name!r} has {expected}"
            )
