"""The rows of an image by slot: ids, and what is held beside vectors. A slot is a row's own as long as it is there, and used again after."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import cast, get_args

from likewise.abc.feeds import Payload

__all__ = ["PAYLOADS", "Table"]

PAYLOADS: tuple[Payload, ...] = get_args(Payload)


class Table:
    """Ids and payloads. The caller sees to it that nobody reads while it is written."""

    def __init__(self, holds: frozenset[Payload]) -> None:
        #: By slot; None where there is no row.
        self.ids: list[str | None] = []
        self.slot_of: dict[str, int] = {}
        #: By slot, for each payload that is held.
        self.payload: dict[Payload, list[bytes | None]] = {name: [] for name in PAYLOADS if name in holds}
        self._free: list[int] = []
        self._bytes = 0

    def __len__(self) -> int:
        return len(self.slot_of)

    @property
    def slots(self) -> int:
        """How many slots there are, used or not."""
        return len(self.ids)

    @property
    def free(self) -> list[int]:
        """The slots without a row."""
        return self._free

    def add(self, record_id: str, payload: Mapping[Payload, bytes | None]) -> int:
        """The slot of a row that is new."""
        if self._free:
            slot = self._free.pop()
            self.ids[slot] = record_id
            for name, column in self.payload.items():
                column[slot] = payload.get(name)
        else:
            slot = len(self.ids)
            self.ids.append(record_id)
            for name, column in self.payload.items():
                column.append(payload.get(name))
        self.slot_of[record_id] = slot
        self._bytes += _size(record_id) + sum(_size(payload.get(name)) for name in self.payload)
        return slot

    def extend(self, ids: Sequence[str], payload: Mapping[Payload, Sequence[bytes | None]]) -> range:
        """The slots of rows that are new, whose ids the table has not."""
        slots = range(len(self.ids), len(self.ids) + len(ids))
        self.ids.extend(ids)
        self.slot_of.update(zip(ids, slots, strict=True))
        self._bytes += sum(map(_size, ids))
        for name, column in self.payload.items():
            values = payload.get(name)
            column.extend([None] * len(ids) if values is None else values)
            if values is not None:
                self._bytes += sum(map(_size, values))
        return slots

    def change(self, slot: int, payload: Mapping[Payload, bytes | None]) -> list[Payload]:
        """Put other payloads at a slot; those that are now different."""
        changed: list[Payload] = []
        for name, value in payload.items():
            column = self.payload.get(name)
            if column is not None and column[slot] != value:
                self._bytes += _size(value) - _size(column[slot])
                column[slot] = value
                changed.append(name)
        return changed

    def rename(self, ids: Mapping[int, str]) -> None:
        """Give rows, by slot, other ids, which no other row has."""
        for slot, record_id in ids.items():
            before = self.ids[slot]
            if before is not None:
                del self.slot_of[before]
                self._bytes += _size(record_id) - _size(before)
        for slot, record_id in ids.items():
            self.ids[slot] = record_id
            self.slot_of[record_id] = slot

    def remove(self, slot: int) -> None:
        """Forget a row."""
        record_id = self.ids[slot]
        if record_id is None:
            raise AssertionError("only a row can be removed")
        del self.slot_of[record_id]
        self.ids[slot] = None
        self._bytes -= _size(record_id)
        for column in self.payload.values():
            self._bytes -= _size(column[slot])
            column[slot] = None
        self._free.append(slot)

    def clear(self) -> None:
        """Forget all rows."""
        self.ids.clear()
        self.slot_of.clear()
        self._free.clear()
        for column in self.payload.values():
            column.clear()
        self._bytes = 0

    def copy(self) -> Table:
        """The same rows, in lists of their own."""
        other = Table(frozenset(self.payload))
        other.ids = self.ids.copy()
        other.payload = {name: column.copy() for name, column in self.payload.items()}
        return other

    def restore(self, ids: list[str | None], payload: dict[Payload, list[bytes | None]]) -> None:
        """Take what a copy had in its lists. ``ValueError`` where an id is there twice."""
        self.ids, self.payload = ids, payload
        self.slot_of = {record_id: slot for slot, record_id in enumerate(ids) if record_id is not None}
        self._free = [slot for slot, record_id in enumerate(ids) if record_id is None]
        if len(self.slot_of) + len(self._free) != len(ids):
            raise ValueError("an id is there twice")
        self._bytes = sum(map(_size, ids)) + sum(sum(map(_size, column)) for column in payload.values())

    def ids_at(self, slots: Iterable[int]) -> list[str]:
        """The ids of rows by their slots, which have one."""
        ids = cast("list[str]", self.ids)
        return [ids[slot] for slot in slots]

    def text(self, name: Payload, slot: int) -> str | None:
        """A payload that is text."""
        value = self.payload[name][slot]
        return None if value is None else str(value, "utf-8")

    @property
    def memory(self) -> int:
        """About how many bytes it takes: the objects, the lists that name them, and the dictionary of ids."""
        lists = 8 * len(self.ids) * (1 + len(self.payload))
        return self._bytes + lists + 130 * len(self.slot_of)


def _size(value: str | bytes | None) -> int:
    """About what Python takes for a text or bytes."""
    if value is None:
        return 0
    return len(value) + (33 if isinstance(value, bytes) else 49)
