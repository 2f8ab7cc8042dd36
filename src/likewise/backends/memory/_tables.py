"""The rows of all collections of one store, guarded by one lock; and what becomes of rows when a collection grows."""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from likewise.abc.embedder import Embedder
from likewise.abc.models import ModelIdentity, check_model
from likewise.abc.sources import LoadMark
from likewise.abc.specs import compare_specs, settled_spec
from likewise.abc.validation import Prepared
from likewise.calibration import Calibration
from likewise.errors import BackendConflict, BackendError, CollectionNotFound, RecordExists
from likewise.records import IncludeField, Record
from likewise.schema import CollectionSpec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Tables", "record_from_row"]


@dataclass(slots=True)
class _Table:
    spec: CollectionSpec
    model: ModelIdentity | None = None
    rows: dict[str, Prepared] = field(default_factory=dict)
    loads: dict[str, LoadMark] = field(default_factory=dict)

    def insert(self, new: Iterable[Prepared]) -> int:
        added: dict[str, Prepared] = {}
        known: set[str] = set()
        for row in new:
            if row.id in self.rows or row.id in added:
                known.add(row.id)
            added[row.id] = _fitted(row, self.spec)
        if known:
            raise RecordExists(sorted(known), collection=self.spec.name)
        self.rows.update(added)
        return len(added)

    def upsert(self, new: Iterable[Prepared]) -> int:
        written = {row.id: _fitted(row, self.spec) for row in new}
        self.rows.update(written)
        return len(written)


class Tables:
    """Every collection by its name. Each method is one step that no other thread sees half done."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tables: dict[str, _Table] = {}
        self._closed = False

    def close(self) -> None:
        """Forget everything."""
        with self._lock:
            self._tables.clear()
            self._closed = True

    def specs(self) -> list[CollectionSpec]:
        """The specifications in the order of their names."""
        with self._lock:
            self._check_open()
            return [self._tables[name].spec for name in sorted(self._tables)]

    def spec(self, name: str) -> CollectionSpec:
        """The specification of a collection."""
        with self._lock:
            return self._table(name).spec

    def model(self, name: str) -> ModelIdentity | None:
        """The model that makes a collection's vectors."""
        with self._lock:
            return self._table(name).model

    def ensure(self, wanted: CollectionSpec, embedder: Embedder | None) -> CollectionSpec:
        """The specification as it is stored, created or migrated if the wanted one asks for it."""
        with self._lock:
            self._check_open()
            table = self._tables.get(wanted.name)
            wanted = settled_spec(wanted, None if table is None else table.spec, embedder)
            if table is None:
                # As it would be read back: how to ensure a collection is not a part of it.
                model = None if embedder is None else ModelIdentity.of(embedder.card)
                table = self._tables[wanted.name] = _Table(CollectionSpec.from_json(wanted.to_json()), model)
                return table.spec
            spec = table.spec
            if spec.embedder == wanted.embedder:
                check_model(table.model, embedder, wanted)
            if wanted.mode == "auto_migrate":
                spec = replace(
                    spec,
                    vectors={**wanted.vectors, **spec.vectors},
                    multimodal=bool(spec.multimodal or wanted.multimodal),
                    calibration=wanted.calibration,
                )
            compare_specs(wanted, spec)
            table.spec = spec
            table.rows = {row.id: _fitted(row, spec) for row in table.rows.values()}
            return spec

    def set_calibration(self, name: str, calibration: Calibration | None) -> CollectionSpec:
        """The specification with another calibration, stored."""
        with self._lock:
            table = self._table(name)
            table.spec = replace(table.spec, calibration=calibration)
            return table.spec

    def drop(self, name: str, *, missing_ok: bool) -> None:
        """Forget a collection."""
        with self._lock:
            self._check_open()
            if name not in self._tables and missing_ok:
                return
            self._table(name)
            del self._tables[name]

    def rows(self, name: str) -> list[Prepared]:
        """All rows, as they are now."""
        with self._lock:
            return list(self._table(name).rows.values())

    def find(self, name: str, ids: Iterable[str]) -> list[Prepared]:
        """The rows with these ids, in their order."""
        with self._lock:
            rows = self._table(name).rows
            return [rows[i] for i in ids if i in rows]

    def insert(self, name: str, new: Iterable[Prepared]) -> int:
        """Add rows, all or none."""
        with self._lock:
            return self._table(name).insert(new)

    def upsert(self, name: str, new: Iterable[Prepared]) -> int:
        """Add or replace rows; the number of ids."""
        with self._lock:
            return self._table(name).upsert(new)

    def load_mark(self, name: str, token: str) -> LoadMark | None:
        """How far the load of a token is."""
        with self._lock:
            return self._table(name).loads.get(token)

    def write_part(
        self,
        name: str,
        new: Iterable[Prepared],
        *,
        replace: bool,
        token: str | None,
        before: LoadMark | None,
        after: LoadMark,
    ) -> int:
        """Add rows together with how far their load is, if it is still where it was."""
        with self._lock:
            table = self._table(name)
            if token is not None and table.loads.get(token) != before:
                raise BackendConflict(
                    f"another load into collection {name!r} goes on with the same token; nothing of this part was stored"
                )
            written = table.upsert(new) if replace else table.insert(new)
            if token is not None:
                table.loads[token] = after
            return written

    def delete(self, name: str, ids: Iterable[str]) -> int:
        """Remove rows; how many there were."""
        with self._lock:
            rows = self._table(name).rows
            return sum(rows.pop(i, None) is not None for i in ids)

    def _table(self, name: str) -> _Table:
        self._check_open()
        if name not in self._tables:
            raise CollectionNotFound(name, known=list(self._tables))
        return self._tables[name]

    def _check_open(self) -> None:
        if self._closed:
            raise BackendError("the store is closed: connect again")


def _fitted(row: Prepared, spec: CollectionSpec) -> Prepared:
    """The row with what a multimodal collection stores of every row: it may have been checked before the collection was one."""
    if not spec.multimodal or row.modality is not None:
        return row
    return replace(row, modality="text", content_id=row.id)


def _copied(row: Prepared) -> dict[str, NDArray[np.float32]]:
    vectors = {name: vector.copy() for name, vector in row.vectors.items()}
    for vector in vectors.values():
        vector.flags.writeable = False
    return vectors


def record_from_row(row: Prepared, include: frozenset[IncludeField]) -> Record:
    """A copy of the row with what was asked for; nothing that is done to it reaches the store."""
    vectors = _copied(row) if "vector" in include else {}
    return Record(
        id=row.id,
        vector=vectors.pop("", None),
        metadata=copy.deepcopy(row.metadata) if "metadata" in include else {},
        content=row.content if "content" in include else None,
        vectors=vectors,
        modality=row.modality,
        content_id=row.content_id,
    )
