"""Records on their way from a model to a backend: what lies together once those that cannot be embedded are left out. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from likewise._json import text_problem
from likewise.abc.blocks import Block, block_of_columns, block_of_records
from likewise.abc.columns import Columns
from likewise.abc.embedder import ModelCard
from likewise.abc.sources import Piece
from likewise.abc.validation import MAX_ID_LENGTH, Prepared, prepare
from likewise.errors import InvalidRecord, LikewiseError, ModelNotAvailable
from likewise.records import Record
from likewise.schema import CollectionSpec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Run", "checked_rows", "refusal", "runs", "split", "storable_id"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Run:
    """Rows of an input that lie together: the place of the first, and of each the digest of what its vector was embedded from.

    ``digests`` is None if there is no such vector among them.
    """

    piece: Piece
    position: int
    digests: Sequence[bytes | None] | None = None

    def __len__(self) -> int:
        return len(self.piece)

    def part(self, low: int, high: int) -> Run:
        """The rows from ``low`` up to ``high``."""
        piece = self.piece.part(low, high) if isinstance(self.piece, Columns) else self.piece[low:high]
        return Run(piece, self.position + low, None if self.digests is None else self.digests[low:high])

    def as_records(self) -> Run:
        """The same, its rows as records."""
        return replace(self, piece=list(self.piece.records())) if isinstance(self.piece, Columns) else self

    def blocks(self, spec: CollectionSpec, size: int) -> Iterator[Block]:
        """The rows, checked, in blocks of at most ``size``; raises what ``prepare`` raises."""
        for low in range(0, len(self), size):
            part = self.part(low, low + size)
            if isinstance(part.piece, Columns):
                yield block_of_columns(part.piece, spec, part.position)
            else:
                yield replace(block_of_records(part.piece, spec, part.position), embedded=part.digests)

    def prepared(self, spec: CollectionSpec) -> list[Prepared]:
        """The rows, checked, one by one; raises what ``prepare`` raises."""
        records = self.as_records().piece
        digests = self.digests or [None] * len(self)
        assert not isinstance(records, Columns)
        rows = [prepare(record, spec, self.position + i) for i, record in enumerate(records)]
        return [replace(row, embedded=digest) for row, digest in zip(rows, digests, strict=True)]


def runs(
    records: Sequence[Record], digests: Sequence[bytes | None], position: int, without: Collection[int]
) -> Iterator[Run]:
    """The records in runs, without those at some places; the first record's place in the input is ``position``."""
    start = 0
    for end in (*sorted(without), len(records)):
        if end > start:
            yield Run(list(records[start:end]), position + start, digests[start:end])
        start = end + 1


def storable_id(record: Record) -> str | None:
    """The record's id, if it is one that can be in a collection."""
    record_id: object = record.id
    if not isinstance(record_id, str) or not 0 < len(record_id) <= MAX_ID_LENGTH or text_problem(record_id):
        return None
    return str.__str__(record_id)


def split(part: list[T], position: int | None) -> list[list[T]]:
    """What to try in place of a part that a model refused, what is tried first last: the one to blame alone, else halves."""
    if position is not None and 0 <= position < len(part):
        return [piece for piece in (part[position + 1 :], part[:position], [part[position]]) if piece]
    half = len(part) // 2
    return [part[half:], part[:half]]


def checked_rows(rows: Any, count: int, card: ModelCard) -> NDArray[np.float32]:
    """What a model gave for ``count`` texts or pictures; ``ModelNotAvailable`` if it is not a row for each."""
    import numpy as np

    array = np.asarray(rows)
    if array.ndim != 2 or len(array) != count:
        raise ModelNotAvailable(
            f"{card.name} gives what it should not: an array of shape {array.shape} for {count} texts or pictures; it must have a row for each",
            model=card.name,
        )
    return array


def refusal(record: Record, position: int, kind: Literal["text", "image"], error: LikewiseError) -> InvalidRecord:
    """A model's refusal of one text or picture as an error about its record."""
    record_id = storable_id(record)
    what = "text" if kind == "text" else "picture"
    said, count = re.subn(r"\A(?:text|picture) \d+\b", f"its {what}", str(error))
    if not count:
        said = f"its {what} cannot be embedded: {error}"
    who = f"record {position}" if record_id is None else f"record {record_id!r:.80} (number {position})"
    return InvalidRecord(f"{who}: {said}", record_id=record_id, position=position)
