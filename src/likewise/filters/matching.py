"""What a filter means, in the plainest code there is: whether one record matches. Obvious and slow; it is the specification.

The memory backend looks at every record with it, and a copy in memory at every distinct value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, assert_never

from likewise._json import JsonValue, json_equal, number
from likewise.filters.nodes import (
    And,
    Between,
    Column,
    Contains,
    ContainsAll,
    ContainsAny,
    EndsWith,
    Eq,
    Exists,
    Field,
    Filter,
    Gt,
    Gte,
    In,
    IsNull,
    Like,
    Lt,
    Lte,
    Ne,
    Not,
    NotIn,
    Or,
    StartsWith,
    TextMatch,
)

__all__ = ["MISSING", "Matchable", "Missing", "holds", "matches", "value_at"]


class Matchable(Protocol):
    """A record as filters see it."""

    @property
    def id(self) -> str: ...
    @property
    def metadata(self) -> Mapping[str, JsonValue]: ...
    @property
    def content(self) -> str | None: ...
    @property
    def modality(self) -> str | None: ...
    @property
    def content_id(self) -> str | None: ...


class Missing:
    """The value of a key that is not there, and of a null column."""


MISSING = Missing()


def matches(record: Matchable, node: Filter) -> bool:
    """Whether the record matches the filter."""
    match node:
        case And():
            return all(matches(record, operand) for operand in node.operands)
        case Or():
            return any(matches(record, operand) for operand in node.operands)
        case Not():
            return not matches(record, node.operand)
        case IsNull() if isinstance(node.field, Column):
            return isinstance(_value(record, node.field), Missing)
        case _:
            value = _value(record, node.field)
            return not isinstance(value, Missing) and holds(value, node)


def _value(record: Matchable, field: Field) -> JsonValue | Missing:
    """The value that a condition is about."""
    if isinstance(field, Column):
        columns = {
            "id": record.id,
            "content": record.content,
            "modality": record.modality,
            "content_id": record.content_id,
        }
        text = columns[field.name]
        return MISSING if text is None else text
    return value_at(record.metadata, field.path)


def value_at(metadata: Mapping[str, JsonValue], path: Sequence[str]) -> JsonValue | Missing:
    """The value that a path of keys leads to. Keys lead through objects only."""
    inside: Mapping[str, JsonValue] = metadata
    value: JsonValue | Missing = MISSING
    for place, key in enumerate(path):
        if place:
            if not isinstance(value, dict):
                return MISSING
            inside = value
        if key not in inside:
            return MISSING
        value = inside[key]
    return value


def holds(value: JsonValue, node: Filter) -> bool:
    """Whether a value that is there meets the condition."""
    match node:
        case Eq():
            return json_equal(value, node.value)
        case Ne():
            return not json_equal(value, node.value)
        case In():
            return any(json_equal(value, wanted) for wanted in node.values)
        case NotIn():
            return not any(json_equal(value, unwanted) for unwanted in node.values)
        case Gt():
            return _order(value, node.value) == 1
        case Gte():
            return _order(value, node.value) in (0, 1)
        case Lt():
            return _order(value, node.value) == -1
        case Lte():
            return _order(value, node.value) in (-1, 0)
        case Between():
            return _order(value, node.low) in (0, 1) and _order(value, node.high) in (-1, 0)
        case Exists():
            return True
        case IsNull():
            return value is None
        case Contains():
            return _has(value, node.value)
        case ContainsAny():
            return any(_has(value, wanted) for wanted in node.values)
        case ContainsAll():
            return isinstance(value, list) and all(_has(value, wanted) for wanted in node.values)
        case StartsWith():
            return isinstance(value, str) and value.startswith(node.text)
        case EndsWith():
            return isinstance(value, str) and value.endswith(node.text)
        case Like():
            return isinstance(value, str) and _like(value, node.text)
        case TextMatch():
            return isinstance(value, str) and all(_lower(word) in _lower(value) for word in node.words)
        case And() | Or() | Not():
            raise AssertionError("conditions on several values are matched above")
    assert_never(node)


def _order(value: JsonValue, bound: float | str) -> int | None:
    """-1, 0 or 1 as the value is less than the bound, equal or greater; None if the two cannot be compared."""
    if isinstance(value, str) and isinstance(bound, str):
        return (value > bound) - (value < bound)
    if isinstance(value, bool) or not isinstance(value, int | float) or isinstance(bound, str):
        return None
    left, right = number(value), number(bound)
    return (left > right) - (left < right)


def _has(value: JsonValue, element: JsonValue) -> bool:
    return isinstance(value, list) and any(json_equal(item, element) for item in value)


def _lower(text: str) -> str:
    """Lower case by single code points: what would grow stays as it is."""
    if text.isascii():
        return text.lower()
    return "".join(low if len(low := c.lower()) == 1 else c for c in text)


def _like(text: str, pattern: str) -> bool:
    """Whether the whole text is of the pattern: after each of its characters, the places in the text where it can have got to."""
    places = {0}
    escaped = False
    for character in pattern:
        if character == "\\" and not escaped:
            escaped = True
        elif character == "%" and not escaped:
            places = set(range(min(places), len(text) + 1))
        else:
            any_one = character == "_" and not escaped
            places = {at + 1 for at in places if at < len(text) and (any_one or text[at] == character)}
            escaped = False
        if not places:
            return False
    return len(text) in places
