"""What the contract is tried with: hostile texts, values of every JSON type, and which of them each filter matches."""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from likewise.filters import (
    And,
    Between,
    Contains,
    ContainsAll,
    ContainsAny,
    EndsWith,
    Eq,
    Exists,
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

__all__ = [
    "BAD_METADATA",
    "BAD_VECTORS",
    "HOSTILE_TEXTS",
    "TRUTH",
    "UNSTORABLE_TEXTS",
    "VALUES",
    "nested",
]

#: Texts that mean something to SQL, to Python's formatting, to LIKE, to JSON or to nobody.
HOSTILE_TEXTS: tuple[str, ...] = (
    "it's",
    'q"q',
    "%s",
    "%(a)s",
    "{0}",
    "{}",
    "; drop table x; --",
    "'; drop table x; --",
    "back\\slash",
    "\\",
    "\\x41",
    "$1",
    "$$",
    ":name",
    "?",
    "/* */",
    "%",
    "_",
    " ",
    " both ends ",
    "a\nb\tc\r",
    "\x01\x7f",
    "null",
    "true",
    "NaN",
    "é",
    "e\u0301",
    "İstanbul",
    "😀",
    "\uffff",
    "\U0010ffff",
    "\u202eright to left",
    "a.b",
    "[0]",
    "$.a",
)

#: Texts that cannot be stored: PostgreSQL's text holds neither.
UNSTORABLE_TEXTS: tuple[str, ...] = ("a\x00b", "a\ud800b")

#: Vectors of two numbers that no collection takes, whatever its metric.
BAD_VECTORS: tuple[Any, ...] = (
    [math.nan, 1.0],
    [1.0, math.inf],
    [-math.inf, 1.0],
    [1e39, 1.0],
    [10**400, 1],
    [1e18, 1.0],
    ["1", "2"],
    "12",
    [True, False],
    [None, 1.0],
    [[1.0, 2.0]],
    [1.0, [2.0]],
    5.0,
    {0: 1.0, 1: 2.0},
    [1j, 2.0],
)


def nested(depth: int) -> Any:
    """A list in a list in a list, so many deep."""
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


#: Metadata that JSON, or PostgreSQL's jsonb, cannot hold.
BAD_METADATA: tuple[Any, ...] = (
    {"a": math.nan},
    {"a": [1, -math.inf]},
    {1: "a"},
    {"a": {None: 1}},
    {"a": datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)},
    {"a": b"bytes"},
    {"a": {1, 2}},
    {"a": object()},
    {"a": nested(10_000)},
    {"a": 10**1_000},
    {"a": "\x00"},
    {"\x00": 1},
    {"a": ["\ud800"]},
    ["a"],
    "a",
    None,
)

#: Records by id with the value of their key ``v``; ``missing`` has no such key.
VALUES: Mapping[str, Any] = {
    "missing": ...,
    "null": None,
    "true": True,
    "false": False,
    "zero": 0,
    "one": 1,
    "one_float": 1.0,
    "one_half": 1.5,
    "minus": -2,
    "tenth": 0.1,
    "big": 2**60 + 1,
    "huge": 10**300,
    "t_one": "1",
    "t_empty": "",
    "t_a": "a",
    "t_A": "A",
    "t_ab": "ab",
    "t_percent": "a%b",
    "t_back": "a\\b",
    "t_line": "a\nb",
    "t_acute": "é",
    "t_ACUTE": "STRAßE É",
    "t_last": "\uffff",
    "t_face": "😀b",
    "l_empty": [],
    "l_one": [1],
    "l_t_one": ["1"],
    "l_two": [1.0, 2, "a"],
    "l_null": [None],
    "l_true": [True],
    "l_nested": [[1]],
    "l_object": [{"w": 1}],
    "o_empty": {},
    "o_one": {"w": 1},
    "o_float": {"w": 1.0},
    "o_more": {"w": 1, "x": None},
    "o_deep": {"w": {"w": [1]}},
}

Cases: TypeAlias = Sequence[tuple[Filter, str]]

V = Metadata("v")
W = Metadata("v", "w")
_ALL = " ".join(VALUES)
_NUMBERS = "zero one one_float one_half minus tenth big huge"
_TEXTS = "t_one t_empty t_a t_A t_ab t_percent t_back t_line t_acute t_ACUTE t_last t_face"
_LISTS = "l_empty l_one l_t_one l_two l_null l_true l_nested l_object"


def _but(names: str, without: str) -> str:
    assert set(without.split()) <= set(names.split())
    return " ".join(name for name in names.split() if name not in without.split())


_THERE = _but(_ALL, "missing")

#: For each kind of filter: filters, and the ids of the records of ``VALUES`` that match.
TRUTH: Mapping[str, Cases] = {
    "eq": [
        (Eq(V, 1), "one one_float"),
        (Eq(V, 1.0), "one one_float"),
        (Eq(V, True), "true"),
        (Eq(V, False), "false"),
        (Eq(V, 0), "zero"),
        (Eq(V, -0.0), "zero"),
        (Eq(V, 0.1), "tenth"),
        (Eq(V, 2**60 + 1), "big"),
        (Eq(V, 2**60), ""),
        (Eq(V, float(2**60)), ""),
        (Eq(V, 10**300), "huge"),
        (Eq(V, "1"), "t_one"),
        (Eq(V, ""), "t_empty"),
        (Eq(V, "a"), "t_a"),
        (Eq(V, "😀b"), "t_face"),
        (Eq(V, None), "null"),
        (Eq(V, []), "l_empty"),
        (Eq(V, [1]), "l_one"),
        (Eq(V, [1, 2.0, "a"]), "l_two"),
        (Eq(V, ["a", 1, 2]), ""),
        (Eq(V, {}), "o_empty"),
        (Eq(V, {"w": 1}), "o_one o_float"),
        (Eq(V, {"x": None, "w": 1.0}), "o_more"),
        (Eq(V, {"w": {"w": [1]}}), "o_deep"),
    ],
    "ne": [
        (Ne(V, 1), _but(_THERE, "one one_float")),
        (Ne(V, True), _but(_THERE, "true")),
        (Ne(V, None), _but(_THERE, "null")),
        (Ne(V, "a"), _but(_THERE, "t_a")),
        (Ne(V, []), _but(_THERE, "l_empty")),
        (Ne(V, {"w": 1}), _but(_THERE, "o_one o_float")),
        (Ne(W, 5), "o_one o_float o_more o_deep"),
    ],
    "in": [
        (In(V, [1, "a", None]), "one one_float t_a null"),
        (In(V, [[1], {}]), "l_one o_empty"),
        (In(V, [True, 0]), "true zero"),
        (In(V, []), ""),
        (In(V, list(range(-100, 100))), "zero one one_float minus"),
        (In(V, [*"bcdefghijklmnopqrstuvwxyz", "a", [1], {"w": 1}]), "t_a l_one o_one o_float"),
        (NotIn(V, [1, "a", None]), _but(_THERE, "one one_float t_a null")),
        (NotIn(V, [[1], {}]), _but(_THERE, "l_one o_empty")),
        (NotIn(V, []), _THERE),
        (NotIn(Metadata("no"), []), ""),
        (NotIn(V, list(range(-100, 100))), _but(_THERE, "zero one one_float minus")),
    ],
    "order": [
        (Gt(V, 1), "one_half big huge"),
        (Gte(V, 1), "one one_float one_half big huge"),
        (Lt(V, 1), "zero minus tenth"),
        (Lte(V, 1.0), "zero one one_float minus tenth"),
        (Lte(V, 0.1), "zero minus tenth"),
        (Gt(V, float(2**60)), "big huge"),
        (Gte(V, 2**60 + 1), "big huge"),
        (Gt(V, 2**60 + 1), "huge"),
        (Gt(V, 1e299), "huge"),
        (Gt(V, -(10**300)), _NUMBERS),
        (Gt(V, "a"), "t_ab t_percent t_back t_line t_acute t_last t_face"),
        (Gte(V, "a"), "t_a t_ab t_percent t_back t_line t_acute t_last t_face"),
        (Gte(V, ""), _TEXTS),
        (Lt(V, ""), ""),
        (Lt(V, "a"), "t_one t_empty t_A t_ACUTE"),
        (Lte(V, "a"), "t_one t_empty t_A t_ACUTE t_a"),
        (Gt(V, "\uffff"), "t_face"),
        (Lt(V, "\uffff"), _but(_TEXTS, "t_last t_face")),
    ],
    "between": [
        (Between(V, 0, 1), "zero one one_float tenth"),
        (Between(V, 1, 1), "one one_float"),
        (Between(V, 1, 0), ""),
        (Between(V, "a", "ab"), "t_a t_ab t_percent t_back t_line"),
        (Between(V, "b", "a"), ""),
        (Between(V, "", "\U0010ffff"), _TEXTS),
    ],
    "exists": [
        (Exists(V), _THERE),
        (Exists(W), "o_one o_float o_more o_deep"),
        (Exists(Metadata("v", "x")), "o_more"),
        (Exists(Metadata("no")), ""),
        (IsNull(V), "null"),
        (IsNull(Metadata("v", "x")), "o_more"),
        (IsNull(Metadata("no")), ""),
        (Not(Exists(V)), "missing"),
        (Not(IsNull(V)), _but(_ALL, "null")),
    ],
    "contains": [
        (Contains(V, 1), "l_one l_two"),
        (Contains(V, 2.0), "l_two"),
        (Contains(V, "1"), "l_t_one"),
        (Contains(V, "a"), "l_two"),
        (Contains(V, None), "l_null"),
        (Contains(V, True), "l_true"),
        (ContainsAny(V, [1, "1"]), "l_one l_t_one l_two"),
        (ContainsAny(V, [None, True, 9]), "l_null l_true"),
        (ContainsAny(V, []), ""),
        (ContainsAll(V, [1, 2]), "l_two"),
        (ContainsAll(V, [1, 1]), "l_one l_two"),
        (ContainsAll(V, [1, "1"]), ""),
        (ContainsAll(V, []), _LISTS),
        (Contains(Metadata("v", "w", "w"), 1), "o_deep"),
    ],
    "affixes": [
        (StartsWith(V, "a"), "t_a t_ab t_percent t_back t_line"),
        (StartsWith(V, "a%"), "t_percent"),
        (StartsWith(V, "😀"), "t_face"),
        (StartsWith(V, ""), _TEXTS),
        (EndsWith(V, "b"), "t_ab t_percent t_back t_line t_face"),
        (EndsWith(V, "\nb"), "t_line"),
        (EndsWith(V, "\\b"), "t_back"),
        (EndsWith(V, "é"), "t_acute"),
        (EndsWith(V, ""), _TEXTS),
        (EndsWith(V, "longer than all of them"), ""),
    ],
    "like": [
        (Like(V, "a"), "t_a"),
        (Like(V, "A"), "t_A"),
        (Like(V, "%"), _TEXTS),
        (Like(V, ""), "t_empty"),
        (Like(V, "_"), "t_one t_a t_A t_acute t_last"),
        (Like(V, "__"), "t_ab t_face"),
        (Like(V, "a_b"), "t_percent t_back t_line"),
        (Like(V, "a%b"), "t_ab t_percent t_back t_line"),
        (Like(V, r"a\%b"), "t_percent"),
        (Like(V, r"a\\b"), "t_back"),
        (Like(V, r"\a\b"), "t_ab"),
        (Like(V, r"a\_b"), ""),
        (Like(V, "%É"), "t_ACUTE"),
        (Like(V, "%%_%b"), "t_ab t_percent t_back t_line t_face"),
    ],
    "text_match": [
        (TextMatch(V, "A"), "t_a t_A t_ab t_percent t_back t_line t_ACUTE"),
        (TextMatch(V, "b a"), "t_ab t_percent t_back t_line"),
        (TextMatch(V, "É"), "t_acute t_ACUTE"),
        (TextMatch(V, "straße é"), "t_ACUTE"),
        (TextMatch(V, "STRASSE"), ""),
        (TextMatch(V, "%"), "t_percent"),
        (TextMatch(V, "_"), ""),
        (TextMatch(V, "\\"), "t_back"),
        (TextMatch(V, ""), _TEXTS),
        (TextMatch(V, " \t\n"), _TEXTS),
        (TextMatch(V, "1"), "t_one"),
    ],
    "logic": [
        (And(), _ALL),
        (Or(), ""),
        (Not(And()), ""),
        (Not(Or()), _ALL),
        (And(Gt(V, 0), Lt(V, 1.2)), "one one_float tenth"),
        (Or(Eq(V, 1), Eq(V, "1"), Eq(V, None)), "one one_float t_one null"),
        (And(Eq(V, 1)), "one one_float"),
        (Not(Eq(V, 1)), _but(_ALL, "one one_float")),
        (Not(Ne(V, 1)), "missing one one_float"),
        (Not(Gt(V, 0)), _but(_ALL, "one one_float one_half tenth big huge")),
        (Not(Not(Gt(V, 1))), "one_half big huge"),
        (Not(In(V, [])), _ALL),
        (Not(NotIn(V, [])), "missing"),
        (Not(Contains(V, 1)), _but(_ALL, "l_one l_two")),
        (Not(Like(V, "%")), _but(_ALL, _TEXTS)),
        (Not(TextMatch(V, "a")), _but(_ALL, "t_a t_A t_ab t_percent t_back t_line t_ACUTE")),
        (Not(And(Exists(V), Not(Eq(W, 1)))), "missing o_one o_float o_more"),
        (Or(Not(Exists(V)), And(Gte(V, "é"), Not(Lt(V, "😀")))), "missing t_face"),
    ],
    "paths": [
        (Eq(W, 1), "o_one o_float o_more"),
        (Eq(Metadata("v", "w", "w"), [1]), "o_deep"),
        (Exists(Metadata("v", "0")), ""),
        (Eq(Metadata("v", "0"), 1), ""),
        (Eq(Metadata("v", "w", "w", "0"), 1), ""),
        (Exists(Metadata("v.w")), ""),
        (Ne(Metadata("v", ""), 1), ""),
    ],
}
