"""What a feed tells of each row of a collection's table: which columns, of which types, and how their bytes become values. Pure."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from likewise.abc.feeds import Gone, Payload, Put, Rows
from likewise.backends.postgres._rows import NUMBERS, Element, unpack_vector
from likewise.backends.postgres._table import vector_column
from likewise.backends.postgres.following._pgoutput import (
    UNCHANGED,
    Delete,
    Insert,
    Relation,
    Row,
    Text,
    Update,
    Value,
)
from likewise.errors import BackendError, InvalidArgument, SchemaMismatch
from likewise.schema import CollectionSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Held", "Layout", "RowsReader", "check_holds", "held_columns", "mismatch", "vector_in"]

_ORDER: tuple[Payload, ...] = ("metadata", "content", "modality", "content_id")
_START = b"PGCOPY\n\xff\r\n\x00"
_COUNT = struct.Struct(">h")
_LENGTH = struct.Struct(">i")


@dataclass(frozen=True, slots=True)
class Held:
    """The columns that a feed reads, in this order: the id, the vectors, the payload."""

    collection: str
    #: (name, column, type, dimension) of each vector.
    vectors: tuple[tuple[str, str, Element, int], ...]
    payload: tuple[Payload, ...]
    #: The object id and modifier of each column's type, as the table has them now.
    types: Mapping[str, tuple[int, int]]

    @property
    def columns(self) -> list[str]:
        """The names of the columns."""
        return ["id", *(column for _, column, _, _ in self.vectors), *self.payload]


def held_columns(spec: CollectionSpec, holds: frozenset[Payload], columns: Sequence[Mapping[str, Any]]) -> Held:
    """What to read of a table with these columns (name, type by name and object id, modifier).

    Raises:
        SchemaMismatch: the table has not what the collection's specification says.
    """
    known = {c["name"]: c for c in columns}
    wanted = {"id": ("text", -1)}
    vectors: list[tuple[str, str, Element, int]] = []
    for name, field in spec.vector_fields.items():
        column = vector_column(name)
        vectors.append((name, column, cast("Element", field.storage), field.dimension))
        wanted[column] = (field.storage, field.dimension)
    payload: tuple[Payload, ...] = tuple(p for p in _ORDER if p in holds)
    wanted |= {p: ("jsonb" if p == "metadata" else "text", -1) for p in payload}
    differences = []
    for name, (kind, modifier) in wanted.items():
        found = known.get(name)
        if found is None:
            differences.append(f"column {name!r} is missing")
        elif (found["type"], found["modifier"]) != (kind, modifier):
            differences.append(f"column {name!r} is of another type than {kind}")
    if differences:
        raise mismatch(spec.name, differences)
    types = {name: (int(known[name]["oid"]), int(known[name]["modifier"])) for name in wanted}
    return Held(spec.name, tuple(vectors), payload, types)


def check_holds(spec: CollectionSpec, holds: frozenset[Payload]) -> None:
    """``InvalidArgument`` for a payload that the collection's rows have not."""
    known = set(_ORDER if spec.multimodal else _ORDER[:2])
    if unknown := sorted(set(holds) - known):
        raise InvalidArgument(
            f"collection {spec.name!r} has no {', '.join(unknown)} to follow; its rows have: {', '.join(sorted(known))}"
        )


def mismatch(collection: str, differences: Sequence[str]) -> SchemaMismatch:
    """The table has changed under the feed."""
    return SchemaMismatch(
        f"the table of collection {collection!r} is not what it was: {'; '.join(differences)}; open the collection again",
        collection=collection,
        differences=differences,
    )


class Layout:
    """Where in the rows of the log, as a ``Relation`` described them, is what a feed tells."""

    __slots__ = ("_held", "_id", "_payload", "_vectors", "_width")

    def __init__(self, held: Held, relation: Relation) -> None:
        places = {column.name: n for n, column in enumerate(relation.columns)}
        differences = []
        for name, type_ in held.types.items():
            at = places.get(name)
            if at is None:
                differences.append(f"column {name!r} is missing")
            elif (relation.columns[at].type, relation.columns[at].modifier) != type_:
                differences.append(f"column {name!r} is of another type")
        if differences:
            raise mismatch(held.collection, differences)
        self._held = held
        self._width = len(relation.columns)
        self._id = places["id"]
        self._vectors: list[tuple[str, int, Element, int]] = [
            (name, places[column], element, dimension) for name, column, element, dimension in held.vectors
        ]
        self._payload: list[tuple[Payload, int]] = [(name, places[name]) for name in held.payload]

    def change(self, message: Insert | Update | Delete) -> Put | Gone:
        """What the message says of the collection."""
        row = message.before if isinstance(message, Delete) else message.row
        if len(row) != self._width:
            raise BackendError(
                f"the log of collection {self._held.collection!r} has a row of {len(row)} columns, not {self._width}"
            )
        match message:
            case Insert():
                return self._put(message.row, self._identity(message.row))
            case Update():
                before = None if message.before is None else self._identity(message.before)
                now = before if message.row[self._id] is UNCHANGED and before else self._identity(message.row)
                return self._put(message.row, now, was=before if before != now else None)
            case Delete():
                return Gone(self._identity(message.before))

    def _identity(self, row: Row) -> str:
        value = row[self._id] if self._id < len(row) else None
        if not isinstance(value, bytes):
            raise BackendError(f"the log of collection {self._held.collection!r} has a row without its id")
        return _text(value)

    def _put(self, row: Row, id_: str, *, was: str | None = None) -> Put:
        vectors = {}
        for name, at, element, dimension in self._vectors:
            value = _plain(row[at])
            if value is not UNCHANGED:
                vectors[name] = None if value is None else vector_in(value, element, dimension)
        payload: dict[Payload, bytes | None] = {}
        for part, at in self._payload:
            value = _plain(row[at])
            if value is not UNCHANGED:
                payload[part] = value[1:] if part == "metadata" and value is not None else value
        return Put(id_, vectors, payload, was)


def _plain(value: Value) -> Any:
    if isinstance(value, Text):
        raise BackendError("the server sent a value as text that was asked for in binary")
    return value


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise BackendError(f"the server sent an id that is not UTF-8: {data!r:.80}") from error


def vector_in(data: bytes, element: Element, dimension: int) -> NDArray[np.float32]:
    """The vector in pgvector's binary format; ``BackendError`` if it is of another dimension."""
    if not data.startswith(_header(dimension)) or len(data) != _size(element, dimension):
        raise BackendError(f"the server sent a vector that is not of dimension {dimension}")
    return unpack_vector(data, element)


@cache
def _header(dimension: int) -> bytes:
    return struct.pack(">HH", dimension, 0)


@cache
def _size(element: Element, dimension: int) -> int:
    return 4 + np.dtype(NUMBERS[element]).itemsize * dimension


class RowsReader:
    """Makes rows of what a COPY in binary format gives, piece by piece."""

    def __init__(self, held: Held) -> None:
        self._held = held
        self._rest = b""
        self._started = False
        #: Whether the end of the rows has come.
        self.ended = False

    def read(self, data: bytes) -> Rows | None:
        """The rows that are complete with this piece; None if there are none."""
        data = self._rest + data if self._rest else data
        at = 0
        if not self._started:
            if len(data) < len(_START) + 8:
                self._rest = data
                return None
            if not data.startswith(_START):
                raise BackendError("the server sent rows in another format than that of COPY in binary")
            at = len(_START) + 8 + int.from_bytes(data[len(_START) + 4 : len(_START) + 8])
            self._started = True
        columns: list[list[bytes | None]] = [[] for _ in self._held.columns]
        at = self._split(data, at, columns)
        self._rest = data[at:]
        return self._rows(columns) if columns[0] else None

    def _split(self, data: bytes, at: int, columns: list[list[bytes | None]]) -> int:
        """Put the fields of each complete row to their columns; where the first incomplete row begins."""
        size, count, length = len(data), _COUNT.unpack_from, _LENGTH.unpack_from
        width = len(columns)
        while size - at >= 2:
            (fields,) = count(data, at)
            if fields == -1:
                self.ended = True
                return at + 2
            if fields != width:
                raise BackendError(f"the server sent a row of {fields} columns, where {width} were asked for")
            place = at + 2
            row: list[bytes | None] = []
            for _ in range(width):
                if size - place < 4:
                    return at
                (n,) = length(data, place)
                place += 4
                if n < 0:
                    row.append(None)
                    continue
                if size - place < n:
                    return at
                row.append(data[place : place + n])
                place += n
            for column, value in zip(columns, row, strict=True):
                column.append(value)
            at = place
        return at

    def _rows(self, columns: list[list[bytes | None]]) -> Rows:
        ids = [_text(value or b"") for value in columns[0]]
        vectors: dict[str, NDArray[np.float32]] = {}
        present: dict[str, NDArray[np.bool_]] = {}
        for (name, _, element, dimension), values in zip(self._held.vectors, columns[1:], strict=False):
            there = np.array([value is not None for value in values], np.bool_)
            vectors[name] = _matrix(values, element, dimension)
            if not there.all():
                present[name] = there
        payload: dict[Payload, Sequence[bytes | None]] = {}
        for part, values in zip(self._held.payload, columns[1 + len(self._held.vectors) :], strict=True):
            payload[part] = [v and v[1:] for v in values] if part == "metadata" else values
        return Rows(ids, vectors, present, payload)


def _matrix(values: Sequence[bytes | None], element: Element, dimension: int) -> NDArray[np.float32]:
    """Vectors in the binary format of pgvector, zeros for null, as float32 of shape (rows, dimension)."""
    size, header = _size(element, dimension), _header(dimension)
    nothing = header + bytes(size - 4)
    joined = b"".join([nothing if value is None else value for value in values])
    table = np.frombuffer(joined, np.uint8)
    if len(joined) == size * len(values):
        table = table.reshape(len(values), size)
        if (table[:, :4] == np.frombuffer(header, np.uint8)).all():
            return np.ascontiguousarray(table[:, 4:]).view(NUMBERS[element]).astype(np.float32)
    raise BackendError(f"the server sent vectors that are not all of dimension {dimension}")
