"""Checks a filter against a collection before any backend sees it: its depth, its size, its columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from likewise._json import MAX_DEPTH
from likewise.errors import InvalidFilter
from likewise.filters.nodes import (
    MAX_NODES,
    And,
    Between,
    Column,
    Eq,
    Filter,
    FilterNode,
    Gt,
    Gte,
    In,
    Lt,
    Lte,
    Ne,
    Not,
    NotIn,
    Or,
    Where,
)
from likewise.filters.wire import parse

__all__ = ["check_filter"]


def check_filter(where: Where, columns: Sequence[str]) -> Filter | None:
    """The filter to run: parsed if it came in wire form, its depth, size and columns checked. ``InvalidFilter`` otherwise."""
    if where is None:
        return None
    root = parse(where) if isinstance(where, Mapping) else _root(where)
    level: list[Filter] = [root]
    depth = nodes = 0
    while level:
        depth += 1
        nodes += len(level)
        if depth > MAX_DEPTH:
            raise InvalidFilter(
                f"the filter is nested deeper than {MAX_DEPTH} levels; And and Or take any number of conditions"
            )
        if nodes > MAX_NODES:
            raise InvalidFilter(f"the filter has more than {MAX_NODES:,} conditions; use In for a long list of values")
        below: list[Filter] = []
        for node in level:
            if isinstance(node, And | Or):
                below.extend(node.operands)
            elif isinstance(node, Not):
                below.append(node.operand)
            elif isinstance(node.field, Column):
                _check_column(node, node.field.name, columns)
        level = below
    return root


def _root(where: object) -> Filter:
    if not isinstance(where, FilterNode):
        raise InvalidFilter(
            f"where is a {type(where).__name__}; it must be a filter, its wire form (a mapping), or None"
        )
    return cast("Filter", where)


def _check_column(node: Filter, column: str, columns: Sequence[str]) -> None:
    if column not in columns:
        raise InvalidFilter(
            f"there is no column {column!r:.80}; the columns are: {', '.join(columns)}. For metadata use Metadata(…)"
        )
    operands: Sequence[object] = ()
    match node:
        case Eq() | Ne() | Gt() | Gte() | Lt() | Lte():
            operands = (node.value,)
        case In() | NotIn():
            operands = node.values
        case Between():
            operands = (node.low, node.high)
        case _:
            pass
    for operand in operands:
        if not isinstance(operand, str):
            hint = "; use IsNull" if operand is None else ""
            raise InvalidFilter(
                f"the column {column!r} holds text and cannot be compared with {type(operand).__name__}{hint}"
            )
