"""Compiles filters to SQL conditions with bound parameters. Pure; the meaning of each node is in ``docs/contract.md``.

Equality and membership are written as containment (``metadata @> …``), which a GIN index answers; containment of a scalar at a path is
exactly typed equality. Comparisons are between jsonb values of one type, so that no cast can fail on an odd row. A missing key gives
NULL, which a WHERE treats as false; ``Not`` makes it false before it negates.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import assert_never

from psycopg import sql

from likewise._json import JsonValue, dumps
from likewise.backends.postgres._parameters import Parameters, own_sql
from likewise.filters import (
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

__all__ = ["compile_filter", "lower_simple"]

_JSONB = sql.SQL("jsonb")
_TEXT = sql.SQL("text")
_TEXTS = sql.SQL("text[]")
#: Above this many values an In is compared with an array rather than spelled out for the GIN index.
_SPELLED_OUT = 16


def lower_simple(text: str) -> str:
    """Lower case by single code points, as PostgreSQL's ``pg_c_utf8`` does it."""
    return "".join(low if len(low := c.lower()) == 1 else c for c in text)


def compile_filter(node: Filter, parameters: Parameters, *, lower_collation: str | None) -> sql.Composable:
    """The condition as SQL over the columns ``id``, ``content``, ``metadata`` … of one table.

    ``lower_collation`` is the collation whose ``lower()`` knows all of Unicode (``pg_c_utf8`` from PostgreSQL 17 on), None if the
    database's own does.
    """
    compiler = _Compiler(parameters, lower_collation)
    return compiler.compile(node)


class _Compiler:
    def __init__(self, parameters: Parameters, lower_collation: str | None) -> None:
        self._add = parameters.add
        self._lower_collation = lower_collation

    def compile(self, node: Filter) -> sql.Composable:
        match node:
            case And():
                return self._join(" AND ", node.operands, "true")
            case Or():
                return self._join(" OR ", node.operands, "false")
            case Not():
                return sql.SQL("(NOT coalesce({}, false))").format(self.compile(node.operand))
            case Eq():
                return self._equal(node.field, node.value)
            case Ne():
                if isinstance(node.field, Column):
                    return sql.SQL("({} <> {})").format(self._column(node.field), self._add(node.value))
                return sql.SQL("({} <> {})").format(self._value(node.field), self._add(dumps(node.value), _JSONB))
            case In():
                return self._in(node)
            case NotIn():
                if isinstance(node.field, Column):
                    return sql.SQL("({0} IS NOT NULL AND {0} <> ALL ({1}))").format(
                        self._column(node.field), self._add(list(node.values), _TEXTS)
                    )
                values = self._add([dumps(v) for v in node.values], sql.SQL("text[]::jsonb[]"))
                # An empty list would be true for a missing key as well.
                return sql.SQL("({0} IS NOT NULL AND {0} <> ALL ({1}))").format(self._value(node.field), values)
            case Gt():
                return self._compare(node.field, ">", node.value)
            case Gte():
                return self._compare(node.field, ">=", node.value)
            case Lt():
                return self._compare(node.field, "<", node.value)
            case Lte():
                return self._compare(node.field, "<=", node.value)
            case Between():
                low, high = self._compare(node.field, ">=", node.low), self._compare(node.field, "<=", node.high)
                return sql.SQL("({} AND {})").format(low, high)
            case Exists():
                if isinstance(node.field, Column):
                    return sql.SQL("({} IS NOT NULL)").format(self._column(node.field))
                if len(node.field.path) == 1:
                    return sql.SQL("(metadata ? {})").format(self._add(node.field.path[0], _TEXT))
                return sql.SQL("({} IS NOT NULL)").format(self._value(node.field))
            case IsNull():
                if isinstance(node.field, Column):
                    return sql.SQL("({} IS NULL)").format(self._column(node.field))
                return self._contains(node.field, None)
            case Contains():
                return self._contains(node.field, [node.value])
            case ContainsAny():
                return self._any([self._contains(node.field, [v]) for v in node.values])
            case ContainsAll():
                return self._contains(node.field, list(node.values))
            case StartsWith():
                return self._on_text(
                    node.field, lambda text: sql.SQL("starts_with({}, {})").format(text, self._add(node.text, _TEXT))
                )
            case EndsWith():
                return self._on_text(
                    node.field,
                    lambda text: sql.SQL("right({}, {}) = {}").format(
                        text, self._add(len(node.text), sql.SQL("int")), self._add(node.text, _TEXT)
                    ),
                )
            case Like():
                return self._on_text(
                    node.field,
                    lambda text: sql.SQL('({}) COLLATE "C" LIKE {}').format(text, self._add(node.text, _TEXT)),
                )
            case TextMatch():
                return self._text_match(node)
        assert_never(node)

    def _join(self, operator: str, operands: Sequence[Filter], empty: str) -> sql.Composable:
        if not operands:
            return own_sql(empty)
        return sql.SQL("({})").format(own_sql(operator).join([self.compile(o) for o in operands]))

    def _any(self, conditions: Sequence[sql.Composable]) -> sql.Composable:
        return sql.SQL("({})").format(sql.SQL(" OR ").join(conditions)) if conditions else sql.SQL("false")

    def _column(self, field: Column) -> sql.Composable:
        return sql.Identifier(field.name)

    def _value(self, field: Metadata) -> sql.Composable:
        """The jsonb value at the path, NULL where there is none. The arrow with a text key enters objects only."""
        steps = [sql.SQL("metadata"), *(self._add(key, _TEXT) for key in field.path)]
        return sql.SQL("({})").format(sql.SQL(" -> ").join(steps))

    def _contains(self, field: Metadata, value: JsonValue) -> sql.Composable:
        """The value at the path contains this one; for a scalar: equals it."""
        for key in reversed(field.path):
            value = {key: value}
        return sql.SQL("(metadata @> {})").format(self._add(dumps(value), _JSONB))

    def _equal(self, field: Field, value: JsonValue) -> sql.Composable:
        if isinstance(field, Column):
            return sql.SQL("({} = {})").format(self._column(field), self._add(value, _TEXT))
        contains = self._contains(field, value)
        if not isinstance(value, list | dict):
            return contains
        return sql.SQL("({} AND {} = {})").format(contains, self._value(field), self._add(dumps(value), _JSONB))

    def _in(self, node: In) -> sql.Composable:
        if isinstance(node.field, Column):
            return sql.SQL("({} = ANY ({}))").format(self._column(node.field), self._add(list(node.values), _TEXTS))
        if len(node.values) <= _SPELLED_OUT:
            return self._any([self._equal(node.field, v) for v in node.values])
        values = self._add([dumps(v) for v in node.values], sql.SQL("text[]::jsonb[]"))
        return sql.SQL("({} = ANY ({}))").format(self._value(node.field), values)

    def _compare(self, field: Field, operator: str, bound: float | str) -> sql.Composable:
        symbol = own_sql(operator)
        if isinstance(bound, str):
            return self._on_text(
                field, lambda text: sql.SQL('({}) COLLATE "C" {} {}').format(text, symbol, self._add(bound, _TEXT))
            )
        assert isinstance(field, Metadata), "check_filter refuses numbers for text columns"
        return sql.SQL("(jsonb_typeof({0}) = 'number' AND {0} {1} {2})").format(
            self._value(field), symbol, self._add(dumps(bound), _JSONB)
        )

    def _on_text(self, field: Field, condition: Callable[[sql.Composable], sql.Composable]) -> sql.Composable:
        """The condition on the field's text, false where the field is not text."""
        if isinstance(field, Column):
            return sql.SQL("({})").format(condition(self._column(field)))
        value = self._value(field)
        text = sql.SQL("({} #>> '{{}}')").format(value)
        return sql.SQL("(jsonb_typeof({}) = 'string' AND {})").format(value, condition(text))

    def _text_match(self, node: TextMatch) -> sql.Composable:
        def condition(text: sql.Composable) -> sql.Composable:
            if not node.words:
                return sql.SQL("({} IS NOT NULL)").format(text)
            if self._lower_collation is None:
                lowered = sql.SQL("lower({})").format(text)
            else:
                lowered = sql.SQL("lower(({}) COLLATE {})").format(
                    text, sql.Identifier("pg_catalog", self._lower_collation)
                )
            return sql.SQL(" AND ").join(
                [
                    sql.SQL('strpos({} COLLATE "C", {}) > 0').format(lowered, self._add(lower_simple(w), _TEXT))
                    for w in node.words
                ]
            )

        return self._on_text(node.field, condition)
