"""What a JSON value is to Likewise: checked, normalised and compared the same way by records, filters and every backend.

Nothing of records, filters or databases may enter this module.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import TypeAlias

__all__ = ["MAX_DEPTH", "JsonValue", "dumps", "json_equal", "loads", "normalise", "number", "text_problem"]

JsonScalar: TypeAlias = "bool | int | float | str | None"
JsonValue: TypeAlias = "JsonScalar | list[JsonValue] | dict[str, JsonValue]"

#: How deep metadata and filters may be nested. PostgreSQL's own parser gives up somewhere above 6,000 levels, Python's near 1,000.
MAX_DEPTH = 64

#: Integers beyond this are refused: Python itself refuses to parse more than 4,300 digits.
_MAX_INTEGER_BITS = 3_300

_decoder = json.JSONDecoder()


def text_problem(text: str) -> str | None:
    """Why this text cannot be stored, or None: PostgreSQL's text and jsonb hold neither NUL nor lone surrogates."""
    if "\x00" in text:
        return "contains a NUL character (\\x00), which PostgreSQL cannot store"
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        return f"contains a lone surrogate at position {error.start}, which is not valid Unicode text"
    return None


def normalise(value: object, *, where: str = "value", depth: int = 0) -> JsonValue:
    """A deep copy of ``value`` made of plain JSON types; ValueError, naming the place, for what JSON cannot hold.

    Tuples become lists, and subclasses of str, int and float (enumerations, for example) their plain values.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        if problem := text_problem(value):
            raise ValueError(f"{where} {problem}")
        return str.__str__(value)
    if isinstance(value, int):
        if value.bit_length() > _MAX_INTEGER_BITS:
            raise ValueError(
                f"{where} is an integer of {value.bit_length()} bits; at most {_MAX_INTEGER_BITS} are stored"
            )
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{where} is {value}; JSON has no such number: leave the key out or store null")
        return float(value)
    if depth >= MAX_DEPTH:
        raise ValueError(f"{where} is nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, Mapping):
        result: dict[str, JsonValue] = {}
        for key, item in value.items():
            if not isinstance(key, str):
                raise ValueError(f"{where} has the key {key!r} of type {type(key).__name__}; JSON keys are text")
            if problem := text_problem(key):
                raise ValueError(f"a key of {where} {problem}")
            result[str.__str__(key)] = normalise(
                item, where=f"{where}[{key!r:.60}]" if depth < 4 else where, depth=depth + 1
            )
        return result
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray | memoryview):
        return [
            normalise(item, where=f"{where}[{i}]" if depth < 4 else where, depth=depth + 1)
            for i, item in enumerate(value)
        ]
    raise ValueError(
        f"{where} is of type {type(value).__module__}.{type(value).__qualname__}, which JSON cannot hold; "
        "store text, numbers, true, false, null, lists or mappings (for a date, its isoformat())"
    )


def dumps(value: JsonValue) -> str:
    """The value as JSON text; numbers in the shortest form that reads back the same."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def loads(data: str | bytes) -> JsonValue:
    """JSON as PostgreSQL sends it, which is UTF-8, so that the encoding need not be guessed; jsonb has no white space around it."""
    text = data if isinstance(data, str) else str(data, "utf-8")
    value: JsonValue
    if text[:1] == "{" and text[-1:] == "}":
        value, end = _decoder.raw_decode(text)
        if end == len(text):
            return value
    value = _decoder.decode(text)
    return value


def number(value: float) -> Decimal:
    """A JSON number's value as PostgreSQL's numeric reads it: the decimal of its shortest text."""
    return Decimal(repr(value)) if isinstance(value, float) else Decimal(value)


def json_equal(left: JsonValue, right: JsonValue) -> bool:
    """Equality of JSON values: 1 equals 1.0, true is not 1, "1" is not 1; the order of keys does not count."""
    if left is None or right is None:
        return left is right
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, int | float):
        return isinstance(right, int | float) and number(left) == number(right)
    if isinstance(left, str):
        return isinstance(right, str) and left == right
    if isinstance(left, list):
        return (
            isinstance(right, list)
            and len(left) == len(right)
            and all(json_equal(a, b) for a, b in zip(left, right, strict=True))
        )
    return (
        isinstance(right, dict)
        and left.keys() == right.keys()
        and all(json_equal(v, right[k]) for k, v in left.items())
    )
