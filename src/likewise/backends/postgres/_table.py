"""What is known of a collection's table: names, types and indexes, read from the catalogue. Pure; ``sql/catalog.sql`` reads it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from psycopg import sql

from likewise._json import dumps
from likewise.abc.models import ModelIdentity
from likewise.backends.postgres._parameters import own_sql
from likewise.backends.postgres._rows import Element
from likewise.errors import InvalidFilter
from likewise.filters import And, Filter, parse, serialise
from likewise.metrics import Metric
from likewise.schema import CollectionSpec, IndexInfo, Quantization

__all__ = [
    "OPERATORS",
    "OPERATOR_CLASSES",
    "Extension",
    "Server",
    "Table",
    "TableIndex",
    "canonical",
    "index_comment",
    "index_name",
    "indexes_from_rows",
    "storage_clauses",
    "vector_column",
]

#: pgvector's distance operators, which order by the nearest.
OPERATORS: Mapping[Metric, str] = {Metric.COSINE: "<=>", Metric.L2: "<->", Metric.INNER_PRODUCT: "<#>"}
#: The stem of the operator class that serves the metric: ``vector_cosine_ops``, ``halfvec_l2_ops`` …
OPERATOR_CLASSES: Mapping[Metric, str] = {
    Metric.COSINE: "cosine_ops",
    Metric.L2: "l2_ops",
    Metric.INNER_PRODUCT: "ip_ops",
}
_MAX_IDENTIFIER = 63
_COMMENT = "likewise: rows where "
#: Bytes of vectors in a row that leave room for the rest in a page of 8 kB.
_MOST_IN_ROW = 7_000


@dataclass(frozen=True, slots=True)
class Server:
    """The server's version as ``server_version_num`` has it, and what it makes of text.

    ``code_point_order``: text is ordered by code point without our asking. ``lower_collation``: the collation whose ``lower()`` knows
    all of Unicode; None if the database's own does.
    """

    version: int
    version_text: str
    code_point_order: bool
    lower_collation: str | None


@dataclass(frozen=True, slots=True)
class Extension:
    """pgvector in this database: its schema, version, and the object ids of its array-able types."""

    schema: str
    version: str
    oids: Mapping[Element, int]

    @property
    def version_tuple(self) -> tuple[int, ...]:
        """The version as numbers."""
        return tuple(int(n) for n in re.findall(r"\d+", self.version)[:3])

    @property
    def iterative_scan(self) -> bool:
        """Whether an index scan can go on until enough rows have passed the filter (0.8)."""
        return self.version_tuple >= (0, 8)

    def type(self, element: str) -> sql.Composable:
        """A type of the extension, with its schema."""
        return sql.Identifier(self.schema, element)

    def operator(self, symbol: str) -> sql.Composable:
        """An operator of the extension, with its schema: no search_path is trusted."""
        return sql.SQL("OPERATOR({}.{})").format(sql.Identifier(self.schema), own_sql(symbol))


@dataclass(frozen=True, slots=True)
class TableIndex:
    """An index as the catalogue describes it."""

    name: str
    method: str
    operator_class: str
    definition: str
    valid: bool
    options: Mapping[str, str]
    column: str | None
    #: Over some rows only: about how many, and the filter they match, where we know it.
    partial: bool = False
    rows: float = 0.0
    where: Filter | None = None

    @property
    def quantization(self) -> Quantization:
        """What a vector index holds of each vector."""
        if self.operator_class.startswith("bit_"):
            return "binary"
        return "half" if self.operator_class.startswith("halfvec_") and "::" in self.definition else "none"

    def holds_just(self, where: Filter) -> bool:
        """Whether the index is over the rows that match the filter, and no others."""
        return self.where is not None and set(_conditions(canonical(where))) == set(_conditions(self.where))

    def info(self, vector: str | None) -> IndexInfo:
        """The same in the words of the interface."""
        return IndexInfo(
            name=self.name,
            method=self.method,
            vector=vector,
            quantization=self.quantization if self.method in ("hnsw", "ivfflat") else "none",
            valid=self.valid,
            definition=self.definition,
        )


@dataclass(frozen=True, slots=True)
class Table:
    """One collection's table and what surrounds it."""

    schema: str
    spec: CollectionSpec
    server: Server
    extension: Extension
    indexes: Sequence[TableIndex] = field(default=())
    #: About how many rows there are.
    rows: float = 0.0
    #: Whether there is a column for what the vectors were embedded from.
    embedded: bool = False
    #: The model that made the vectors, where that is known.
    model: ModelIdentity | None = None
    #: (name, column, type) of each vector.
    vectors: tuple[tuple[str, str, Element], ...] = field(init=False, repr=False, compare=False)
    #: Statements of searches without a filter, which are the same text each time, with the settings that they make.
    texts: dict[object, tuple[bytes, Mapping[str, str]]] = field(
        init=False, repr=False, compare=False, default_factory=dict
    )
    #: The same of searches with a filter, with the filter's parameters.
    filtered: dict[object, tuple[bytes, Mapping[str, Any]]] = field(
        init=False, repr=False, compare=False, default_factory=dict
    )
    _vector_indexes: dict[str, TableIndex | None] = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        vectors = tuple(
            (name, vector_column(name), cast("Element", field.storage))
            for name, field in self.spec.vector_fields.items()
        )
        object.__setattr__(self, "vectors", vectors)

    @property
    def name(self) -> sql.Composable:
        """The table's name with its schema."""
        return sql.Identifier(self.schema, self.spec.name)

    def element(self, name: str) -> Element:
        """How a vector's numbers are stored."""
        return cast("Element", self.spec.vector_fields[name].storage)

    @property
    def order(self) -> sql.Composable:
        """Ids by code point, in a form that an index answers."""
        return sql.SQL("id") if self.server.code_point_order else sql.SQL('id COLLATE "C"')

    def vector_index(self, name: str) -> TableIndex | None:
        """The index that a search of this vector uses: HNSW before IVFFlat, more of the vector before less."""
        if name not in self._vector_indexes:
            self._vector_indexes[name] = self._best_index(name)
        return self._vector_indexes[name]

    def _best_index(self, name: str) -> TableIndex | None:
        spec = self.spec.vector_fields[name]
        column = vector_column(name)
        usable = [
            i
            for i in self.indexes
            if i.column == column
            and i.valid
            and not i.partial
            and i.method in ("hnsw", "ivfflat")
            and (i.quantization == "binary" or i.operator_class.endswith(OPERATOR_CLASSES[Metric(spec.metric)]))
        ]
        rank = {"none": 0, "half": 1, "binary": 2}
        return min(usable, key=lambda i: (i.method != "hnsw", rank[i.quantization], i.name), default=None)

    def partial_index(self, name: str, where: Filter) -> TableIndex | None:
        """The smallest HNSW index over rows among which are all that match the filter: every condition of its own is one of the filter's."""
        if not any(i.where is not None for i in self.indexes):
            return None
        conditions = set(_conditions(canonical(where)))
        column = vector_column(name)
        usable = [
            i
            for i in self.indexes
            if i.where is not None
            and (i.column, i.method, i.valid) == (column, "hnsw", True)
            and conditions.issuperset(_conditions(i.where))
        ]
        return min(usable, key=lambda i: (i.rows, i.name), default=None)

    def index_infos(self) -> list[IndexInfo]:
        """The indexes of the collection in the words of the interface, without that of the primary key."""
        by_column = {column: name for name, column, _ in self.vectors}
        return [i.info(by_column.get(i.column or "")) for i in self.indexes]


def storage_clauses(spec: CollectionSpec) -> list[sql.Composable]:
    """Where PostgreSQL keeps the parts of a row, as clauses of ALTER TABLE.

    Left alone it moves the vector out of any row of more than 2 kB, and then a search that compares rows fetches each vector piece by piece: with
    1,500 characters of content that took 4 times as long, with 1,536 dimensions 3 times. Vectors that leave room in a page of 8 kB stay in
    the row, and so does the metadata while it can; the content moves out.
    """
    sizes = [(4 if f.storage == "vector" else 2) * f.dimension + 8 for f in spec.vector_fields.values()]
    kept = [vector_column(name) for name in spec.vector_fields] if sum(sizes) <= _MOST_IN_ROW else []
    clauses = [sql.SQL("ALTER COLUMN {} SET STORAGE PLAIN").format(sql.Identifier(column)) for column in kept]
    return [*clauses, sql.SQL("ALTER COLUMN metadata SET STORAGE MAIN")]


def vector_column(name: str) -> str:
    """The column of a vector: ``vector`` for the collection's own, ``vector_<name>`` for the others."""
    return f"vector_{name}" if name else "vector"


def canonical(where: Filter) -> Filter:
    """The filter in the form in which it is kept with an index."""
    return parse(serialise(where))


def index_comment(where: Filter) -> str:
    """What is kept with an index over some rows: the filter they match."""
    return _COMMENT + dumps(serialise(where))


def _filter_in(comment: str | None) -> Filter | None:
    if comment is None or not comment.startswith(_COMMENT):
        return None
    try:
        return parse(json.loads(comment.removeprefix(_COMMENT)))
    except (ValueError, InvalidFilter):
        # Somebody has edited it: an index like any that we do not know.
        return None


def _conditions(where: Filter) -> Iterator[str]:
    """The conditions that all have to hold, each as text."""
    if isinstance(where, And):
        for operand in where.operands:
            yield from _conditions(operand)
    else:
        yield repr(where)


def index_name(collection: str, suffix: str) -> str:
    """``idx_<collection>_<suffix>``, shortened with a hash where PostgreSQL would cut it."""
    name = f"idx_{collection}_{suffix}"
    if len(name) <= _MAX_IDENTIFIER:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"idx_{collection[: _MAX_IDENTIFIER - len(suffix) - 14]}_{digest}_{suffix}"


def indexes_from_rows(rows: Sequence[Mapping[str, Any]]) -> tuple[TableIndex, ...]:
    """The indexes that ``sql/catalog.sql`` found."""
    result = []
    for row in rows:
        options = dict(option.split("=", 1) for option in row["options"] or ())
        column = row["column"]
        if column is None:
            # An expression: (binary_quantize(vector))::bit(384) or (vector)::halfvec(384).
            found = re.search(
                r"\(+\s*(?:[\w\"]+\.)?(?:binary_quantize\()?\(?\"?(vector(?:_\w+)?)\"?\b(?!\()", row["definition"]
            )
            column = found.group(1) if found else None
        result.append(
            TableIndex(
                name=row["name"],
                method=row["method"],
                operator_class=row["operator_class"],
                definition=row["definition"],
                valid=row["valid"],
                options=options,
                column=column,
                partial=row["partial"],
                rows=max(0.0, row["rows"]),
                where=_filter_in(row["comment"]) if row["partial"] else None,
            )
        )
    return tuple(result)
