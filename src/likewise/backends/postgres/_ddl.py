"""What creates and describes tables: statements that make them, and what a table has that its specification does not. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import sql

from likewise.backends.postgres._filters import compile_filter
from likewise.backends.postgres._indexing import lists_for
from likewise.backends.postgres._parameters import Literals, own_sql
from likewise.backends.postgres._table import (
    OPERATOR_CLASSES,
    Extension,
    Table,
    TableIndex,
    index_comment,
    index_name,
    storage_clauses,
    vector_column,
)
from likewise.errors import SchemaMismatch, UnsupportedFeature
from likewise.filters import Filter
from likewise.metrics import Metric
from likewise.schema import (
    Btree,
    CollectionSpec,
    Gin,
    Hnsw,
    IvfFlat,
    MetadataIndex,
    Quantization,
    VectorField,
    VectorIndex,
)

__all__ = [
    "Wanted",
    "add_columns",
    "analyze",
    "comment_on_index",
    "create_index",
    "create_table",
    "default_vector_index",
    "drop_leftover",
    "has_digests",
    "id_order_index",
    "index_definition",
    "index_rows",
    "missing_columns",
    "modality_index",
    "set_storage",
    "table_differences",
]

_LONGEST_SLUG = 24
_MAX_INDEXED = {"vector": 2_000, "halfvec": 4_000, "binary": 64_000}


def _vector_type(extension: Extension, field: VectorField) -> sql.Composable:
    return sql.SQL("{}({})").format(extension.type(field.storage), sql.Literal(field.dimension))


def _columns(spec: CollectionSpec, extension: Extension) -> Iterator[tuple[str, sql.Composable]]:
    """Every column's name and definition, in order."""
    yield "id", sql.SQL("text PRIMARY KEY CHECK (id <> '')")
    for name, field in spec.vector_fields.items():
        definition = _vector_type(extension, field)
        yield vector_column(name), definition if name else sql.SQL("{} NOT NULL").format(definition)
    yield "metadata", sql.SQL("jsonb NOT NULL DEFAULT '{{}}' CHECK (jsonb_typeof(metadata) = 'object')").format()
    yield "content", sql.SQL("text")
    if spec.multimodal:
        yield "modality", sql.SQL("text NOT NULL DEFAULT 'text' CHECK (modality IN ('text', 'image'))")
        yield "content_id", sql.SQL("text")
    if spec.embedder is not None:
        yield "embedded", sql.SQL("bytea")


def create_table(schema: str, spec: CollectionSpec, extension: Extension) -> sql.Composed:
    """The table of a collection."""
    columns = [
        sql.SQL("{} {}").format(sql.Identifier(name), definition) for name, definition in _columns(spec, extension)
    ]
    return sql.SQL("CREATE TABLE {} ({})").format(sql.Identifier(schema, spec.name), sql.SQL(", ").join(columns))


def set_storage(schema: str, spec: CollectionSpec) -> sql.Composed:
    """Keeps vectors and metadata in the row, where searches read them; see ``storage_clauses``."""
    return sql.SQL("ALTER TABLE {} {}").format(
        sql.Identifier(schema, spec.name), sql.SQL(", ").join(storage_clauses(spec))
    )


def id_order_index(schema: str, spec: CollectionSpec) -> sql.Composed:
    """Where the database does not order text by code point: an index that does, for listings."""
    return sql.SQL('CREATE INDEX IF NOT EXISTS {} ON {} (id COLLATE "C")').format(
        sql.Identifier(index_name(spec.name, "id_order")), sql.Identifier(schema, spec.name)
    )


def modality_index(schema: str, spec: CollectionSpec) -> sql.Composed:
    """For searches of texts or of pictures alone, of which there may be few among many."""
    return sql.SQL("CREATE INDEX IF NOT EXISTS {} ON {} (modality)").format(
        sql.Identifier(index_name(spec.name, "modality")), sql.Identifier(schema, spec.name)
    )


def add_columns(schema: str, spec: CollectionSpec, extension: Extension, names: Sequence[str]) -> sql.Composed:
    """Adds optional columns that a table lacks."""
    columns = dict(_columns(spec, extension))
    added = [sql.SQL("ADD COLUMN {} {}").format(sql.Identifier(name), columns[name]) for name in names]
    return sql.SQL("ALTER TABLE {} {}").format(sql.Identifier(schema, spec.name), sql.SQL(", ").join(added))


def _expected(spec: CollectionSpec) -> dict[str, str]:
    expected = {"id": "text"}
    expected |= {vector_column(name): str(field.storage) for name, field in spec.vector_fields.items()}
    expected |= {"metadata": "jsonb", "content": "text"}
    if spec.multimodal:
        expected |= {"modality": "text", "content_id": "text"}
    return expected


def missing_columns(spec: CollectionSpec, columns: Sequence[Mapping[str, Any]]) -> list[str]:
    """The optional columns that the table lacks: metadata, content, modality, content_id, named vectors, and what vectors were made of."""
    present = {c["name"] for c in columns}
    optional = [*_expected(spec), *(["embedded"] if spec.embedder is not None else [])]
    return [name for name in optional if name not in present and name not in ("id", "vector")]


def has_digests(spec: CollectionSpec, columns: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the table has a column for what vectors were embedded from; it works without, and one of another type is the user's own."""
    return spec.embedder is not None and any((c["name"], c["type"]) == ("embedded", "bytea") for c in columns)


def table_differences(
    spec: CollectionSpec, columns: Sequence[Mapping[str, Any]], primary_key: Sequence[str] | None
) -> list[str]:
    """Every way in which a table cannot hold the collection, as sentences."""
    present = {c["name"]: c for c in columns}
    expected = _expected(spec)
    dimensions = {vector_column(n): f.dimension for n, f in spec.vector_fields.items()}
    result = []
    for name, kind in expected.items():
        if name not in present:
            result.append(f"column {name!r} ({kind}) is missing")
            continue
        column = present[name]
        if column["type"] != kind:
            result.append(f"column {name!r} has type {column['type']}, the specification says {kind}")
        elif name in dimensions and column["dimension"] != dimensions[name]:
            have = column["dimension"] if column["dimension"] > 0 else "no dimension"
            result.append(f"column {name!r} has dimension {have}, the specification says {dimensions[name]}")
    if list(primary_key or ()) != ["id"]:
        result.append(f"the primary key is ({', '.join(primary_key or ()) or 'none'}); it must be (id)")
    result.extend(
        f"column {name!r} is not in the specification and must be given a value: make it nullable or give it a default"
        for name, column in present.items()
        if name not in expected and column["not_null"] and not column["has_default"]
    )
    return result


# --- indexes -------------------------------------------------------------------------------------------------------------------


def default_vector_index(field: VectorField) -> Hnsw:
    """HNSW that holds as much of the vector as pgvector can index."""
    if field.dimension <= _MAX_INDEXED[field.storage]:
        return Hnsw()
    return Hnsw(quantization="half" if field.dimension <= _MAX_INDEXED["halfvec"] else "binary")


def create_index(index: str, definition: sql.Composed, *, concurrently: bool) -> sql.Composed:
    """The statement that builds an index; ``CONCURRENTLY`` keeps nobody from writing, takes longer and may be in no transaction."""
    return sql.SQL("CREATE INDEX {}{} {}").format(
        sql.SQL("CONCURRENTLY " if concurrently else ""), sql.Identifier(index), definition
    )


def drop_leftover(table: Table, index: str, *, concurrently: bool) -> sql.Composed:
    """The statement that drops an index that was never finished."""
    return sql.SQL("DROP INDEX {}IF EXISTS {}").format(
        sql.SQL("CONCURRENTLY " if concurrently else ""), sql.Identifier(table.schema, index)
    )


@dataclass(frozen=True, slots=True)
class Wanted:
    """An index that is asked for: its plan, the vector that it is on (None: the metadata), and the filter of its rows (None: all)."""

    plan: VectorIndex | MetadataIndex
    vector: str | None = None
    where: Filter | None = None


def index_definition(table: Table, wanted: Wanted) -> tuple[str, sql.Composed | None]:
    """The name of an index and what ``create_index`` needs to build it, None if it is there. A different one is a ``SchemaMismatch``."""
    if isinstance(wanted.plan, Gin):
        return metadata_index(table, wanted.plan)
    if isinstance(wanted.plan, Btree):
        return key_index(table, wanted.plan)
    assert wanted.vector is not None
    return vector_index(table, wanted.vector, wanted.plan, wanted.where)


def index_rows(table: Table, where: Filter, *, beside: bool = False) -> sql.Composable:
    """The condition on the rows of an index in literals; searches by it, ``beside`` their parameters, have to say it in the same words."""
    return compile_filter(where, Literals(beside=beside), lower_collation=table.server.lower_collation)


def comment_on_index(table: Table, index: str, where: Filter) -> sql.Composed:
    """The statement that keeps with an index which rows it is over."""
    return sql.SQL("COMMENT ON INDEX {} IS {}").format(
        sql.Identifier(table.schema, index), sql.Literal(index_comment(where))
    )


def _finished(table: Table, index: str) -> TableIndex | None:
    """The index of this name, unless it is what a build left that was broken off."""
    return next((i for i in table.indexes if i.name == index and i.valid), None)


def vector_index(table: Table, name: str, plan: VectorIndex, where: Filter | None) -> tuple[str, sql.Composed | None]:
    """The name and definition of a vector index."""
    field = table.spec.vector_fields[name]
    method = "hnsw" if isinstance(plan, Hnsw) else "ivfflat"
    element = {"none": field.storage, "half": "halfvec", "binary": "binary"}[plan.quantization]
    if field.dimension > _MAX_INDEXED[element] or (field.storage == "halfvec" and plan.quantization == "half"):
        hint = (
            "the vector is stored in half precision already: leave the quantization out"
            if field.dimension <= _MAX_INDEXED[element]
            else f"it indexes up to {_MAX_INDEXED[element]:,} dimensions so; use quantization='half' (to 4,000) or 'binary'"
        )
        raise UnsupportedFeature(
            f"a {method} index with quantization={plan.quantization!r} on {field.dimension:,} dimensions",
            backend="postgres",
            hint=hint,
        )
    suffix = "" if plan.quantization == "none" else f"_{plan.quantization}"
    if where is not None:
        suffix += f"_{hashlib.sha256(repr(where).encode()).hexdigest()[:8]}"
    index = plan.name or index_name(table.spec.name, f"{vector_column(name)}_{method}{suffix}")
    options: dict[str, int] = (
        {"m": plan.m, "ef_construction": plan.ef_construction}
        if isinstance(plan, Hnsw)
        else {"lists": lists_for(table.rows) if plan.lists == "auto" else plan.lists}
    )
    operator_class = _operator_class(field, plan.quantization)
    existing = _finished(table, index)
    if existing is not None:
        have = {k: int(v) for k, v in existing.options.items()}
        if isinstance(plan, IvfFlat) and plan.lists == "auto":
            options = have
        same = (
            (existing.method, existing.operator_class, have) == (method, operator_class, options)
            and existing.column == vector_column(name)
            and existing.partial == (where is not None)
            # As text: fields have an equality of their own, which makes filters.
            and repr(existing.where) == repr(where)
        )
        if not same:
            raise SchemaMismatch(
                f"index {index!r} is there, but differs from what is asked ({existing.definition}); "
                "give another name, or drop it first",
                collection=table.spec.name,
                differences=[existing.definition],
            )
        return index, None
    settings = sql.SQL(", ").join(
        [sql.SQL("{} = {}").format(sql.Identifier(k), sql.Literal(v)) for k, v in options.items()]
    )
    return index, sql.SQL("ON {} USING {} (({}) {}) WITH ({}){}").format(
        table.name,
        own_sql(method),
        index_expression(table, name, plan.quantization),
        table.extension.type(operator_class),
        settings,
        sql.SQL("") if where is None else sql.SQL(" WHERE {}").format(index_rows(table, where)),
    )


def _operator_class(field: VectorField, quantization: Quantization) -> str:
    if quantization == "binary":
        return "bit_hamming_ops"
    return f"{'halfvec' if quantization == 'half' else field.storage}_{OPERATOR_CLASSES[Metric(field.metric)]}"


def index_expression(table: Table, name: str, quantization: Quantization) -> sql.Composable:
    """What an index of this quantisation orders: the column, or an expression of it. Searches must order by the same."""
    column = sql.Identifier(vector_column(name))
    return quantized(table, column, table.spec.vector_fields[name], quantization)


def quantized(table: Table, value: sql.Composable, field: VectorField, quantization: Quantization) -> sql.Composable:
    """A vector-valued expression as an index of this quantisation holds it."""
    extension, dimension = table.extension, sql.Literal(field.dimension)
    if quantization == "half":
        return sql.SQL("{}::{}({})").format(value, extension.type("halfvec"), dimension)
    if quantization == "binary":
        return sql.SQL("{}({})::bit({})").format(extension.type("binary_quantize"), value, dimension)
    return value


def analyze(table: Table) -> sql.Composed:
    """Has the server count what filters look at, the expressions of indexes among it."""
    return sql.SQL("ANALYZE {}").format(table.name)


def key_index(table: Table, plan: Btree) -> tuple[str, sql.Composed | None]:
    """The name and definition of an index on one key of the metadata."""
    slug = re.sub(r"[^a-z0-9]+", "_", "_".join(plan.path).lower()).strip("_")
    if slug != "_".join(plan.path) or len(slug) > _LONGEST_SLUG:
        digest = hashlib.sha256(repr(plan.path).encode()).hexdigest()[:8]
        slug = f"{slug[:_LONGEST_SLUG]}_{digest}"
    index = plan.name or index_name(table.spec.name, f"metadata_{slug}")
    # The very expressions that comparisons are compiled to; only numbers are in it, for other values may be too long for an index.
    value = sql.SQL("(metadata -> {})").format(sql.SQL(" -> ").join([sql.Literal(key) for key in plan.path]))
    existing = _finished(table, index)
    if existing is None:
        return index, sql.SQL("ON {} ({}) WHERE jsonb_typeof({}) = 'number'").format(table.name, value, value)
    keys = ["'" + key.replace("'", "''") + "'" for key in plan.path]  # as the server prints them
    if (
        existing.method != "btree"
        or existing.definition.count(" -> ") != 2 * len(keys)
        or any(key not in existing.definition for key in keys)
    ):
        raise SchemaMismatch(
            f"index {index!r} is there, but differs from what is asked ({existing.definition}); give another name, or drop it first",
            collection=table.spec.name,
            differences=[existing.definition],
        )
    return index, None


def metadata_index(table: Table, plan: Gin) -> tuple[str, sql.Composed | None]:
    """The name and definition of the metadata's index."""
    index = plan.name or index_name(table.spec.name, "metadata_gin")
    operator_class = "jsonb_path_ops" if plan.path_ops else "jsonb_ops"
    existing = _finished(table, index)
    if existing is None:
        return index, sql.SQL("ON {} USING gin (metadata {})").format(
            table.name, sql.Identifier("pg_catalog", operator_class)
        )
    if (existing.method, existing.operator_class, existing.column) != ("gin", operator_class, "metadata"):
        raise SchemaMismatch(
            f"index {index!r} is there, but differs from what is asked ({existing.definition}); give another name, or drop it first",
            collection=table.spec.name,
            differences=[existing.definition],
        )
    return index, None
