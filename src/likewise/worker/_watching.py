"""What the worker knows of watched tables and says to the database about them. Pure: no connection and no model enters here.

The short statements are the files in ``sql/``; here are their names, those that are composed, and the records that a row becomes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from psycopg import sql

from likewise.abc.blocks import Block
from likewise.backends.postgres._rows import BinaryParameter
from likewise.backends.postgres._table import Table
from likewise.records import Record

if TYPE_CHECKING:
    from likewise.abc.embedder import ImageInput

__all__ = [
    "Entry",
    "Prepared",
    "Row",
    "Verdict",
    "Watch",
    "delays",
    "delete_ids",
    "judge",
    "lock_vectors",
    "pack_texts",
    "page_of_ids",
    "record_ids",
    "records_of",
    "said",
    "stored_digests",
]

_IMAGE, _TEXT = "#image", "#text"
_ARRAY_HEADER = struct.Struct(">iiIii")
_length = struct.Struct(">i").pack
_TEXT_OID = 25


@cache
def said(name: str) -> bytes:
    """The text of a statement under ``sql/``."""
    return files("likewise.worker").joinpath("sql", f"{name}.sql").read_bytes()


@dataclass(frozen=True, slots=True)
class Watch:
    """A watched table as ``sql/watches.sql`` has it, and what there is to do."""

    id: int
    name: str
    schema_name: str
    model: str
    #: Whether it has an expression for pictures.
    pictures: bool
    #: Whether an error is stored with it.
    troubled: bool
    #: Of the comparison of all rows that is to be done, None if there is none.
    stage: str | None
    round: int | None
    #: Whether there is anything in its queue.
    waiting: bool

    @property
    def collection(self) -> str:
        """The name of the collection that has its vectors."""
        return f"{self.name}_embeddings"


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of the queue: ``key`` None asks for a comparison of all rows, ``attempt`` is how often the row has failed before."""

    id: int
    key: str | None
    attempt: int


@dataclass(slots=True)
class Row:
    """A row of a watched table as its expressions make it; ``address`` is a path or URL that ``image`` is to be read from."""

    key: str
    content: str | None
    image: bytes | None
    address: str | None
    fingerprint: bytes


@dataclass(slots=True)
class Prepared:
    """Rows that were read and embedded, before they are written.

    ``keys`` are those asked for; ``fingerprints`` has those that were there, ``unread`` those whose expressions failed; ``ids`` says which
    records each row that is there is to have, and ``errors`` what of it could not be made.
    """

    keys: Sequence[str]
    fingerprints: Mapping[str, bytes]
    unread: Mapping[str, str]
    ids: dict[str, set[str]] = field(default_factory=dict)
    blocks: list[Block] = field(default_factory=list)
    errors: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is to be written, now that the rows were looked at again.

    ``sound`` rows are as they were when they were embedded, ``gone`` ones are no longer there, and the vectors of ``unread`` ones are of what
    they were before. ``moved`` rows have changed again, or their expressions give something else each time; nothing of theirs is written.
    """

    sound: set[str]
    gone: set[str]
    unread: set[str]
    moved: set[str]


def judge(prepared: Prepared, now: Mapping[str, bytes], unread: Iterable[str]) -> Verdict:
    """Compare what was prepared with the fingerprints that the rows have now, while nobody else may write their vectors."""
    unreadable = set(unread)
    verdict = Verdict(set(), set(), set(), set())
    for key in prepared.keys:
        if key in unreadable:
            (verdict.unread if key in prepared.unread else verdict.moved).add(key)
        elif key not in now:
            verdict.gone.add(key)
        elif now[key] == prepared.fingerprints.get(key):
            verdict.sound.add(key)
        else:
            verdict.moved.add(key)
    return verdict


def record_ids(key: str, *, multimodal: bool) -> tuple[str, ...]:
    """The ids of a row's text and of its picture, which only a multimodal collection has.

    No two rows have one in common, whatever their keys: one that ends as the id of a picture does gets another ending for its text.
    """
    if not multimodal:
        return (key,)
    return (key + _TEXT if key.endswith((_IMAGE, _TEXT)) else key), key + _IMAGE


def records_of(row: Row, image: ImageInput | None, *, multimodal: bool) -> list[Record]:
    """The records that a row becomes: one for its text and one for its picture, as far as it has them. Blank text has nothing to find."""
    ids = record_ids(row.key, multimodal=multimodal)
    about = row.key if multimodal else None
    found = []
    if row.content is not None and row.content.strip():
        found.append(Record(ids[0], content=row.content, modality="text" if multimodal else None, content_id=about))
    if image is not None:
        found.append(Record(ids[-1], image=image, modality="image", content_id=about))
    return found


def delays(attempts: Sequence[int], *, most: int, first: float, longest: float) -> list[float | None]:
    """Seconds until rows that have failed so often are tried again, each wait four times the last; None after ``most`` times."""
    return [None if n >= most else min(longest, first * 4.0 ** (n - 1)) for n in attempts]


def pack_texts(texts: Sequence[str]) -> BinaryParameter:
    """An array of text as a parameter, several times as quick as the driver makes it."""
    parts = [_ARRAY_HEADER.pack(1, 0, _TEXT_OID, len(texts), 1) if texts else struct.pack(">iiI", 0, 0, _TEXT_OID)]
    for text in texts:
        data = text.encode()
        parts.append(_length(len(data)))
        parts.append(data)
    return BinaryParameter(b"".join(parts))


def lock_vectors(table: Table) -> sql.Composed:
    """Keeps the table of vectors from being dropped, or another from taking its name, until the transaction ends."""
    return sql.SQL("LOCK TABLE {} IN ROW EXCLUSIVE MODE").format(table.name)


def stored_digests(table: Table) -> sql.Composed:
    """What the vectors of some records were embedded from."""
    return sql.SQL("SELECT id, embedded FROM {} WHERE id = ANY (%(ids)s::text[])").format(table.name)


def delete_ids(table: Table) -> sql.Composed:
    """Deletes records that are of nothing any more."""
    return sql.SQL("DELETE FROM {} WHERE id = ANY (%(ids)s::text[])").format(table.name)


def page_of_ids(table: Table) -> sql.Composed:
    """Ids after an id, in order, with the keys that they are of."""
    return sql.SQL(
        "SELECT id, {0} AS key FROM {1} WHERE %(after)s::text IS NULL OR {2} > %(after)s ORDER BY {2} LIMIT %(most)s"
    ).format(sql.Identifier("content_id" if table.spec.multimodal else "id"), table.name, table.order)
