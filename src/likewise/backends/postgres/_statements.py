"""What we say to PostgreSQL about records: every statement with its parameters, made by pure functions.

Searches set pgvector's dials inside the statement itself: ``(SELECT set_config(…, true)) IS NOT NULL`` is a condition without columns, which
the executor checks once, before the first row is read (a "one-time filter"). The settings last for the transaction, which in autocommit is
this one statement: one round trip, nothing for a pooled connection to forget. On a caller's own connection searches run in a
savepoint that is rolled back, which undoes the settings too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from psycopg import sql

from likewise.abc.validation import Prepared
from likewise.backends.postgres._ddl import quantized
from likewise.backends.postgres._filters import compile_filter
from likewise.backends.postgres._parameters import Parameters
from likewise.backends.postgres._rows import pack_vector, pack_vectors
from likewise.backends.postgres._table import OPERATORS, Table, TableIndex, vector_column
from likewise.filters import Filter
from likewise.metrics import Metric
from likewise.records import IncludeField

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "Leg",
    "Statement",
    "count",
    "delete_ids",
    "delete_where",
    "existing_ids",
    "fused",
    "get_many",
    "move_staged",
    "sample_vectors",
    "scan",
    "search",
    "search_many",
    "stage_table",
    "staged_conflicts",
    "write",
]

#: Default ef_search: recall@10 of 0.95 and more at a few hundred thousand vectors.
DEFAULT_EF_SEARCH = 100
MAX_EF_SEARCH = 1_000
#: How deep each leg of a fused search looks, and the constant of reciprocal rank fusion.
RRF_CONSTANT = 60


def fusion_depth(top_k: int) -> int:
    """How many records each leg of a fused search ranks."""
    return max(100, 5 * top_k)


@dataclass(frozen=True, slots=True)
class Statement:
    """SQL with its bound parameters, and the settings that it makes for itself."""

    text: sql.Composed | bytes
    parameters: Mapping[str, Any]
    settings: Mapping[str, str]


def _statement(text: sql.Composed, parameters: Parameters, settings: Mapping[str, str] | None = None) -> Statement:
    return Statement(text, parameters.values, settings or {})


def _where(table: Table, where: Filter | None, parameters: Parameters, *more: sql.Composable) -> sql.Composable:
    conditions = list(more)
    if where is not None:
        conditions.append(compile_filter(where, parameters, lower_collation=table.server.lower_collation))
    if not conditions:
        return sql.SQL("")
    return sql.SQL("WHERE {}").format(sql.SQL(" AND ").join(conditions))


def _selected(table: Table, include: frozenset[IncludeField], prefix: str = "") -> sql.Composable:
    """The columns of a record, as far as they were asked for."""
    names = ["id"]
    if "metadata" in include:
        names.append("metadata")
    if "content" in include:
        names.append("content")
    if table.spec.multimodal:
        names += ["modality", "content_id"]
    if "vector" in include:
        names += [column for _, column, _ in table.vectors]
    return sql.SQL(", ").join([sql.Identifier(prefix, n) if prefix else sql.Identifier(n) for n in names])


# --- searching -----------------------------------------------------------------------------------------------------------------


def search_settings(table: Table, index: TableIndex, top_k: int, ef_search: int | None) -> dict[str, str]:
    """pgvector's dials for one search by this index."""
    settings: dict[str, str] = {}
    if index.method == "hnsw":
        wanted = ef_search or _hundreds(top_k)
        if index.quantization == "binary":
            wanted = max(wanted, _hundreds(_candidates(index, top_k)))
        settings["hnsw.ef_search"] = str(min(MAX_EF_SEARCH, wanted))
        if table.extension.iterative_scan:
            settings["hnsw.iterative_scan"] = "relaxed_order"
            if top_k > 1_000:
                settings["hnsw.max_scan_tuples"] = str(20 * _hundreds(top_k))
    else:
        lists = int(index.options.get("lists", "100"))
        settings["ivfflat.probes"] = str(min(lists, max(10, round(lists**0.5))))
        if table.extension.iterative_scan:
            settings["ivfflat.iterative_scan"] = "relaxed_order"
    return settings


def _hundreds(count: int) -> int:
    """The count rounded up to hundreds, so that few different statements are made; at least the default ef_search."""
    return max(DEFAULT_EF_SEARCH, -(-count // 100) * 100)


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
    prefix: str = "",
) -> sql.Composed:
    """The ``top_k`` nearest rows as a query with the columns ``select`` and ``distance``, nearest first."""
    field = table.spec.vector_fields[name]
    column = sql.Identifier(vector_column(name))
    operator = table.extension.operator(OPERATORS[Metric(field.metric)])
    distance = sql.SQL("({} {} {})").format(column, operator, query)
    present = [sql.SQL("{} IS NOT NULL").format(column)] if name else []
    limit = parameters.add(top_k, sql.SQL("bigint"), name=f"{prefix}top_k")
    if index is None:
        # "+ 0" keeps the order off every index: all matching rows are compared.
        conditions = _where(table, where, parameters, *present)
        return sql.SQL("SELECT {}, {} + 0 AS distance FROM {} {} ORDER BY distance, {} LIMIT {}").format(
            select, distance, table.name, conditions, table.order, limit
        )
    conditions = _where(table, where, parameters, *_gate(settings), *present)
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
        parameters.add(_candidates(index, top_k), sql.SQL("bigint"), name=f"{prefix}candidates"),
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
    ef_search: int | None = None,
) -> Statement:
    """The nearest rows to one vector; exact without an index."""
    parameters = Parameters()
    settings = search_settings(table, index, top_k, ef_search) if index else {}
    packed = pack_vector(vector, table.element(name))
    shape = (name, index.name if index else None, include, *settings.values())
    if where is None and (known := table.texts.get(shape)):
        values: dict[str, Any] = {"query": packed, "top_k": top_k}
        if index is not None and index.quantization != "none":
            values["candidates"] = _candidates(index, top_k)
        return Statement(known, values, settings)
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
        select=_selected(table, include),
    )
    if where is None:
        table.texts[shape] = text.as_bytes(None)
    return _statement(text, parameters, settings)


def search_many(
    table: Table,
    name: str,
    vectors: Sequence[NDArray[np.float32]],
    *,
    top_k: int,
    where: Filter | None,
    include: frozenset[IncludeField],
    index: TableIndex | None,
    ef_search: int | None = None,
) -> Statement:
    """The nearest rows to each of several vectors, in one statement; column ``query`` is the vector's place, from 1."""
    parameters = Parameters()
    element = table.element(name)
    settings = search_settings(table, index, top_k, ef_search) if index else {}
    queries = parameters.add(
        pack_vectors(vectors, element, table.extension.oids[element]),
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
        select=_selected(table, include),
    )
    text = sql.SQL(
        "SELECT queries.query, nearest.* FROM unnest({}) WITH ORDINALITY AS queries(vector_, query) CROSS JOIN LATERAL ({}) AS nearest"
    ).format(queries, nearest)
    return _statement(text, parameters, settings)


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
            settings |= search_settings(table, leg.index, depth, ef_search)
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
            prefix=f"leg_{number}_",
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
        _selected(table, include, "t"),
        sql.SQL(", ").join(counts),
        table.name,
        table.order,
    )
    return _statement(text, parameters, settings)


def sample_vectors(table: Table, name: str, sample: int) -> Statement:
    """Stored vectors drawn at random, in the column ``vector``."""
    parameters = Parameters()
    text = sql.SQL("SELECT {0} AS vector FROM {1} WHERE {0} IS NOT NULL ORDER BY random() LIMIT {2}").format(
        sql.Identifier(vector_column(name)), table.name, parameters.add(sample, sql.SQL("bigint"))
    )
    return _statement(text, parameters)


# --- reading -------------------------------------------------------------------------------------------------------------------


def get_many(table: Table, ids: Sequence[str], include: frozenset[IncludeField]) -> Statement:
    """Rows by id, in the order of the ids."""
    parameters = Parameters()
    text = sql.SQL(
        "SELECT {} FROM unnest({}) WITH ORDINALITY AS wanted(id, place) JOIN {} AS t ON t.id = wanted.id ORDER BY wanted.place"
    ).format(_selected(table, include, "t"), parameters.add(list(ids), sql.SQL("text[]")), table.name)
    return _statement(text, parameters)


def count(table: Table, where: Filter | None) -> Statement:
    """How many rows match."""
    parameters = Parameters()
    text = sql.SQL("SELECT count(*) AS count FROM {} {}").format(table.name, _where(table, where, parameters))
    return _statement(text, parameters)


def scan(
    table: Table, where: Filter | None, *, after: str | None, limit: int, include: frozenset[IncludeField]
) -> Statement:
    """A page of rows after an id, one row more than the limit if there are more."""
    parameters = Parameters()
    more = []
    if after is not None:
        more.append(sql.SQL("{} > {}").format(table.order, parameters.add(after, sql.SQL("text"))))
    text = sql.SQL("SELECT {} FROM {} {} ORDER BY {} LIMIT {}").format(
        _selected(table, include),
        table.name,
        _where(table, where, parameters, *more),
        table.order,
        parameters.add(limit + 1, sql.SQL("bigint")),
    )
    return _statement(text, parameters)


# --- writing -------------------------------------------------------------------------------------------------------------------


def _written(table: Table) -> list[str]:
    columns = ["id", *(column for _, column, _ in table.vectors), "metadata", "content"]
    return columns + (["modality", "content_id"] if table.spec.multimodal else [])


def write(table: Table, batch: Sequence[Prepared], *, replace: bool, stage: str | None = None) -> Statement:
    """Writes rows from arrays, one parameter a column, in the order of ids so that two writers cannot wait for each other.

    With ``stage`` the rows go to that temporary table, in the order given. Ids must be distinct otherwise.
    """
    parameters = Parameters()
    text = sql.SQL("text[]")
    arrays = [parameters.add([r.id for r in batch], text)]
    for name, _, element in table.vectors:
        packed = pack_vectors((r.vectors.get(name) for r in batch), element, table.extension.oids[element])
        arrays.append(parameters.add(packed, sql.SQL("{}[]").format(table.extension.type(element))))
    arrays.append(parameters.add([r.metadata_json for r in batch], sql.SQL("text[]::jsonb[]")))
    arrays.append(parameters.add([r.content for r in batch], text))
    if table.spec.multimodal:
        arrays.append(parameters.add([r.modality for r in batch], text))
        arrays.append(parameters.add([r.content_id for r in batch], text))
    columns = sql.SQL(", ").join([sql.Identifier(c) for c in _written(table)])
    source = sql.SQL("SELECT {0} FROM unnest({1}) AS given({0})").format(columns, sql.SQL(", ").join(arrays))
    if stage is not None:
        return _statement(
            sql.SQL("INSERT INTO {} ({}) {}").format(sql.Identifier("pg_temp", stage), columns, source), parameters
        )
    return _statement(
        sql.SQL("INSERT INTO {} ({}) {} ORDER BY {}{}").format(
            table.name, columns, source, table.order, _on_conflict(table) if replace else sql.SQL("")
        ),
        parameters,
    )


def _on_conflict(table: Table) -> sql.Composable:
    assignments = [sql.SQL("{0} = excluded.{0}").format(sql.Identifier(c)) for c in _written(table) if c != "id"]
    return sql.SQL(" ON CONFLICT (id) DO UPDATE SET {}").format(sql.SQL(", ").join(assignments))


def stage_table(table: Table, stage: str) -> tuple[Statement, Statement]:
    """A temporary table with the collection's columns and the place of each row, gone at the end of the transaction."""
    name = sql.Identifier("pg_temp", stage)
    columns = sql.SQL(", ").join([sql.Identifier(c) for c in _written(table)])
    create = sql.SQL(
        "CREATE TEMPORARY TABLE {} ON COMMIT DROP AS SELECT {}, 0::bigint AS place FROM {} WITH NO DATA"
    ).format(name, columns, table.name)
    number = sql.SQL(
        "ALTER TABLE {} ALTER COLUMN place SET NOT NULL, ALTER COLUMN place ADD GENERATED ALWAYS AS IDENTITY"
    ).format(name)
    return _statement(create, Parameters()), _statement(number, Parameters())


def move_staged(table: Table, stage: str, *, replace: bool) -> Statement:
    """Moves the staged rows into the collection in the order of ids; with ``replace`` the last row of an id wins."""
    columns = sql.SQL(", ").join([sql.Identifier(c) for c in _written(table)])
    distinct = sql.SQL("DISTINCT ON ({}) ").format(table.order) if replace else sql.SQL("")
    latest = sql.SQL(", place DESC") if replace else sql.SQL("")
    return _statement(
        sql.SQL("INSERT INTO {} ({}) SELECT {}{} FROM {} ORDER BY {}{}{}").format(
            table.name,
            columns,
            distinct,
            columns,
            sql.Identifier("pg_temp", stage),
            table.order,
            latest,
            _on_conflict(table) if replace else sql.SQL(""),
        ),
        Parameters(),
    )


def staged_conflicts(table: Table, stage: str) -> Statement:
    """Ids that are staged twice, or are in the collection already."""
    name = sql.Identifier("pg_temp", stage)
    return _statement(
        sql.SQL(
            "SELECT id FROM (SELECT id FROM {0} GROUP BY id HAVING count(*) > 1 UNION SELECT t.id FROM {1} AS t JOIN {0} AS s ON s.id = t.id)"
            " AS known ORDER BY {2} LIMIT 100"
        ).format(name, table.name, table.order),
        Parameters(),
    )


def existing_ids(table: Table, ids: Sequence[str]) -> Statement:
    """Those of the ids that are in the collection."""
    parameters = Parameters()
    return _statement(
        sql.SQL("SELECT id FROM {} WHERE id = ANY ({}) ORDER BY {}").format(
            table.name, parameters.add(list(ids), sql.SQL("text[]")), table.order
        ),
        parameters,
    )


def delete_ids(table: Table, ids: Sequence[str]) -> Statement:
    """Deletes rows by id, locking them in the order of ids."""
    parameters = Parameters()
    return _delete(
        table, sql.SQL("WHERE id = ANY ({})").format(parameters.add(list(ids), sql.SQL("text[]"))), parameters
    )


def delete_where(table: Table, where: Filter) -> Statement:
    """Deletes the rows that match, locking them in the order of ids."""
    parameters = Parameters()
    return _delete(table, _where(table, where, parameters), parameters)


def _delete(table: Table, conditions: sql.Composable, parameters: Parameters) -> Statement:
    return _statement(
        sql.SQL("DELETE FROM {0} WHERE id IN (SELECT id FROM {0} {1} ORDER BY {2} FOR UPDATE)").format(
            table.name, conditions, table.order
        ),
        parameters,
    )
