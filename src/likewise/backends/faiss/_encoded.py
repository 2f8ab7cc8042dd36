"""One field of the rows as distinct values and a number for each row, so that a condition is evaluated once for each value."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from likewise._json import JsonValue
from likewise.backends.faiss._arrays import Growing
from likewise.backends.faiss.table import Table
from likewise.filters import Between, Eq, Filter, Gt, Gte, In, Lt, Lte, Metadata, Ne, NotIn
from likewise.filters.matching import MISSING, Missing, holds, value_at

__all__ = ["Encoded", "parse"]

#: Whole numbers up to here are the same as float64.
_EXACT = 2**53
_MOST_MASKS = 32
#: For conditions whose field does not matter.
_ANY = Metadata("")


class Exact(float):
    """A number that float64 cannot hold: it is compared by its text, as PostgreSQL compares numerics."""

    __slots__ = ("_text",)
    _text: str

    def __new__(cls, text: str) -> Exact:
        made = super().__new__(cls, text)
        made._text = text
        return made

    def __repr__(self) -> str:
        return self._text


def _fraction(text: str) -> float:
    value = float(text)
    # Fifteen digits are always the shortest text of the float that they are read as.
    return value if len(text) <= 16 or Decimal(repr(value)) == Decimal(text) else Exact(text)


def _whole(text: str) -> float:
    # Python does not read longer ones.
    return int(text) if len(text) < 4_000 else Exact(text)


_decoder = json.JSONDecoder(parse_float=_fraction)
_patient = json.JSONDecoder(parse_float=_fraction, parse_int=_whole)


def parse(data: bytes) -> JsonValue:
    """Metadata as PostgreSQL prints it, every number exact; not for callers, who get what ``likewise._json.loads`` reads."""
    text = str(data, "utf-8")
    try:
        return cast("JsonValue", _decoder.decode(text))
    except json.JSONDecodeError:
        raise
    except ValueError:
        return cast("JsonValue", _patient.decode(text))


class Encoded:
    """The values at one path of the metadata, or, with no path, the modalities."""

    def __init__(self, path: tuple[str, ...]) -> None:
        self._path = path
        #: By slot: the place of its value in ``_values``, or -1 where there is none.
        self._codes = Growing((), np.int32)
        self._values: list[JsonValue] = []
        self._places: dict[Any, int] = {}
        #: The values that are numbers of float64, others are NaN; and the places of numbers that are not.
        self._numbers = Growing((), np.float64)
        self._odd: list[int] = []
        self._masks: dict[str, NDArray[np.bool_]] = {}
        #: Slots to look at again.
        self.dirty: set[int] = set()
        self._bytes = 0

    def wasteful(self, rows: int) -> bool:
        """Whether most values are of no row any more."""
        return len(self._values) > 2 * rows + 1_024

    @property
    def memory(self) -> int:
        """About how many bytes it takes."""
        masks = sum(mask.nbytes for mask in self._masks.values())
        return self._codes.capacity + self._numbers.capacity + masks + self._bytes

    def update(self, table: Table, rows: int) -> bool:
        """Look at some rows that are new or have changed; whether there are more."""
        codes = self._codes
        for _ in range(min(rows, len(self.dirty))):
            slot = self.dirty.pop()
            if slot < codes.count:
                codes.rows[slot] = self._code(table, slot)
        new = range(codes.count, min(table.slots, codes.count + rows))
        if new:
            codes.append(np.array([self._code(table, slot) for slot in new], np.int32))
        return bool(self.dirty) or codes.count < table.slots

    def _code(self, table: Table, slot: int) -> int:
        value = self._value(table, slot)
        if isinstance(value, Missing):
            return -1
        key = _key(value)
        place = self._places.get(key)
        if place is None:
            place = self._places[key] = len(self._values)
            self._values.append(value)
            plain = _plain(value)
            if plain is None and isinstance(value, int | float) and not isinstance(value, bool):
                self._odd.append(place)
            self._numbers.append(np.array([np.nan if plain is None else plain]))
            self._bytes += 200 + (len(value) if isinstance(value, str) else 0)
        return place

    def _value(self, table: Table, slot: int) -> JsonValue | Missing:
        if not self._path:
            text = table.text("modality", slot)
            return MISSING if text is None else text
        data = table.payload["metadata"][slot]
        metadata = None if data is None else parse(data)
        # Only SQL can have stored anything but an object.
        return value_at(metadata, self._path) if isinstance(metadata, dict) else MISSING

    def mask(self, node: Filter, count: int) -> NDArray[np.bool_]:
        """Which of the first slots a condition holds for, once ``update`` has seen them all."""
        found = np.zeros(len(self._values) + 1, np.bool_)
        found[:-1] = self._holding(node)
        # The last is for what is not there, whose number is -1.
        return cast("NDArray[np.bool_]", found[self._codes.rows[:count]])

    def _holding(self, node: Filter) -> NDArray[np.bool_]:
        """Which of the values a condition holds for."""
        match node:
            case Eq():
                return self._equal((node.value,))
            case Ne():
                return ~self._equal((node.value,))
            case In():
                return self._equal(node.values)
            case NotIn():
                return ~self._equal(node.values)
            case Gt() | Gte() | Lt() | Lte() if (bound := _plain(node.value)) is not None:
                numbers = self._numbers.rows
                compared = {Gt: np.greater, Gte: np.greater_equal, Lt: np.less, Lte: np.less_equal}[type(node)]
                return self._with_odd(compared(numbers, bound), node)
            case Between() if (low := _plain(node.low)) is not None and (high := _plain(node.high)) is not None:
                return self._with_odd((self._numbers.rows >= low) & (self._numbers.rows <= high), node)
            case _:
                return self._one_by_one(node)

    def _with_odd(self, mask: NDArray[np.bool_], node: Filter) -> NDArray[np.bool_]:
        for place in self._odd:
            mask[place] = holds(self._values[place], node)
        return mask

    def _equal(self, wanted: Any) -> NDArray[np.bool_]:
        mask = np.zeros(len(self._values), np.bool_)
        numbers: list[float] = []
        for value in wanted:
            if isinstance(value, str | bool) or value is None:
                place = self._places.get(_key(value))
                if place is not None:
                    mask[place] = True
            elif (plain := _plain(value)) is not None:
                numbers.append(plain)
                for place in self._odd:
                    mask[place] |= holds(self._values[place], Eq(_ANY, value))
            else:
                mask |= self._one_by_one(Eq(_ANY, value))
        if numbers:
            mask |= np.isin(self._numbers.rows, numbers)
        return mask

    def _one_by_one(self, node: Filter) -> NDArray[np.bool_]:
        key = repr(node)
        known = self._masks.pop(key, np.zeros(0, np.bool_))
        if len(known) < len(self._values):
            rest = [holds(value, node) for value in self._values[len(known) :]]
            known = np.concatenate((known, np.array(rest, np.bool_)))
        while len(self._masks) >= _MOST_MASKS:
            del self._masks[next(iter(self._masks))]
        self._masks[key] = known
        return known.copy()


def _key(value: JsonValue) -> Any:
    """What tells a value from others; numbers that are equal but written in another way may differ."""
    if isinstance(value, str):
        return value
    if isinstance(value, list | dict):
        return type(value), repr(value)
    return type(value), str(value) if isinstance(value, Exact) else value


def _plain(value: object) -> float | None:
    """The value as float64, if it is a number whose order and equality float64 keeps."""
    if isinstance(value, bool | Exact):
        return None
    if isinstance(value, float):
        return value
    return float(value) if isinstance(value, int) and -_EXACT <= value <= _EXACT else None
