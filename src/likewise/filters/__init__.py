"""Filters: a closed tree of conditions on a record's columns and metadata, and its JSON wire form.

The meaning of every node is clause by clause in ``docs/contract.md``; the exact implementation is ``backends/memory``. In short:

* Values are typed. ``Eq`` and ``In`` compare JSON values: 1 equals 1.0, True is not 1, "1" is not 1.
* Ordering (``Gt``, ``Between`` …) compares numbers with numbers and text with text, by code point; other values do not match.
* A missing key matches nothing, ``Ne`` and ``NotIn`` included; ``Not`` is two-valued, so it matches exactly what its operand does not.

No backend enters this module; a new node is added here and then wherever the type checker says that it is missing.
"""

from likewise.filters.checking import check_filter
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
    FilterNode,
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
    Where,
)
from likewise.filters.wire import OPERATORS, parse, serialise

__all__ = [
    "OPERATORS",
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
    "check_filter",
    "parse",
    "serialise",
]
