"""Which rows match a filter: its conditions are looked up in columns, one for each field that a filter has been about.

A column is made when it is first needed and kept up to date after. What a condition means is asked of the very code that is the specification
(``likewise.filters.matching``), once for each distinct value; only the order and equality of plain numbers are NumPy's.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from typing import TypeAlias, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from likewise.abc.feeds import Payload
from likewise.backends.faiss._encoded import Encoded
from likewise.backends.faiss.table import Table
from likewise.filters import And, Column, Eq, Filter, In, IsNull, Not, Or
from likewise.filters.matching import holds

__all__ = ["Columns", "needed"]

#: Rows that are looked at in one step, so that nobody waits long for a column that is made.
_STEP = 2_048
#: So many columns, masks and answers are kept; the oldest go first.
_MOST_COLUMNS = 64
_MOST_MASKS = 8
_MOST_ANSWERS = 64
#: The bytes that answers may take for each row, and in any case.
_ANSWERS_ROW, _ANSWERS_LEAST = 48, 1_000_000

_K = TypeVar("_K")
_V = TypeVar("_V")
_Mask: TypeAlias = "NDArray[np.bool_]"


def needed(where: Filter) -> frozenset[Payload]:
    """What has to be held to answer a filter."""
    if isinstance(where, And | Or):
        return frozenset().union(*map(needed, where.operands))
    if isinstance(where, Not):
        return needed(where.operand)
    if not isinstance(where.field, Column):
        return frozenset({"metadata"})
    return frozenset() if where.field.name == "id" else frozenset({cast("Payload", where.field.name)})


class Columns:
    """The columns of a table. ``changed`` is for the writer of the table; everything else for any number of its readers."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._mutex = threading.Lock()
        self._encoded: dict[tuple[str, ...], Encoded] = {}
        self._texts: dict[str, _Texts] = {}
        #: Counts the changes of the table.
        self.version = 0
        self._answers: dict[str, tuple[int, NDArray[np.int64]]] = {}
        #: Filters that were asked lately, so that what tells them apart need not be written out again.
        self._names: dict[int, tuple[Filter, str]] = {}

    def changed(self, slots: Sequence[int]) -> None:
        """The rows at these slots are new, gone, or hold something else."""
        with self._mutex:
            self.version += 1
            for encoded in self._encoded.values():
                encoded.dirty.update(slots)
            for texts in self._texts.values():
                texts.changed(slots)

    def answered(self, where: Filter) -> bool:
        """Whether the answer to a filter is known, unless a change comes between."""
        known = self._names.get(id(where))
        if known is None or known[0] is not where:
            return False
        version, _ = self._answers.get(known[1], (-1, None))
        return version == self.version

    def advance(self, where: Filter) -> bool:
        """Take one step to what a filter needs, among readers of the table; whether there is more to do."""
        with self._mutex:
            version, _ = self._answers.get(self._name(where), (-1, None))
            if version == self.version:
                return False
            conditions = [node for node in _conditions(where) if _by_id(node) is None]
            texts = [node for node in conditions if not isinstance(self._column(node), Encoded)]
            if len(texts) > _MOST_MASKS or len(conditions) - len(texts) > _MOST_COLUMNS:
                # More than is kept: what one step made the next would throw away.
                return False
            return any(self._step(node, _STEP) for node in conditions)

    def select(self, where: Filter) -> NDArray[np.int64]:
        """The slots of the rows that match, ascending."""
        with self._mutex:
            key = self._name(where)
            version, found = self._answers.get(key, (-1, None))
            if found is not None and version == self.version:
                return found
            mask = self._mask(where)
            mask[self._table.free] = False
            found = np.flatnonzero(mask)
            self._answers.pop(key, None)
            room = max(_ANSWERS_LEAST, _ANSWERS_ROW * len(self._table)) - found.nbytes
            while self._answers and sum(slots.nbytes for _, slots in self._answers.values()) > room:
                del self._answers[next(iter(self._answers))]
            _keep(self._answers, key, (self.version, found), _MOST_ANSWERS)
            return found

    @property
    def memory(self) -> int:
        """About how many bytes the columns take."""
        with self._mutex:
            answers = sum(slots.nbytes for _, slots in self._answers.values())
            texts = sum(column.memory for column in self._texts.values())
            return answers + texts + sum(column.memory for column in self._encoded.values())

    def _name(self, where: Filter) -> str:
        """What tells a filter from others: ``repr`` tells 1, 1.0 and true apart, which ``==`` does not."""
        known = self._names.get(id(where))
        if known is None or known[0] is not where:
            known = where, repr(where)
            _keep(self._names, id(where), known, _MOST_ANSWERS)
        return known[1]

    def _step(self, node: Filter, rows: int) -> bool:
        if isinstance(column := self._column(node), Encoded):
            return column.update(self._table, rows)
        return column.update(self._table, node, rows)

    def _mask(self, where: Filter) -> _Mask:
        """Which slots match; of those without a row it says anything."""
        count = self._table.slots
        match where:
            case And():
                mask = np.ones(count, np.bool_)
                for operand in where.operands:
                    mask &= self._mask(operand)
                return mask
            case Or():
                mask = np.zeros(count, np.bool_)
                for operand in where.operands:
                    mask |= self._mask(operand)
                return mask
            case Not():
                return ~self._mask(where.operand)
            case _:
                return self._condition(where, count)

    def _condition(self, node: Filter, count: int) -> _Mask:
        ids = _by_id(node)
        if ids is not None:
            mask = np.zeros(count, np.bool_)
            mask[[slot for each in ids if (slot := self._table.slot_of.get(each)) is not None]] = True
            return mask
        self._step(node, count + len(self._table.free) + 1)
        column = self._column(node)
        return column.mask(node, count)

    def _column(self, node: Filter) -> Encoded | _Texts:
        if isinstance(node, And | Or | Not):
            raise AssertionError("a condition is about a field")
        field = node.field
        if isinstance(field, Column) and field.name != "modality":
            if field.name not in self._texts:
                self._texts[field.name] = _Texts(field.name)
            return self._texts[field.name]
        path = () if isinstance(field, Column) else field.path
        found = self._encoded.get(path)
        if found is None or found.wasteful(len(self._table)):
            found = Encoded(path)
            _keep(self._encoded, path, found, _MOST_COLUMNS)
        return found


class _Texts:
    """A column of texts that are mostly different, which stay where they are: for each condition, which rows it holds for."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._masks: dict[str, tuple[_Mask, set[int]]] = {}

    def changed(self, slots: Sequence[int]) -> None:
        """The texts at these slots may be others."""
        for _, dirty in self._masks.values():
            dirty.update(slots)

    def update(self, table: Table, node: Filter, rows: int) -> bool:
        """Look at some rows that are new or have changed; whether there are more."""
        key = repr(node)
        mask, dirty = self._masks.get(key) or (np.zeros(0, np.bool_), set())
        count = min(table.slots, len(mask) + rows)
        slots = [dirty.pop() for _ in range(min(rows, len(dirty)))]
        slots = [slot for slot in slots if slot < len(mask)] + list(range(len(mask), count))
        grown = np.zeros(count, np.bool_)
        grown[: len(mask)] = mask
        for slot in slots:
            text = table.ids[slot] if self._name == "id" else table.text(cast("Payload", self._name), slot)
            if isinstance(node, IsNull):
                grown[slot] = text is None
            else:
                grown[slot] = text is not None and holds(text, node)
        _keep(self._masks, key, (grown, dirty), _MOST_MASKS)
        return count < table.slots or bool(dirty)

    def mask(self, node: Filter, count: int) -> _Mask:
        """Which slots it holds for, once ``update`` has seen them all."""
        return self._masks[repr(node)][0][:count].copy()

    @property
    def memory(self) -> int:
        """The bytes of the masks."""
        return sum(mask.nbytes for mask, _ in self._masks.values())


def _by_id(node: Filter) -> list[str] | None:
    """The ids that a condition allows, if it says which."""
    if isinstance(node, Eq | In) and isinstance(node.field, Column) and node.field.name == "id":
        values = node.values if isinstance(node, In) else (node.value,)
        return [value for value in values if isinstance(value, str)]
    return None


def _conditions(where: Filter) -> Iterable[Filter]:
    if isinstance(where, And | Or):
        for operand in where.operands:
            yield from _conditions(operand)
    elif isinstance(where, Not):
        yield from _conditions(where.operand)
    else:
        yield where


def _keep(kept: dict[_K, _V], key: _K, value: _V, most: int) -> None:
    """Put a value into a dictionary that holds at most so many: the one that came first goes."""
    if key not in kept and len(kept) >= most:
        del kept[next(iter(kept))]
    kept[key] = value
