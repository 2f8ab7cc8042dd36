"""What ``insert``, ``upsert`` and ``load`` take, in pieces: records from any iterable, rows by column, tables of other libraries.

Also how far a load is, and how its input is found again where an earlier call left it. Pure functions over values.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TypeAlias

from likewise._json import text_problem
from likewise.abc.columns import Columns
from likewise.abc.frames import columns_of_frame, frame_kind
from likewise.abc.validation import MAX_ID_LENGTH, as_ids, as_records, chunks
from likewise.errors import InvalidArgument
from likewise.records import Record

__all__ = ["LoadMark", "Piece", "check_token", "is_held", "last_id", "piece_size", "pieces", "pieces_after"]

#: Rows of the input that lie together.
Piece: TypeAlias = "Columns | list[Record]"


@dataclass(frozen=True, slots=True)
class LoadMark:
    """How far a load is: how many records of its input are done, the id of the last of them, and whether the input has ended."""

    position: int
    last_id: str | None
    finished: bool


def is_held(records: object) -> bool:
    """Whether all rows are in memory, so that drawing them runs nothing of the caller's."""
    return isinstance(records, Record | Columns | list | tuple) or frame_kind(records) in (
        "arrow table",
        "pandas",
        "polars",
    )


def pieces(records: object, size: int, start: int = 0) -> Iterator[Piece]:
    """The rows from the one at ``start``, in pieces of at most ``size``."""
    if isinstance(records, Columns):
        yield from _cut(records.part(start, len(records)), size)
    elif frame_kind(records) is not None:
        for columns in columns_of_frame(records, start):
            yield from _cut(columns, size)
    else:
        yield from chunks(islice(as_records(records), start, None), size)


def _cut(columns: Columns, size: int) -> Iterator[Columns]:
    for low in range(0, len(columns), size):
        yield columns.part(low, low + size)


def pieces_after(mark: LoadMark, records: object, size: int) -> Iterator[Piece]:
    """The rows after those that are done, once it is certain that the last of these is where it was."""
    if not mark.position:
        yield from pieces(records, size)
        return
    first = True
    for piece in pieces(records, size, mark.position - 1):
        if not first:
            yield piece
            continue
        first = False
        found = last_id(piece[:1] if isinstance(piece, list) else piece.part(0, 1))
        if found != mark.last_id:
            raise InvalidArgument(
                f"this is another input than the one that was being loaded: record {mark.position - 1} was {mark.last_id!r:.80}, now it is "
                f"{found!r:.80}; give the same records in the same order, or another token"
            )
        rest = piece[1:] if isinstance(piece, list) else piece.part(1, len(piece))
        if len(rest):
            yield rest
    if first:
        raise InvalidArgument(
            f"this is another input than the one that was being loaded: {mark.position:,} records of it are done, and it has fewer now; "
            "give the same records in the same order, or another token"
        )


def last_id(piece: Piece) -> str | None:
    """The id of the last row, as far as it can be stored."""
    if isinstance(piece, Columns):
        record_id: object = piece.ids[len(piece) - 1]
    else:
        record: object = piece[-1]
        record_id = record.id if isinstance(record, Record) else None
    if not isinstance(record_id, str) or text_problem(record_id):
        return None
    return str.__str__(record_id)[:MAX_ID_LENGTH]


def piece_size(part_rows: int, most: int) -> int:
    """The size of pieces of at most ``most`` rows, several of which make a part of at most ``part_rows``."""
    return part_rows // -(-part_rows // most)


def check_token(token: object) -> str:
    """The token of a load, if it is a text of 1 to 450 characters that can be stored."""
    if not isinstance(token, str) or not 0 < len(token) <= MAX_ID_LENGTH:
        raise InvalidArgument(f"token is {token!r:.80}; it must be a text of 1 to {MAX_ID_LENGTH} characters")
    return as_ids(token)[0]
