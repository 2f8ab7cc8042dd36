"""What we say to PostgreSQL about records: statements that read and write, with their parameters, made by pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import sql
from psycopg.types.json import Jsonb

from likewise.abc.blocks import Block
from likewise.abc.sources import LoadMark
from likewise.backends.postgres._filters import compile_filter
from likewise.backends.postgres._install import resource
from likewise.backends.postgres._parameters import Parameters, own_sql
from likewise.backends.postgres._rows import pack_vectors
from likewise.backends.postgres._table import Table, storage_clauses, vector_column
from likewise.calibration import Calibration
from likewise.filters import Filter
from likewise.records import IncludeField

__all__ = [
    "Statement",
    "copy",
    "count",
    "count_up_to",
    "delete_ids",
    "delete_where",
    "drop_index",
    "embedded",
    "existing_ids",
    "get_many",
    "load_mark",
    "lock",
    "make_statement",
    "may_copy",
    "move_staged",
    "position",
    "rebuildable",
    "sample_records",
    "sample_vectors",
    "save_mark",
    "scan",
    "selected",
    "set_calibration",
    "stage_table",
    "staged_conflicts",
    "where_clause",
    "write",
    "written",
]


@dataclass(frozen=True, slots=True)
class Statement:
    """SQL with its bound parameters, and the settings that it makes for itself."""

    text: sql.Composed | bytes
    parameters: Mapping[str, Any]
    settings: Mapping[str, str]


def make_statement(text: sql.Composed, parameters: Parameters, settings: Mapping[str, str] | None = None) -> Statement:
    return Statement(text, parameters.values, settings or {})


def where_clause(table: Table, where: Filter | None, parameters: Parameters, *more: sql.Composable) -> sql.Composable:
    conditions = list(more)
    if where is not None:
        conditions.append(compile_filter(where, parameters, lower_collation=table.server.lower_collation))
    if not conditions:
        return sql.SQL("")
    return sql.SQL("WHERE {}").format(sql.SQL(" AND ").join(conditions))


def selected(table: Table, include: frozenset[IncludeField], prefix: str = "") -> sql.Composable:
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


# --- reading -------------------------------------------------------------------------------------------------------------------


def get_many(table: Table, ids: Sequence[str], include: frozenset[IncludeField]) -> Statement:
    """Rows by id, in no order, for which the server needs half as long again. The text is remembered: composing it costs as much as the search."""
    shape = ("get_many", include)
    if known := table.texts.get(shape):
        return Statement(known[0], {"ids": list(ids)}, known[1])
    parameters = Parameters()
    text = sql.SQL("SELECT {} FROM {} WHERE id = ANY ({})").format(
        selected(table, include), table.name, parameters.add(list(ids), sql.SQL("text[]"), name="ids")
    )
    table.texts[shape] = text.as_bytes(None), {}
    return make_statement(text, parameters)


def embedded(table: Table, ids: Sequence[str]) -> Statement:
    """The own vectors of some rows that a model made, with the digests of what it made them from."""
    parameters = Parameters()
    text = sql.SQL("SELECT id, embedded, vector FROM {} WHERE id = ANY ({}) AND embedded IS NOT NULL").format(
        table.name, parameters.add(list(ids), sql.SQL("text[]"))
    )
    return make_statement(text, parameters)


def count(table: Table, where: Filter | None, *, most: int = 0) -> Statement:
    """How many rows match; with ``most`` it counts no further than that."""
    parameters = Parameters()
    conditions = where_clause(table, where, parameters)
    if most:
        counted = sql.SQL("(SELECT FROM {} {} LIMIT {}) AS matching").format(table.name, conditions, sql.Literal(most))
    else:
        counted = sql.SQL("{} {}").format(table.name, conditions)
    return make_statement(sql.SQL("SELECT count(*) AS count FROM {}").format(counted), parameters)


def scan(
    table: Table, where: Filter | None, *, after: str | None, limit: int, include: frozenset[IncludeField]
) -> Statement:
    """A page of rows after an id, one row more than the limit if there are more."""
    parameters = Parameters()
    more = []
    if after is not None:
        more.append(sql.SQL("{} > {}").format(table.order, parameters.add(after, sql.SQL("text"))))
    text = sql.SQL("SELECT {} FROM {} {} ORDER BY {} LIMIT {}").format(
        selected(table, include),
        table.name,
        where_clause(table, where, parameters, *more),
        table.order,
        parameters.add(limit + 1, sql.SQL("bigint")),
    )
    return make_statement(text, parameters)


def position(table: Table) -> Statement:
    """How far the database is, as ``following`` counts."""
    flushed = "pg_catalog.pg_logical_emit_message(false, 'likewise.position', '', true)"
    if table.server.version < 170_000:
        flushed = (
            "case when set_config('synchronous_commit', 'local', true) <> ''"
            " then pg_catalog.pg_logical_emit_message(true, 'likewise.position', '') end"
        )
    return Statement(sql.Composed([own_sql(resource("position.sql").replace("@flushed@", flushed))]), {}, {})


def sample_vectors(table: Table, name: str, sample: int) -> Statement:
    """Stored vectors drawn at random, in the column ``vector``, with their ids."""
    parameters = Parameters()
    text = sql.SQL("SELECT id, {0} AS vector FROM {1} WHERE {0} IS NOT NULL ORDER BY random() LIMIT {2}").format(
        sql.Identifier(vector_column(name)), table.name, parameters.add(sample, sql.SQL("bigint"))
    )
    return make_statement(text, parameters)


def sample_records(table: Table, count: int, where: Filter | None) -> Statement:
    """Records drawn at random, with their own vectors."""
    parameters = Parameters()
    text = sql.SQL("SELECT {} FROM {} {} ORDER BY random() LIMIT {}").format(
        selected(table, frozenset({"vector"})),
        table.name,
        where_clause(table, where, parameters),
        parameters.add(count, sql.SQL("bigint")),
    )
    return make_statement(text, parameters)


def set_calibration(table: Table, calibration: Calibration | None) -> Statement:
    """Stores another calibration in the registry, or none."""
    value = None if calibration is None else calibration.to_dict()
    text = sql.Composed([own_sql(resource("set_calibration.sql"))])
    return Statement(text, {"schema": table.schema, "name": table.spec.name, "calibration": Jsonb(value)}, {})


# --- writing -------------------------------------------------------------------------------------------------------------------


def written(table: Table) -> list[str]:
    """The columns that are written, in order."""
    columns = ["id", *(column for _, column, _ in table.vectors), "metadata", "content"]
    columns += ["modality", "content_id"] if table.spec.multimodal else []
    return columns + (["embedded"] if table.embedded else [])


def _column_list(table: Table, prefix: str = "") -> sql.Composable:
    return sql.SQL(", ").join([sql.Identifier(prefix, c) if prefix else sql.Identifier(c) for c in written(table)])


def write(table: Table, block: Block, *, replace: bool) -> Statement:
    """Writes rows from arrays, one parameter a column, in the order of ids so that two writers cannot wait for each other.

    The ids must be distinct.
    """
    parameters = Parameters()
    text = sql.SQL("text[]")
    arrays = [parameters.add(list(block.ids), text)]
    for name, _, element in table.vectors:
        packed = pack_vectors(block.vectors[name], block.missing.get(name), element, table.extension.oids[element])
        arrays.append(parameters.add(packed, sql.SQL("{}[]").format(table.extension.type(element))))
    arrays.append(parameters.add(list(block.metadata), sql.SQL("text[]::jsonb[]")))
    arrays.append(parameters.add(list(block.content), text))
    if table.spec.multimodal:
        arrays.append(parameters.add(list(block.modality or ()), text))
        arrays.append(parameters.add(list(block.content_id or ()), text))
    if table.embedded:
        arrays.append(parameters.add(list(block.embedded or [None] * len(block)), sql.SQL("bytea[]")))
    columns = _column_list(table)
    return make_statement(
        sql.SQL("INSERT INTO {0} ({1}) SELECT {1} FROM unnest({2}) AS given({1}) ORDER BY {3}{4}").format(
            table.name,
            columns,
            sql.SQL(", ").join(arrays),
            table.order,
            _on_conflict(table) if replace else sql.SQL(""),
        ),
        parameters,
    )


def _on_conflict(table: Table) -> sql.Composable:
    assignments = [sql.SQL("{0} = excluded.{0}").format(sql.Identifier(c)) for c in written(table) if c != "id"]
    return sql.SQL(" ON CONFLICT (id) DO UPDATE SET {}").format(sql.SQL(", ").join(assignments))


def copy(table: Table, *, stage: str | None = None) -> sql.Composed:
    """Receives rows as ``_copy`` packs them, into the table or into a stage."""
    return sql.SQL("COPY {} ({}) FROM STDIN (FORMAT binary)").format(
        sql.Identifier("pg_temp", stage) if stage else table.name, _column_list(table)
    )


def lock(table: Table, *, readers: bool) -> sql.Composed:
    """Keeps other writers off the table, and with ``readers`` everybody, until the transaction ends; an error if that cannot be at once."""
    mode = sql.SQL("ACCESS EXCLUSIVE") if readers else sql.SQL("SHARE ROW EXCLUSIVE")
    return sql.SQL("LOCK TABLE {} IN {} MODE NOWAIT").format(table.name, mode)


def may_copy(table: Table) -> Statement:
    """Whether rows may be copied straight into the table: it is empty, and no policies about rows stand in the way."""
    return make_statement(
        sql.SQL("SELECT NOT EXISTS (SELECT FROM {}) AND NOT row_security_active({}::regclass) AS empty").format(
            table.name, sql.Literal(table.name.as_string(None))
        ),
        Parameters(),
    )


def drop_index(table: Table, name: str) -> sql.Composed:
    """Drops an index, to build it again after a load."""
    return sql.SQL("DROP INDEX {}").format(sql.Identifier(table.schema, name))


def count_up_to(table: Table, most: int) -> Statement:
    """How many rows there are, counted no further than ``most``: the server's own estimate may be hours old."""
    parameters = Parameters()
    text = sql.SQL("SELECT count(*) AS count FROM (SELECT FROM {} LIMIT {}) AS counted")
    return make_statement(text.format(table.name, parameters.add(most, sql.SQL("bigint"))), parameters)


def load_mark(table: Table, token: str) -> Statement:
    """How far the load of a token is."""
    text = sql.Composed([own_sql(resource("load_mark.sql"))])
    return Statement(text, {"schema": table.schema, "name": table.spec.name, "token": token}, {})


def save_mark(table: Table, token: str, before: LoadMark | None, after: LoadMark) -> Statement:
    """Stores how far a load is, if it is still where it was."""
    text = sql.Composed([own_sql(resource("load_begin.sql" if before is None else "load_go_on.sql"))])
    parameters = {
        "schema": table.schema,
        "name": table.spec.name,
        "token": token,
        "before": None if before is None else before.position,
        "position": after.position,
        "last_id": after.last_id,
        "finished": after.finished,
    }
    return Statement(text, parameters, {})


def rebuildable(table: Table) -> Statement:
    """The vector indexes that a load may drop and build again, with what builds them."""
    text = sql.Composed([own_sql(resource("rebuildable.sql"))])
    return Statement(text, {"schema": table.schema, "name": table.spec.name}, {})


def stage_table(table: Table, stage: str) -> tuple[Statement, Statement]:
    """A temporary table with the collection's columns and the place of each row, gone at the end of the transaction."""
    name = sql.Identifier("pg_temp", stage)
    create = sql.SQL(
        "CREATE TEMPORARY TABLE {} ON COMMIT DROP AS SELECT {}, 0::bigint AS place FROM {} WITH NO DATA"
    ).format(name, _column_list(table), table.name)
    number = sql.SQL(
        "ALTER TABLE {} ALTER COLUMN place SET NOT NULL, ALTER COLUMN place ADD GENERATED ALWAYS AS IDENTITY, {}"
    ).format(name, sql.SQL(", ").join(storage_clauses(table.spec)))
    return make_statement(create, Parameters()), make_statement(number, Parameters())


def move_staged(table: Table, stage: str, *, replace: bool) -> Statement:
    """Moves the staged rows into the collection in the order of ids; with ``replace`` the last row of an id wins.

    Only ids and addresses are sorted; each row is then fetched by its address ("OFFSET 0" keeps it so).
    """
    return make_statement(
        sql.SQL(
            "INSERT INTO {} ({}) SELECT {} FROM (SELECT {}ctid AS address FROM {} ORDER BY {}{}) AS chosen"
            " CROSS JOIN LATERAL (SELECT * FROM {} WHERE ctid = chosen.address OFFSET 0) AS staged{}"
        ).format(
            table.name,
            _column_list(table),
            _column_list(table, "staged"),
            sql.SQL("DISTINCT ON ({}) ").format(table.order) if replace else sql.SQL(""),
            sql.Identifier("pg_temp", stage),
            table.order,
            sql.SQL(", place DESC") if replace else sql.SQL(""),
            sql.Identifier("pg_temp", stage),
            _on_conflict(table) if replace else sql.SQL(""),
        ),
        Parameters(),
    )


def staged_conflicts(table: Table, stage: str) -> Statement:
    """Ids that are staged twice, or are in the collection already."""
    name = sql.Identifier("pg_temp", stage)
    return make_statement(
        sql.SQL(
            "SELECT id FROM (SELECT id FROM {0} GROUP BY id HAVING count(*) > 1 UNION SELECT t.id FROM {1} AS t JOIN {0} AS s ON s.id = t.id)"
            " AS known ORDER BY {2} LIMIT 100"
        ).format(name, table.name, table.order),
        Parameters(),
    )


def existing_ids(table: Table, ids: Sequence[str]) -> Statement:
    """Those of the ids that are in the collection."""
    parameters = Parameters()
    return make_statement(
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
    return _delete(table, where_clause(table, where, parameters), parameters)


def _delete(table: Table, conditions: sql.Composable, parameters: Parameters) -> Statement:
    return make_statement(
        sql.SQL("DELETE FROM {0} WHERE id IN (SELECT id FROM {0} {1} ORDER BY {2} FOR UPDATE)").format(
            table.name, conditions, table.order
        ),
        parameters,
    )
