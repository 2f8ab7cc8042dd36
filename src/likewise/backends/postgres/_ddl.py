"""What creates and describes tables: statements that make them, and what a table has that its specification does not. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from psycopg import sql

from likewise.backends.postgres._parameters import own_sql
from likewise.backends.postgres._table import (
    OPERATOR_CLASSES,
    Extension,
    Table,
    index_name,
    storage_clauses,
    vector_column,
)
from likewise.errors import SchemaMismatch, UnsupportedFeature
from likewise.metrics import Metric
from likewise.schema import Btree, CollectionSpec, Gin, Hnsw, Quantization, VectorField, VectorIndex

__all__ = [
    "add_columns",
    "analyze",
    "create_table",
    "default_vector_index",
    "id_order_index",
    "key_index",
    "metadata_index",
    "missing_columns",
    "set_storage",
    "table_differences",
    "vector_index",
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
    """The optional columns that the table lacks: metadata, content, modality, content_id and named vectors."""
    present = {c["name"] for c in columns}
    return [name for name in _expected(spec) if name not in present and name not in ("id", "vector")]


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


def vector_index(table: Table, name: str, plan: VectorIndex) -> tuple[str, sql.Composed | None]:
    """The name of a vector index and the statement that builds it, None if it is there. A different one is a ``SchemaMismatch``."""
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
    index = plan.name or index_name(table.spec.name, f"{vector_column(name)}_{method}{suffix}")
    options: dict[str, int] = (
        {"m": plan.m, "ef_construction": plan.ef_construction} if isinstance(plan, Hnsw) else {"lists": plan.lists}
    )
    operator_class = _operator_class(field, plan.quantization)
    existing = next((i for i in table.indexes if i.name == index), None)
    if existing is not None:
        have = {k: int(v) for k, v in existing.options.items()}
        same = (existing.method, existing.operator_class, have, existing.column) == (
            method,
            operator_class,
            options,
            vector_column(name),
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
    return index, sql.SQL("CREATE INDEX {} ON {} USING {} (({}) {}) WITH ({})").format(
        sql.Identifier(index),
        table.name,
        own_sql(method),
        index_expression(table, name, plan.quantization),
        table.extension.type(operator_class),
        settings,
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
    """The name of an index on one key of the metadata and the statement that builds it, None if it is there."""
    slug = re.sub(r"[^a-z0-9]+", "_", "_".join(plan.path).lower()).strip("_")
    if slug != "_".join(plan.path) or len(slug) > _LONGEST_SLUG:
        digest = hashlib.sha256(repr(plan.path).encode()).hexdigest()[:8]
        slug = f"{slug[:_LONGEST_SLUG]}_{digest}"
    index = plan.name or index_name(table.spec.name, f"metadata_{slug}")
    # The very expressions that comparisons are compiled to; only numbers are in it, for other values may be too long for an index.
    value = sql.SQL("(metadata -> {})").format(sql.SQL(" -> ").join([sql.Literal(key) for key in plan.path]))
    existing = next((i for i in table.indexes if i.name == index), None)
    if existing is None:
        return index, sql.SQL("CREATE INDEX {} ON {} ({}) WHERE jsonb_typeof({}) = 'number'").format(
            sql.Identifier(index), table.name, value, value
        )
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
    """The name of the metadata's index and the statement that builds it, None if it is there."""
    index = plan.name or index_name(table.spec.name, "metadata_gin")
    operator_class = "jsonb_path_ops" if plan.path_ops else "jsonb_ops"
    existing = next((i for i in table.indexes if i.name == index), None)
    if existing is None:
        return index, sql.SQL("CREATE INDEX {} ON {} USING gin (metadata {})").format(
            sql.Identifier(index), table.name, sql.Identifier("pg_catalog", operator_class)
        )
    if (existing.method, existing.operator_class, existing.column) != ("gin", operator_class, "metadata"):
        raise SchemaMismatch(
            f"index {index!r} is there, but differs from what is asked ({existing.definition}); give another name, or drop it first",
            collection=table.spec.name,
            differences=[existing.definition],
        )
    return index, None
