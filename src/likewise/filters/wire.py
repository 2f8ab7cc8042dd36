"""Filters as JSON: ``parse`` reads the wire form, ``serialise`` writes it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, cast, get_args

from likewise._json import MAX_DEPTH, JsonValue
from likewise.errors import InvalidFilter
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
    Metadata,
    Ne,
    Not,
    NotIn,
    Or,
    StartsWith,
    TextMatch,
)

__all__ = ["OPERATORS", "parse", "serialise"]

_COLUMN_KEYS = {"$id": "id", "$content": "content", "$modality": "modality", "$content_id": "content_id"}

OPERATORS: Mapping[str, Callable[[Any, Any], Filter]] = {
    "$eq": Eq,
    "$ne": Ne,
    "$in": In,
    "$nin": NotIn,
    "$gt": Gt,
    "$gte": Gte,
    "$lt": Lt,
    "$lte": Lte,
    "$contains": Contains,
    "$contains_any": ContainsAny,
    "$contains_all": ContainsAll,
    "$starts_with": StartsWith,
    "$ends_with": EndsWith,
    "$like": Like,
    "$text_match": TextMatch,
}
_NAMES: Mapping[type, str] = {cast("type", node): name for name, node in OPERATORS.items()}
_SPECIAL = ("$between", "$exists", "$is_null", "$not")


def parse(wire: Mapping[str, Any]) -> Filter:
    r"""The filter that a wire form describes; ``InvalidFilter`` says where it is malformed.

    ``{"price": {"$lt": 100}, "address.city": "Rome", "$or": [{…}, {…}], "$not": {…}}``: the entries of a mapping all have to
    hold; a dot leads into an object (``\.`` is a dot, ``\\`` a backslash in a key); the columns are ``$id``, ``$content``, ``$modality`` and
    ``$content_id``.
    """
    return _parse(wire, "filter", 0)


def _parse(wire: object, where: str, depth: int) -> Filter:
    if depth > MAX_DEPTH:
        raise InvalidFilter(f"the filter is nested deeper than {MAX_DEPTH} levels")
    if not isinstance(wire, Mapping):
        raise InvalidFilter(f"{where} must be an object such as {{'price': {{'$lt': 100}}}}, not {type(wire).__name__}")
    conditions: list[Filter] = []
    for key, value in wire.items():
        if not isinstance(key, str):
            raise InvalidFilter(f"{where} has a key of type {type(key).__name__}; keys are text")
        if key in ("$and", "$or"):
            if isinstance(value, str | bytes | Mapping) or not isinstance(value, Sequence):
                raise InvalidFilter(f"{key} takes a list of filters, not {type(value).__name__}")
            parts = [_parse(v, f"{key}[{i}]", depth + 1) for i, v in enumerate(value)]
            conditions.append(And(*parts) if key == "$and" else Or(*parts))
        elif key == "$not":
            conditions.append(Not(_parse(value, "$not", depth + 1)))
        else:
            conditions.extend(_conditions(_parse_field(key), value, key, depth + 1))
    return conditions[0] if len(conditions) == 1 else And(*conditions)


def _parse_field(key: str) -> Field:
    if key.startswith("$"):
        if key not in _COLUMN_KEYS:
            known = ", ".join([*_COLUMN_KEYS, "$and", "$or", "$not"])
            raise InvalidFilter(
                f"{key!r:.80} is not a column or operator here; known are: {known}. A metadata key that begins with $ is written \\$"
            )
        return Column(_COLUMN_KEYS[key])
    parts, part, escaped = [], "", False
    for character in key:
        if escaped:
            part, escaped = part + character, False
        elif character == "\\":
            escaped = True
        elif character == ".":
            parts.append(part)
            part = ""
        else:
            part += character
    if escaped:
        raise InvalidFilter(f"the key {key!r:.80} ends with a single backslash; write \\\\ for a backslash")
    return Metadata(*parts, part)


def _conditions(field: Field, value: object, key: str, depth: int) -> Iterator[Filter]:
    if depth > MAX_DEPTH:
        raise InvalidFilter(f"the filter is nested deeper than {MAX_DEPTH} levels")
    if not isinstance(value, Mapping) or not any(isinstance(k, str) and k.startswith("$") for k in value):
        yield Eq(field, cast("JsonValue", value))
        return
    for name, operand in value.items():
        if name in OPERATORS:
            yield OPERATORS[name](field, operand)
        elif name == "$between":
            if isinstance(operand, str | bytes) or not isinstance(operand, Sequence) or len(operand) != 2:
                raise InvalidFilter(f"$between of {key!r:.80} takes a list of two values")
            yield Between(field, operand[0], operand[1])
        elif name in ("$exists", "$is_null"):
            if not isinstance(operand, bool):
                raise InvalidFilter(f"{name} of {key!r:.80} takes true or false")
            node: Filter = Exists(field) if name == "$exists" else IsNull(field)
            yield node if operand else Not(node)
        elif name == "$not":
            yield Not(And(*_conditions(field, operand, key, depth + 1)))
        else:
            known = ", ".join([*OPERATORS, *_SPECIAL])
            raise InvalidFilter(f"{name!r:.80} of {key!r:.80} is not an operator; known are: {known}")


def serialise(node: Filter) -> dict[str, Any]:
    """The wire form of a filter; ``parse`` gives an equal filter back."""
    match node:
        case And():
            return {"$and": [serialise(o) for o in node.operands]}
        case Or():
            return {"$or": [serialise(o) for o in node.operands]}
        case Not():
            return {"$not": serialise(node.operand)}
        case Between():
            return {_key(node.field): {"$between": [node.low, node.high]}}
        case Exists():
            return {_key(node.field): {"$exists": True}}
        case IsNull():
            return {_key(node.field): {"$is_null": True}}
        case In() | NotIn() | ContainsAny() | ContainsAll():
            return {_key(node.field): {_NAMES[type(node)]: list(node.values)}}
        case StartsWith() | EndsWith() | Like() | TextMatch():
            return {_key(node.field): {_NAMES[type(node)]: node.text}}
        case Eq() | Ne() | Gt() | Gte() | Lt() | Lte() | Contains():
            return {_key(node.field): {_NAMES[type(node)]: node.value}}


def _key(field: Field) -> str:
    if isinstance(field, Column):
        return f"${field.name}"
    parts = [re.sub(r"([.\\])", r"\\\1", part) for part in field.path]
    if parts[0].startswith("$"):
        parts[0] = "\\" + parts[0]
    return ".".join(parts)


assert set(get_args(Filter)) == {And, Or, Not, Between, Exists, IsNull, *_NAMES}, "a filter has no wire form"
