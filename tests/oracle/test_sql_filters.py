"""A filter given to SQL matches what it matches in the exact backend, and what Python refuses SQL refuses."""

from __future__ import annotations

import json
import random
import secrets
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import sql

import likewise
from likewise import Collection, CollectionSpec, InvalidFilter
from likewise.filters import serialise
from oracle.generate import KEYS, SCALARS, Generator

#: Words of the wire form, in places where they belong and where they do not.
WORDS = [
    *("$and", "$or", "$not", "$id", "$content", "$modality", "$content_id", "$eq", "$ne", "$in", "$nin", "$gt", "$gte", "$lt", "$lte"),
    *("$between", "$exists", "$is_null", "$contains", "$contains_any", "$contains_all", "$starts_with", "$ends_with", "$like"),
    *("$text_match", "$", "$nonsense", "a\\", "a\\.b", "\\$x", ".", "..a"),
]  # fmt: skip


class SqlFilters:
    """One collection's rows by the condition that SQL makes of a filter."""

    def __init__(self, connection: psycopg.Connection[Any], name: str, *, multimodal: bool) -> None:
        self._connection = connection
        self._table = sql.Identifier("public", name)
        self._multimodal = multimodal

    def ids(self, wire: object) -> list[str] | None:
        """Those that match, None if the filter is refused."""
        try:
            with self._connection.transaction():
                found = self._connection.execute(
                    "select likewise.filter_condition(%s::jsonb, %s)", (json.dumps(wire), self._multimodal)
                ).fetchone()
        except psycopg.errors.InvalidParameterValue:
            return None
        assert found is not None
        with self._connection.transaction():
            self._connection.execute("set local search_path = pg_catalog, pg_temp")
            query = sql.SQL('select t.id from {} as t where {} order by t.id collate "C"').format(
                self._table, sql.SQL(found[0])
            )
            return [row[0] for row in self._connection.execute(query.as_bytes(self._connection)).fetchall()]


def datasets(url: str, seed: int, count: int) -> Iterator[tuple[Generator, Collection, SqlFilters]]:
    """Collections of random records, each in the exact backend and in PostgreSQL."""
    with likewise.connect(url) as tested, likewise.connect("memory://") as oracle:
        for number in range(count):
            generator = Generator(seed + number, multimodal=number % 2 == 0)
            spec = CollectionSpec(f"sql_random_{number}", dimension=3, multimodal=generator.multimodal)
            records = generator.records(60)
            collection, truth = tested.ensure_collection(spec), oracle.ensure_collection(spec)
            collection.upsert(records)
            truth.upsert(records)
            if number % 3:
                collection.ensure_indexes()
            with psycopg.connect(url) as connection:
                connection.execute(
                    "select set_config('standard_conforming_strings', %s, false)", (str(number % 4 < 3),)
                )
                yield generator, truth, SqlFilters(connection, spec.name, multimodal=generator.multimodal)
            tested.drop_collection(spec.name)


def truly(truth: Collection, wire: Any) -> list[str] | None:
    """The ids that the exact backend finds, None if it refuses the filter."""
    if not isinstance(wire, dict):
        return None
    try:
        return [record.id for record in truth.scan(wire, limit=100, include=())]
    except InvalidFilter:
        return None


@pytest.mark.slow
@pytest.mark.parametrize(("server", "filters"), [("database_url", 500), ("database_16_url", 125)])
def test_random_filters_match_the_same_records(server: str, filters: int, request: pytest.FixtureRequest) -> None:
    seed = secrets.randbits(32)
    print(f"seed {seed}")
    for generator, truth, tested in datasets(request.getfixturevalue(server), seed, 8):
        for _ in range(filters):
            wire = serialise(generator.filter())
            assert tested.ids(wire) == truly(truth, wire), f"seed {seed}: {json.dumps(wire)}"


def altered(wire: Any, draw: random.Random) -> Any:
    """The wire form with something in it exchanged for something else, which may still be well-formed."""
    if draw.random() < 0.25 or not isinstance(wire, dict | list) or not wire:
        return draw.choice(
            [None, draw.choice(SCALARS), [], {}, [draw.choice(SCALARS)], {draw.choice(WORDS): draw.choice(SCALARS)}, [wire, wire], {"$not": wire}]
        )  # fmt: skip
    if isinstance(wire, list):
        at = draw.randrange(len(wire))
        return [altered(item, draw) if i == at else item for i, item in enumerate(wire)]
    chosen = draw.choice(list(wire))
    if draw.random() < 0.5:
        return {draw.choice([*WORDS, *KEYS]) if key == chosen else key: value for key, value in wire.items()}
    return {key: altered(value, draw) if key == chosen else value for key, value in wire.items()}


@pytest.mark.slow
@pytest.mark.parametrize(("server", "filters"), [("database_url", 600), ("database_16_url", 150)])
def test_altered_filters_are_refused_by_both_or_mean_the_same(
    server: str, filters: int, request: pytest.FixtureRequest
) -> None:
    seed = secrets.randbits(32)
    print(f"seed {seed}")
    refused = accepted = 0
    for generator, truth, tested in datasets(request.getfixturevalue(server), seed, 4):
        for _ in range(filters):
            wire = altered(serialise(generator.filter()), generator.random)
            wanted = truly(truth, wire)
            assert tested.ids(wire) == wanted, f"seed {seed}: {json.dumps(wire)}"
            refused += wanted is None
            accepted += wanted is not None
    assert min(refused, accepted) >= filters, "the test draws both kinds"


def nested(levels: int, key: str, innermost: Any) -> Any:
    for _ in range(levels):
        innermost = [innermost] if key == "[]" else {key: [innermost] if key in ("$and", "$or") else innermost}
    return innermost


#: Forms at the bounds: the last that is taken and the first that is not.
BOUNDS = [
    *({"a": nested(levels, "[]", 1)} for levels in (64, 65)),
    *({"a": {"$in": [nested(levels, "x", 1)]}} for levels in (64, 65)),
    *({"a": {"$not": {"$eq": nested(levels, "[]", 1)}}} for levels in (64, 65)),
    *(nested(levels, "$and", {"a": 1}) for levels in (62, 63, 64, 65)),
    *(nested(levels, "$not", {"a": 1}) for levels in (62, 63, 64, 65)),
    *(nested(levels, "$not", {"a": 1, "b": 1}) for levels in (61, 62, 63)),
    *({"a": nested(levels, "$not", {"$gt": 1})} for levels in (30, 31, 32, 33, 63, 64)),
    *({".".join(["a"] * keys): 1} for keys in (64, 65)),
    *({"$or": [{"a": n} for n in range(count)]} for count in (4_999, 5_000)),
    *({"a": {"$nin": list(range(count))}} for count in (100_000, 100_001)),
    *({"a": {"$gt": number}} for number in (2**3300 - 1, 2**3300, -(2**3300))),
    *({"a": {"$eq": {"b": [number]}}} for number in (2**3300 - 1, 2**3300)),
    {},
    {"": 1},
    {"a": {"$exists": True, "$is_null": False, "$not": {"$eq": 1}}},
    {"a": {"x": 1, "$gt": 1}},
    {"$content": {"$is_null": True}},
    {"$content": None},
    {"$id": {"$contains": "a"}},
    {"a": {"$between": [1, "b"]}},
    {"a": {"$between": [1, True]}},
    {"a": {"$like": "\\\\\\"}},
    {"a": {"$like": "\\\\"}},
    {"a": {"$gt": None}},
    {"a": {"$contains": [1]}},
]


@pytest.mark.slow
@pytest.mark.parametrize("server", ["database_url", "database_16_url"])
def test_the_bounds_are_the_same(server: str, request: pytest.FixtureRequest) -> None:
    for _, truth, tested in datasets(request.getfixturevalue(server), 1, 2):
        for wire in BOUNDS:
            assert tested.ids(wire) == truly(truth, wire), json.dumps(wire)[:200]


@pytest.mark.parametrize(
    ("wire", "complaint"),
    [
        ([], "filter: must be an object such as .*, not a list"),
        (None, "filter: must be an object such as .*, not null"),
        ({"$or": [{"a": 1}, {"price": {"$gt": [1]}}]}, r"filter\.\$or\[1\]\.price\.\$gt: compares with a number or text, not with a list"),
        ({"a": {"$regex": "x"}}, r"filter\.a\.\$regex: is not an operator; known are: \$eq, "),
        ({"$where": 1}, r"filter\.\$where: is not a column or operator here; known are: \$id, .* is written \\\$"),
        ({"$modality": "text"}, r"filter\.\$modality: there is no such column, for the collection is not multimodal"),
        ({"$id": 5}, r"filter\.\$id\.\$eq: the column holds text and cannot be compared with a number"),
        ({"$id": None}, r"cannot be compared with null; use \$is_null"),
        ({"a": {"$exists": 1}}, r"filter\.a\.\$exists: takes true or false, not a number"),
        ({"a": {"$like": "x\\"}}, r"filter\.a\.\$like: a pattern must not end with its escape character"),
        ({"a\\": 1}, r"filter\.a\\: the key ends with a single backslash"),
    ],
)  # fmt: skip
def test_a_refusal_says_where_and_what_to_do(database_url: str, wire: object, complaint: str) -> None:
    with likewise.connect(database_url) as store:
        store.ensure_collection(CollectionSpec("refusals", dimension=3))
        with pytest.raises(psycopg.errors.InvalidParameterValue, match=complaint), store.transaction() as connection:
            connection.execute("select likewise.filter_condition(%s::jsonb, false)", (json.dumps(wire),))
        store.drop_collection("refusals")


def test_no_filter_is_no_condition(database_url: str) -> None:
    with likewise.connect(database_url) as store:
        store.ensure_collection(CollectionSpec("unfiltered", dimension=3))
        with store.transaction() as connection:
            assert connection.execute("select likewise.filter_condition(null, false)").fetchone() == (None,)
        store.drop_collection("unfiltered")
