"""What we say to PostgreSQL about records: every statement with its parameters, made by pure functions.

Searches set pgvector's dials inside the statement itself: ``(SELECT set_config(…, true)) IS NOT NULL`` is a condition without columns, which
the executor checks once, before the first row is read (a "one-time filter"). The settings last for the transaction, which in autocommit is
this one statement: one round trip, nothing for a pooled connection to forget. On a caller's own connection searches run in a
savepoint that is rolled back, which undoes the settings too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from psycopg import sql

from likewise.backends.postgres._ddl import index_rows, quantized
from likewise.backends.postgres._parameters import Parameters
from likewise.backends.postgres._recall import LEAST_EF_SEARCH, usual_ef_search
from likewise.backends.postgres._rows import BinaryParameter, pack_vector, pack_vectors
from likewise.backends.postgres._statements import Statement, make_statement, selected, where_clause
from likewise.backends.postgres._table import OPERATORS, Table, TableIndex, vector_column
from likewise.filters import Filter
from likewise.metrics import Metric
from likewise.records import IncludeField

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Leg", "compare", "default_dial", "estimate", "fused", "fusion_depth", "search", "search_many", "visit"]

MAX_EF_SEARCH = 1_000
#: How deep each leg of a fused search looks, and the constant of reciprocal rank fusion.
RRF_CONSTANT = 60
#: How many statements a table remembers; more come only from callers that never ask for the same ``top_k`` twice.
_MAX_TEXTS = 256
#: Filters that are longer as text (lists of many values) are composed each time.
_LONGEST_KEY = 4_000


def fusion_depth(top_k: int) -> int:
    """How many records each leg of a fused search ranks."""
    return max(100, 5 * top_k)


def search_settings(
    table: Table, index: TableIndex, top_k: int, dial: int | None, *, filtered: bool = False
) -> dict[str, str]:
    """pgvector's settings for one search by this index; ``dial`` is ``ef_search``, or IVFFlat's ``probes``."""
    settings: dict[str, str] = {}
    if index.method == "hnsw":
        usual = usual_ef_search(table.rows, filtered=filtered)
        wanted = dial or max(usual, _hundreds(top_k) if top_k > LEAST_EF_SEARCH else 0)
        if index.quantization == "binary":
            wanted = max(wanted, _hundreds(_candidates(index, top_k)))
        settings["hnsw.ef_search"] = str(min(MAX_EF_SEARCH, wanted))
        if table.extension.iterative_scan:
            settings["hnsw.iterative_scan"] = "relaxed_order"
            if top_k > 1_000:
                settings["hnsw.max_scan_tuples"] = str(20 * _hundreds(top_k))
    else:
        lists = int(index.options.get("lists", "100"))
        settings["ivfflat.probes"] = str(min(lists, dial or max(10, round(lists**0.5))))
        if table.extension.iterative_scan:
            settings["ivfflat.iterative_scan"] = "relaxed_order"
    return settings


def default_dial(table: Table, index: TableIndex, top_k: int) -> int:
    """The ef_search or probes of a search that does not say."""
    settings = search_settings(table, index, top_k, None)
    return int(settings["hnsw.ef_search" if index.method == "hnsw" else "ivfflat.probes"])


def _hundreds(count: int) -> int:
    """The count rounded up to hundreds, so that few different statements are made."""
    return -(-count // 100) * 100


def _candidates(index: TableIndex, top_k: int) -> int:
    """How many candidates an index that holds less than the vector gives to the exact re-ranking."""
    return {"none": top_k, "half": top_k + 10, "binary": max(200, 10 * top_k)}[index.quantization]


def _gate(settings: Mapping[str, str]) -> list[sql.Composable]:
    """The condition that makes the settings: literals, for they are our own numbers and part of the statement's shape."""
    if not settings:
        return []
    calls = [
        sql.SQL("set_config({}, {}, true)").format(sql.Literal(name), sql.Literal(value))
        for name, value in settings.items()
    ]
    return [sql.SQL("(SELECT {}) IS NOT NULL").format(sql.SQL(" || ").join(calls))]


def _nearest(
    table: Table,
    name: str,
    query: sql.Composable,
    top_k: int,
    where: Filter | None,
    parameters: Parameters,
    *,
    index: TableIndex | None,
    settings: Mapping[str, str],
    select: sql.Composable,
) -> sql.Composed:
    """The ``top_k`` nearest rows as a query with the columns ``select`` and ``distance``, nearest first."""
    field = table.spec.vector_fields[name]
    column = sql.Identifier(vector_column(name))
    operator = table.extension.operator(OPERATORS[Metric(field.metric)])
    distance = sql.SQL("({} {} {})").format(column, operator, query)
    present = [sql.SQL("{} IS NOT NULL").format(column)] if name else []
    # A literal: with a parameter here the planner would not know how few rows are wanted, and would plan each call anew.
    limit = sql.Literal(top_k)
    if index is None:
        # "+ 0" keeps the order off every index: all matching rows are compared. A sort copies every row that it is given, so it is given
        # ids alone, and the rows themselves are fetched for the nearest.
        return sql.SQL(
            "SELECT {}, nearest.distance FROM (SELECT id AS near, {} + 0 AS distance FROM {} {} ORDER BY distance LIMIT {})"
            " AS nearest JOIN {} AS found ON found.id = nearest.near ORDER BY nearest.distance, {}"
        ).format(
            select,
            distance,
            table.name,
            where_clause(table, where, parameters, *present),
            limit,
            table.name,
            table.order,
        )
    conditions = where_clause(table, where, parameters, *_gate(settings), *present)
    if index.quantization == "none":
        return sql.SQL("SELECT {}, {} AS distance FROM {} {} ORDER BY distance LIMIT {}").format(
            select, distance, table.name, conditions, limit
        )
    hamming = index.quantization == "binary"
    coarse = sql.SQL("{} {} {}").format(
        quantized(table, column, field, index.quantization),
        table.extension.operator("<~>") if hamming else operator,
        quantized(table, query, field, index.quantization),
    )
    return sql.SQL(
        "SELECT {}, {} AS distance FROM (SELECT * FROM {} {} ORDER BY {} LIMIT {}) AS candidates ORDER BY distance, {} LIMIT {}"
    ).format(
        select,
        distance,
        table.name,
        conditions,
        coarse,
        sql.Literal(_candidates(index, top_k)),
        table.order,
        limit,
    )


def search(
    table: Table,
    name: str,
    vector: NDArray[np.float32],
    *,
    top_k: int,
    where: Filter | None,
    include: frozenset[IncludeField],
    index: TableIndex | None,
    dial: int | None = None,
) -> Statement:
    """The nearest rows to one vector; exact without an index."""
    packed = pack_vector(vector, table.element(name))
    shape = (name, index.name if index else None, include, top_k, dial)
    if where is None and (known := table.texts.get(shape)):
        return Statement(known[0], {"query": packed}, known[1])
    parameters = Parameters()
    settings = search_settings(table, index, top_k, dial, filtered=where is not None) if index else {}
    query = parameters.add(packed, table.extension.type(table.element(name)), name="query")
    text = _nearest(
        table,
        name,
        query,
        top_k,
        where,
        parameters,
        index=index,
        settings=settings,
        select=selected(table, include),
    )
    if where is None:
        if len(table.texts) >= _MAX_TEXTS:
            table.texts.clear()
        table.texts[shape] = text.as_bytes(None), settings
    return make_statement(text, parameters, settings)


def estimate(table: Table, where: Filter) -> Statement:
    """What the server's planner thinks of a filter, as ``EXPLAIN`` has it, in the column ``QUERY PLAN``."""
    parameters = Parameters()
    text = sql.SQL("EXPLAIN (FORMAT JSON) SELECT FROM {} {}").format(table.name, where_clause(table, where, parameters))
    return make_statement(text, parameters)


def compare(
    table: Table,
    name: str,
    vector: NDArray[np.float32],
    *,
    top_k: int,
    where: Filter,
    include: frozenset[IncludeField],
    most: int,
) -> Statement:
    """The nearest of the matching rows, all of them compared, in the column ``matching`` how many they were.

    With ``most`` only so many are compared; that many in ``matching`` means that there may be more, and the rows are no answer.
    """
    packed = pack_vector(vector, table.element(name))
    shape = ("compare", name, include, top_k, most)

    def make(parameters: Parameters) -> sql.Composed:
        element = table.element(name)
        query = parameters.add(packed, table.extension.type(element), name="query")
        column = sql.Identifier(vector_column(name))
        operator = table.extension.operator(OPERATORS[Metric(table.spec.vector_fields[name].metric)])
        present = [sql.SQL("{} IS NOT NULL").format(column)] if name else []
        # Only ids and distances are gathered; the rows themselves are fetched for the nearest.
        return sql.SQL(
            "WITH matching AS MATERIALIZED (SELECT id, {} {} {} AS distance FROM {} {}{}),"
            " nearest AS (SELECT * FROM matching ORDER BY distance, {} LIMIT {})"
            " SELECT {}, nearest.distance, (SELECT count(*) FROM matching) AS matching"
            " FROM nearest JOIN {} AS t ON t.id = nearest.id"
        ).format(
            column,
            operator,
            query,
            table.name,
            where_clause(table, where, parameters, *present),
            sql.SQL(" LIMIT {}").format(sql.Literal(most)) if most else sql.SQL(""),
            table.order,
            sql.Literal(top_k),
            selected(table, include, "t"),
            table.name,
        )

    return _remembered(table, shape, where, packed, make, {})


def visit(
    table: Table,
    name: str,
    vector: NDArray[np.float32],
    *,
    top_k: int,
    where: Filter,
    include: frozenset[IncludeField],
    index: TableIndex,
    visits: int,
    dial: int | None = None,
) -> Statement:
    """The nearest of the matching rows among the first ``visits`` along the index. Fewer than ``top_k`` are no answer.

    The bound is a limit below the filter. pgvector's own bound (``max_scan_tuples``) is no use here: beyond it a scan hands out what it had
    put aside, near or not.
    """
    settings = search_settings(table, index, top_k, dial, filtered=True)
    if table.extension.iterative_scan and index.method == "hnsw":
        settings["hnsw.max_scan_tuples"] = str(max(20_000, 4 * visits))
    packed = pack_vector(vector, table.element(name))
    shape = ("visit", name, index.name, include, top_k, visits, dial)

    def make(parameters: Parameters) -> sql.Composed:
        field = table.spec.vector_fields[name]
        query = parameters.add(packed, table.extension.type(table.element(name)), name="query")
        column = sql.Identifier(vector_column(name))
        operator = table.extension.operator(OPERATORS[Metric(field.metric)])
        distance = sql.SQL("({} {} {})").format(column, operator, query)
        hamming = index.quantization == "binary"
        along = sql.SQL("{} {} {}").format(
            quantized(table, column, field, index.quantization),
            table.extension.operator("<~>") if hamming else operator,
            quantized(table, query, field, index.quantization),
        )
        rows = [] if index.where is None else [index_rows(table, index.where, beside=True)]
        gate = sql.SQL(" AND ").join([*_gate(settings), *rows])
        return sql.SQL(
            "SELECT {}, {} AS distance FROM (SELECT * FROM (SELECT * FROM {} WHERE {} ORDER BY {} LIMIT {}) AS visited {} LIMIT {})"
            " AS candidates ORDER BY distance, {} LIMIT {}"
        ).format(
            selected(table, include),
            distance,
            table.name,
            gate,
            along,
            sql.Literal(visits),
            where_clause(table, where, parameters, *([sql.SQL("{} IS NOT NULL").format(column)] if name else [])),
            sql.Literal(_candidates(index, top_k)),
            table.order,
            sql.Literal(top_k),
        )

    return _remembered(table, shape, where, packed, make, settings)


def _remembered(
    table: Table,
    shape: tuple[object, ...],
    where: Filter,
    packed: BinaryParameter,
    make: Callable[[Parameters], sql.Composed],
    settings: Mapping[str, str],
) -> Statement:
    """The statement, its text and the filter's parameters remembered: composing them costs as much as a small search."""
    key = (shape, repr(where))
    known = table.filtered.get(key)
    if known is None:
        parameters = Parameters()
        known = (make(parameters).as_bytes(None), parameters.values)
        if len(key[1]) <= _LONGEST_KEY:
            if len(table.filtered) >= _MAX_TEXTS:
                table.filtered.clear()
            table.filtered[key] = known
    text, values = known
    return Statement(text, {**values, "query": packed}, settings)


def search_many(
    table: Table,
    name: str,
    vectors: Sequence[NDArray[np.float32]],
    *,
    top_k: int,
    where: Filter | None,
    include: frozenset[IncludeField],
    index: TableIndex | None,
    dial: int | None = None,
) -> Statement:
    """The nearest rows to each of several vectors, in one statement; column ``query`` is the vector's place, from 1."""
    parameters = Parameters()
    element = table.element(name)
    settings = search_settings(table, index, top_k, dial, filtered=where is not None) if index else {}
    queries = parameters.add(
        pack_vectors(vectors, None, element, table.extension.oids[element]),
        sql.SQL("{}[]").format(table.extension.type(element)),
    )
    nearest = _nearest(
        table,
        name,
        sql.SQL("queries.vector_"),
        top_k,
        where,
        parameters,
        index=index,
        settings=settings,
        select=selected(table, include),
    )
    text = sql.SQL(
        "SELECT queries.query, nearest.* FROM unnest({}) WITH ORDINALITY AS queries(vector_, query) CROSS JOIN LATERAL ({}) AS nearest"
    ).format(queries, nearest)
    return make_statement(text, parameters, settings)


@dataclass(frozen=True, slots=True)
class Leg:
    """One ranking of a fused search."""

    name: str
    vector: NDArray[np.float32]
    weight: float
    index: TableIndex | None


def fused(
    table: Table,
    legs: Sequence[Leg],
    *,
    top_k: int,
    where: Filter | None,
    include: frozenset[IncludeField],
    ef_search: int | None,
) -> Statement:
    """Several rankings fused by reciprocal rank; the columns ``score`` and, for each leg, ``found_<n>``: how many rows it ranked."""
    parameters = Parameters()
    depth = fusion_depth(top_k)
    settings: dict[str, str] = {}
    for leg in legs:
        if leg.index is not None:
            settings |= search_settings(table, leg.index, depth, ef_search if leg.index.method == "hnsw" else None)
    parts: list[sql.Composable] = []
    ranks: list[sql.Composable] = []
    counts: list[sql.Composable] = []
    for number, leg in enumerate(legs):
        element = table.element(leg.name)
        query = parameters.add(pack_vector(leg.vector, element), table.extension.type(element))
        nearest = _nearest(
            table,
            leg.name,
            query,
            depth,
            where,
            parameters,
            index=leg.index,
            settings=settings if leg.index else {},
            select=sql.SQL("id"),
        )
        name = sql.Identifier(f"leg_{number}")
        parts.append(sql.SQL("{} AS MATERIALIZED ({})").format(name, nearest))
        ranks.append(
            sql.SQL("SELECT id, {}::float8 / ({} + row_number() OVER (ORDER BY distance, {})) AS part FROM {}").format(
                parameters.add(leg.weight), sql.Literal(RRF_CONSTANT), table.order, name
            )
        )
        counts.append(sql.SQL("(SELECT count(*) FROM {}) AS {}").format(name, sql.Identifier(f"found_{number}")))
    best = parameters.add(sum(leg.weight for leg in legs) / (RRF_CONSTANT + 1), sql.SQL("float8"))
    text = sql.SQL(
        "WITH {}, fused AS (SELECT id, sum(part) / {} AS score FROM ({}) AS ranks GROUP BY id ORDER BY score DESC, {} LIMIT {})"
        " SELECT {}, fused.score, {} FROM fused JOIN {} AS t ON t.id = fused.id ORDER BY fused.score DESC, fused.{}"
    ).format(
        sql.SQL(", ").join(parts),
        best,
        sql.SQL(" UNION ALL ").join(ranks),
        table.order,
        parameters.add(top_k, sql.SQL("bigint")),
        selected(table, include, "t"),
        sql.SQL(", ").join(counts),
        table.name,
        table.order,
    )
    return make_statement(text, parameters, settings)
