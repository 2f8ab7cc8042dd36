"""What PostgreSQL's output plugin ``pgoutput`` says, version 1 of its protocol with values in binary, as Python values. Pure.

The layouts are those of PostgreSQL's documentation, "Logical Replication Message Formats". What is cut short or of an unknown layout is a
``BackendError``, so that nothing that was half read is taken for a change.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import Enum
from typing import Final, TypeAlias

from likewise.errors import BackendError

__all__ = [
    "UNCHANGED",
    "Begin",
    "Column",
    "Delete",
    "End",
    "Insert",
    "Message",
    "Noted",
    "Relation",
    "Row",
    "Text",
    "Truncate",
    "Unchanged",
    "Update",
    "Value",
    "decode",
]


class Unchanged(Enum):
    """The type of ``UNCHANGED``."""

    UNCHANGED = "unchanged"


#: A value kept out of line that an update has left as it was, so that it is not in the log.
UNCHANGED: Final = Unchanged.UNCHANGED


@dataclass(frozen=True, slots=True)
class Text:
    """A value as text, of a type that cannot be sent in binary."""

    data: bytes


#: A value of a row: its bytes in binary format; None is null.
Value: TypeAlias = bytes | Text | Unchanged | None
Row: TypeAlias = tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Begin:
    """A transaction follows, whose commit is at this place in the log."""

    commit: int
    xid: int


@dataclass(frozen=True, slots=True)
class End:
    """The transaction is complete; its commit lies at ``commit``, and ends before ``end``."""

    commit: int
    end: int


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table as it was when the rows that follow were written: its name, the object id of its type, its modifier."""

    name: str
    type: int
    modifier: int
    #: Whether it belongs to what a row is known by.
    key: bool


@dataclass(frozen=True, slots=True)
class Relation:
    """A table, before the first of its rows and whenever it has changed. ``identity`` is ``relreplident`` of ``pg_class``."""

    oid: int
    schema: str
    name: str
    identity: str
    columns: tuple[Column, ...]


@dataclass(frozen=True, slots=True)
class Insert:
    """A row is new."""

    relation: int
    row: Row


@dataclass(frozen=True, slots=True)
class Update:
    """A row was changed. ``before`` is what it was known by, with null for the rest, or (``whole``) all that it was; None if that is the same."""

    relation: int
    row: Row
    before: Row | None = None
    whole: bool = False


@dataclass(frozen=True, slots=True)
class Delete:
    """A row was deleted; ``before`` as for an update."""

    relation: int
    before: Row
    whole: bool = False


@dataclass(frozen=True, slots=True)
class Truncate:
    """Tables were emptied."""

    relations: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Noted:
    """What somebody wrote into the log with ``pg_logical_emit_message``."""

    transactional: bool
    prefix: str
    content: bytes


Message: TypeAlias = Begin | End | Relation | Insert | Update | Delete | Truncate | Noted

_COUNT = struct.Struct(">H")
_LENGTH = struct.Struct(">I")
_BEGIN = struct.Struct(">QqI")
_END = struct.Struct(">BQQq")
_COLUMN = struct.Struct(">Ii")
_TRUNCATE = struct.Struct(">IB")
_NOTED = struct.Struct(">BQ")
_K, _O, _N = b"KON"
_NULL, _TOAST, _TEXT, _BINARY = b"nutb"


def decode(data: bytes) -> Message | None:
    """One message; None for those that say nothing of rows (types, origins)."""
    try:
        message, end = _decode(data)
    except (struct.error, IndexError, UnicodeDecodeError):
        raise _cut(data) from None
    if end != len(data):
        raise BackendError(
            f"the server's log could not be read: a message of type {data[:1]!r} has {len(data):,} bytes, of which {end:,} are known"
        )
    return message


def _cut(data: bytes) -> BackendError:
    return BackendError(
        f"the server's log could not be read: a message of type {data[:1]!r} ends too early, after {len(data):,} bytes"
    )


def _decode(data: bytes) -> tuple[Message | None, int]:
    match data[:1]:
        case b"I":
            (relation,) = _LENGTH.unpack_from(data, 1)
            _expect(data, 5, _N)
            row, at = _row(data, 6)
            return Insert(relation, row), at
        case b"U":
            return _update(data)
        case b"D":
            (relation,) = _LENGTH.unpack_from(data, 1)
            kind = _expect(data, 5, _K, _O)
            before, at = _row(data, 6)
            return Delete(relation, before, kind == _O), at
        case b"B":
            commit, _, xid = _BEGIN.unpack_from(data, 1)
            return Begin(commit, xid), 1 + _BEGIN.size
        case b"C":
            _, commit, end, _ = _END.unpack_from(data, 1)
            return End(commit, end), 1 + _END.size
        case b"R":
            return _relation(data)
        case b"T":
            count, _ = _TRUNCATE.unpack_from(data, 1)
            at = 1 + _TRUNCATE.size
            return Truncate(struct.unpack_from(f">{count}I", data, at)), at + 4 * count
        case b"M":
            flags, _ = _NOTED.unpack_from(data, 1)
            prefix, at = _name(data, 1 + _NOTED.size)
            content, at = _bytes(data, at)
            return Noted(bool(flags & 1), prefix, content), at
        case b"O" | b"Y":
            return None, len(data)
        case _:
            raise BackendError(f"the server's log has a message of an unknown type {data[:1]!r}")


def _update(data: bytes) -> tuple[Update, int]:
    (relation,) = _LENGTH.unpack_from(data, 1)
    kind, at, before = _expect(data, 5, _K, _O, _N), 6, None
    if kind != _N:
        before, at = _row(data, at)
        _expect(data, at, _N)
        at += 1
    row, at = _row(data, at)
    return Update(relation, row, before, kind == _O), at


def _expect(data: bytes, at: int, *kinds: int) -> int:
    if data[at] not in kinds:
        raise BackendError(
            f"the server's log could not be read: a message of type {data[:1]!r} has {data[at : at + 1]!r} at byte {at}"
        )
    return data[at]


def _row(data: bytes, at: int) -> tuple[Row, int]:
    (count,) = _COUNT.unpack_from(data, at)
    at += 2
    values: list[Value] = []
    for _ in range(count):
        kind = data[at]
        at += 1
        if kind == _BINARY:
            value, at = _bytes(data, at)
            values.append(value)
        elif kind == _NULL:
            values.append(None)
        elif kind == _TOAST:
            values.append(UNCHANGED)
        elif kind == _TEXT:
            value, at = _bytes(data, at)
            values.append(Text(value))
        else:
            raise BackendError(
                f"the server's log could not be read: a value of an unknown kind {bytes([kind])!r} at byte {at - 1}"
            )
    return tuple(values), at


def _bytes(data: bytes, at: int) -> tuple[bytes, int]:
    (length,) = _LENGTH.unpack_from(data, at)
    at += 4
    end = at + length
    if end > len(data):
        raise _cut(data)
    return data[at:end], end


def _name(data: bytes, at: int) -> tuple[str, int]:
    end = data.find(b"\0", at)
    if end < 0:
        raise _cut(data)
    return data[at:end].decode(), end + 1


def _relation(data: bytes) -> tuple[Relation, int]:
    (oid,) = _LENGTH.unpack_from(data, 1)
    schema, at = _name(data, 5)
    name, at = _name(data, at)
    identity = chr(data[at])
    (count,) = _COUNT.unpack_from(data, at + 1)
    at += 3
    columns = []
    for _ in range(count):
        key = data[at] & 1 == 1
        column, at = _name(data, at + 1)
        kind, modifier = _COLUMN.unpack_from(data, at)
        at += _COLUMN.size
        columns.append(Column(column, kind, modifier, key))
    return Relation(oid, schema or "pg_catalog", name, identity, tuple(columns)), at
