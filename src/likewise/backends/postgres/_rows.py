"""Vectors and rows in PostgreSQL's binary formats: what is bound to a statement and what comes back. Pure; no connection.

The formats are those of pgvector's ``vector_send`` and ``halfvec_send`` (two 16-bit numbers, the dimension and zero, then the numbers
in network byte order) and of PostgreSQL's ``array_send``.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import psycopg
from psycopg.adapt import Buffer, Dumper
from psycopg.pq import Format

from likewise.abc.digests import StoredVector
from likewise.records import NOTHING, IncludeField, Record, stored_record

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "NUMBERS",
    "BinaryParameter",
    "Element",
    "pack_reals",
    "pack_vector",
    "pack_vectors",
    "record_from_row",
    "stored_vector",
    "unpack_reals",
    "unpack_vector",
]

#: pgvector's types of stored vectors.
Element: TypeAlias = Literal["vector", "halfvec"]

_HEADER = struct.Struct(">HH")
_ARRAY_HEADER = struct.Struct(">iiIii")
_REAL = np.dtype([("length", ">i4"), ("number", ">f4")])
_REAL_OID = 700
NUMBERS: Mapping[Element, str] = {"vector": ">f4", "halfvec": ">f2"}


class BinaryParameter:
    """A parameter that is already in PostgreSQL's binary format; the statement's cast says its type."""

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data = data


class _BinaryParameterDumper(Dumper):
    format = Format.BINARY
    oid = 0

    def dump(self, obj: BinaryParameter) -> Buffer:
        return obj.data


psycopg.adapters.register_dumper(BinaryParameter, _BinaryParameterDumper)


def pack_vector(vector: NDArray[np.float32], element: Element) -> BinaryParameter:
    """One vector of shape (dimension,) as a parameter."""
    return BinaryParameter(_HEADER.pack(vector.shape[0], 0) + vector.astype(NUMBERS[element]).tobytes())


def pack_vectors(
    vectors: Iterable[NDArray[np.float32]], missing: NDArray[np.bool_] | None, element: Element, oid: int
) -> BinaryParameter:
    """Vectors, those that ``missing`` marks left out, as an array parameter; ``oid`` is that of the element's type in this database."""
    parts: list[bytes] = []
    length = 0
    for length, vector in enumerate(vectors, 1):
        if missing is not None and missing[length - 1]:
            parts.append(b"\xff\xff\xff\xff")
        else:
            data = vector.astype(NUMBERS[element]).tobytes()
            parts.append(struct.pack(">iHH", len(data) + 4, vector.shape[0], 0))
            parts.append(data)
    if not length:
        return BinaryParameter(struct.pack(">iiI", 0, 0, oid))
    return BinaryParameter(_ARRAY_HEADER.pack(1, int(missing is not None), oid, length, 1) + b"".join(parts))


def unpack_vector(data: Buffer, element: Element) -> NDArray[np.float32]:
    """The vector that the server sent, as float32 of shape (dimension,)."""
    vector = np.frombuffer(data, dtype=NUMBERS[element], offset=_HEADER.size).astype(np.float32)
    vector.flags.writeable = False
    return vector


def pack_reals(vector: NDArray[np.float32]) -> BinaryParameter:
    """A vector of shape (dimension,) as an array of PostgreSQL's ``real``, which is there whatever the version of pgvector."""
    items = np.empty(vector.shape[0], _REAL)
    items["length"], items["number"] = 4, vector
    return BinaryParameter(_ARRAY_HEADER.pack(1, 0, _REAL_OID, vector.shape[0], 1) + items.tobytes())


def unpack_reals(data: Sequence[float]) -> NDArray[np.float32]:
    """An array of ``real`` as the driver gives it, as float32 of shape (dimension,)."""
    vector = np.array(data, np.float32)
    vector.flags.writeable = False
    return vector


def stored_vector(row: Mapping[str, Any], element: Element) -> StoredVector:
    """The vector in a row of ``_statements.embedded``, with its digest."""
    return StoredVector(bytes(row["embedded"]), unpack_vector(row["vector"], element))


def record_from_row(
    row: Mapping[str, Any], include: frozenset[IncludeField], vectors: Sequence[tuple[str, str, Element]]
) -> Record:
    """The record in a row whose columns are named as in the table; ``vectors`` are (name, column, element) of the collection."""
    metadata = row["metadata"] if "metadata" in include else NOTHING
    content = row["content"] if "content" in include else None
    named: dict[str, NDArray[np.float32]] = {}
    if "vector" in include:
        for name, column, element in vectors:
            data = row[column]
            if data is not None:
                named[name] = unpack_vector(data, element)
    if "modality" not in row and not named:
        return stored_record(row["id"], metadata, content)
    return Record(
        row["id"],
        named.pop("", None),
        metadata,
        content,
        vectors=named or NOTHING,
        modality=row.get("modality"),
        content_id=row.get("content_id"),
    )
