"""The nodes of the filter tree: a closed union, checked as they are made. What each means is in ``docs/contract.md``."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

from likewise._json import MAX_DEPTH, JsonScalar, JsonValue, normalise, text_problem
from likewise.errors import InvalidFilter

__all__ = [
    "And",
    "Between",
    "Column",
    "Contains",
    "ContainsAll",
    "ContainsAny",
    "EndsWith",
    "Eq",
    "Exists",
    "Field",
    "Filter",
    "FilterNode",
    "Gt",
    "Gte",
    "In",
    "IsNull",
    "Like",
    "Lt",
    "Lte",
    "Metadata",
    "Ne",
    "Not",
    "NotIn",
    "Or",
    "StartsWith",
    "TextMatch",
    "Where",
]

#: The most conditions one filter may hold, and the most values of an In or ContainsAny.
MAX_NODES = 5_000
MAX_VALUES = 100_000


class _FieldOperators:
    """``Metadata("price") < 100`` and the like."""

    __slots__ = ()

    def __lt__(self, value: float | str) -> Lt:
        return Lt(cast("Field", self), value)

    def __le__(self, value: float | str) -> Lte:
        return Lte(cast("Field", self), value)

    def __gt__(self, value: float | str) -> Gt:
        return Gt(cast("Field", self), value)

    def __ge__(self, value: float | str) -> Gte:
        return Gte(cast("Field", self), value)


@dataclass(frozen=True, slots=True, init=False, eq=False)
class Metadata(_FieldOperators):
    """A value in the metadata by its path of keys: ``Metadata("address", "city")``. Keys lead through objects, never into lists."""

    path: tuple[str, ...]

    def __init__(self, *path: str) -> None:
        if not path:
            raise InvalidFilter("Metadata() needs at least one key")
        if len(path) > MAX_DEPTH:
            raise InvalidFilter(f"a metadata path has {len(path)} keys; at most {MAX_DEPTH} are allowed")
        for key in path:
            if not isinstance(key, str):
                raise InvalidFilter(
                    f"a metadata key is text, not {type(key).__name__}; lists cannot be indexed in a filter"
                )
            if problem := text_problem(key):
                raise InvalidFilter(f"a metadata key {problem}")
        object.__setattr__(self, "path", path)

    def __eq__(self, other: object) -> Any:
        """``Metadata("a") == 1`` is ``Eq``; two fields compare as values."""
        return self.path == other.path if isinstance(other, Metadata) else _equal(self, other)

    def __ne__(self, other: object) -> Any:
        return self.path != other.path if isinstance(other, Metadata) else _not_equal(self, other)

    def __hash__(self) -> int:
        return hash(self.path)


@dataclass(frozen=True, slots=True, eq=False)
class Column(_FieldOperators):
    """A column of the collection: ``id`` and ``content`` always, ``modality`` and ``content_id`` in multimodal collections."""

    name: str

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise InvalidFilter(f"a column's name is text, not {type(self.name).__name__}")

    def __eq__(self, other: object) -> Any:
        """``Column("id") == "a"`` is ``Eq``; two fields compare as values."""
        return self.name == other.name if isinstance(other, Column) else _equal(self, other)

    def __ne__(self, other: object) -> Any:
        return self.name != other.name if isinstance(other, Column) else _not_equal(self, other)

    def __hash__(self) -> int:
        return hash(self.name)


Field: TypeAlias = Metadata | Column


def _equal(field: Field, value: object) -> Eq | bool:
    return False if isinstance(value, Metadata | Column | FilterNode) else Eq(field, cast("JsonValue", value))


def _not_equal(field: Field, value: object) -> Ne | bool:
    return True if isinstance(value, Metadata | Column | FilterNode) else Ne(field, cast("JsonValue", value))


class FilterNode:
    """What all filters share: ``&``, ``|`` and ``~``. The members are listed in ``Filter``."""

    __slots__ = ()

    def __and__(self, other: Filter) -> And:
        return And(*_flat(And, self), *_flat(And, other))

    def __or__(self, other: Filter) -> Or:
        return Or(*_flat(Or, self), *_flat(Or, other))

    def __invert__(self) -> Filter:
        return self.operand if isinstance(self, Not) else Not(cast("Filter", self))

    def __bool__(self) -> bool:
        raise TypeError("a filter has no truth value: combine filters with & and |, and write a < x < b as Between")


def _flat(kind: type[And] | type[Or], node: object) -> Sequence[Filter]:
    if isinstance(node, And | Or) and type(node) is kind:
        return node.operands
    return (_operand(node),)


def _operand(node: object) -> Filter:
    if not isinstance(node, FilterNode):
        raise InvalidFilter(f"expected a filter, got {type(node).__name__}")
    return cast("Filter", node)


def _field(value: object) -> None:
    if not isinstance(value, Metadata | Column):
        raise InvalidFilter(f"a condition is on Metadata(…) or Column(…), not on {type(value).__name__}")


def _value(value: object) -> JsonValue:
    try:
        return normalise(value, where="the value of a filter")
    except ValueError as error:
        raise InvalidFilter(str(error)) from error


def _values(values: object, what: str) -> tuple[JsonValue, ...]:
    if isinstance(values, str | bytes | Mapping) or not isinstance(values, Sequence | set | frozenset):
        raise InvalidFilter(f"{what} takes a list of values, not {type(values).__name__}")
    if len(values) > MAX_VALUES:
        raise InvalidFilter(f"{what} has {len(values):,} values; at most {MAX_VALUES:,} are allowed")
    return tuple(_value(v) for v in values)


def _text(value: object, what: str) -> str:
    if not isinstance(value, str):
        raise InvalidFilter(f"{what} takes text, not {type(value).__name__}")
    if problem := text_problem(value):
        raise InvalidFilter(f"the text of {what} {problem}")
    return value


@dataclass(frozen=True, slots=True)
class _Equality(FilterNode):
    field: Field
    value: JsonValue

    def __post_init__(self) -> None:
        _field(self.field)
        object.__setattr__(self, "value", _value(self.value))


class Eq(_Equality):
    """The field holds this JSON value."""

    __slots__ = ()


class Ne(_Equality):
    """The field is there and holds another JSON value."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class _Membership(FilterNode):
    field: Field
    values: Sequence[JsonValue]

    def __post_init__(self) -> None:
        _field(self.field)
        object.__setattr__(self, "values", _values(self.values, type(self).__name__))


class In(_Membership):
    """The field holds one of these JSON values."""

    __slots__ = ()


class NotIn(_Membership):
    """The field is there and holds none of these JSON values."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class _Ordering(FilterNode):
    field: Field
    value: float | str

    def __post_init__(self) -> None:
        _field(self.field)
        object.__setattr__(self, "value", _bound(self.value, type(self).__name__))


def _bound(value: object, what: str) -> float | str:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise InvalidFilter(f"{what} compares with a number or text, not with {type(value).__name__}")
    return cast("float | str", _value(value))


class Gt(_Ordering):
    """The field is greater: a number than a number, or text than text by code point."""

    __slots__ = ()


class Gte(_Ordering):
    """The field is greater or equal."""

    __slots__ = ()


class Lt(_Ordering):
    """The field is less: a number than a number, or text than text by code point."""

    __slots__ = ()


class Lte(_Ordering):
    """The field is less or equal."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Between(FilterNode):
    """The field is at least ``low`` and at most ``high``; both numbers, or both text."""

    field: Field
    low: float | str
    high: float | str

    def __post_init__(self) -> None:
        _field(self.field)
        low, high = _bound(self.low, "Between"), _bound(self.high, "Between")
        if isinstance(low, str) is not isinstance(high, str):
            raise InvalidFilter("Between takes two numbers or two texts, not one of each")
        object.__setattr__(self, "low", low)
        object.__setattr__(self, "high", high)


@dataclass(frozen=True, slots=True)
class Exists(FilterNode):
    """The key is there, whatever its value (null too); a column is not null."""

    field: Field

    def __post_init__(self) -> None:
        _field(self.field)


@dataclass(frozen=True, slots=True)
class IsNull(FilterNode):
    """The key is there and its value is null; a column is null."""

    field: Field

    def __post_init__(self) -> None:
        _field(self.field)


def _element(value: object, what: str) -> JsonScalar:
    element = _value(value)
    if isinstance(element, list | dict):
        raise InvalidFilter(
            f"{what} looks for text, numbers, true, false or null in a list, not for {type(value).__name__}"
        )
    return element


@dataclass(frozen=True, slots=True)
class Contains(FilterNode):
    """The field is a list with this element."""

    field: Metadata
    value: JsonScalar

    def __post_init__(self) -> None:
        _list_field(self.field, "Contains")
        object.__setattr__(self, "value", _element(self.value, "Contains"))


def _list_field(field: object, what: str) -> None:
    _field(field)
    if isinstance(field, Column):
        raise InvalidFilter(f"{what} looks into lists, and the column {field.name!r} holds text: use TextMatch or Like")


@dataclass(frozen=True, slots=True)
class _Containment(FilterNode):
    field: Metadata
    values: Sequence[JsonScalar]

    def __post_init__(self) -> None:
        what = type(self).__name__
        _list_field(self.field, what)
        object.__setattr__(self, "values", tuple(_element(v, what) for v in _values(self.values, what)))


class ContainsAny(_Containment):
    """The field is a list with at least one of these elements."""

    __slots__ = ()


class ContainsAll(_Containment):
    """The field is a list with all of these elements."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class _TextCondition(FilterNode):
    field: Field
    text: str

    def __post_init__(self) -> None:
        _field(self.field)
        object.__setattr__(self, "text", _text(self.text, type(self).__name__))


class StartsWith(_TextCondition):
    """The field is text that begins so."""

    __slots__ = ()


class EndsWith(_TextCondition):
    """The field is text that ends so."""

    __slots__ = ()


class Like(_TextCondition):
    r"""The field is text of this SQL pattern: ``%`` is any text, ``_`` one character, ``\`` takes the next one as it is."""

    __slots__ = ()

    def __post_init__(self) -> None:
        _TextCondition.__post_init__(self)
        if re.search(r"(?<!\\)(?:\\\\)*\\\Z", self.text):
            raise InvalidFilter("a Like pattern must not end with its escape character \\; write \\\\ for a backslash")


class TextMatch(_TextCondition):
    """The field is text in which every word of ``text`` occurs, as a part of a word too, whatever its case."""

    __slots__ = ()

    @property
    def words(self) -> tuple[str, ...]:
        """The words asked for: what white space (as in ASCII) separates."""
        return tuple(w for w in re.split(r"[ \t\n\r\f\v]+", self.text) if w)


@dataclass(frozen=True, slots=True, init=False)
class And(FilterNode):
    """All of the conditions hold; with none, everything matches."""

    operands: tuple[Filter, ...]

    def __init__(self, *operands: Filter) -> None:
        object.__setattr__(self, "operands", tuple(_operand(o) for o in operands))


@dataclass(frozen=True, slots=True, init=False)
class Or(FilterNode):
    """At least one of the conditions holds; with none, nothing matches."""

    operands: tuple[Filter, ...]

    def __init__(self, *operands: Filter) -> None:
        object.__setattr__(self, "operands", tuple(_operand(o) for o in operands))


@dataclass(frozen=True, slots=True)
class Not(FilterNode):
    """The condition does not hold. Two-valued: a record that lacks the key does not match the condition, and so matches Not."""

    operand: Filter

    def __post_init__(self) -> None:
        _operand(self.operand)


Filter: TypeAlias = (
    Eq | Ne | In | NotIn | Gt | Gte | Lt | Lte | Between | Exists | IsNull | Contains | ContainsAny | ContainsAll
    | StartsWith | EndsWith | Like | TextMatch | And | Or | Not
)  # fmt: skip

#: What ``where=`` takes: a filter, its wire form, or nothing.
Where: TypeAlias = "Filter | Mapping[str, Any] | None"
