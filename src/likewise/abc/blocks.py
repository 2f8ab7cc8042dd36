"""Checked rows by column: what a backend that loads in bulk writes. Pure functions over values; no database enters here.

What a record must be is said once, in ``validation.prepare``. Here is the quick way to the same answer for rows in which nothing is
unusual: whole arrays are checked at once, and no Python object is made per number. At the first sign of anything else the rows go through
``prepare``, which accepts them or says what is wrong, and where.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from likewise.abc.columns import Columns
from likewise.abc.embedder import Modality
from likewise.abc.validation import (
    LARGEST,
    LARGEST_HALF,
    MAX_ID_LENGTH,
    SMALLEST_NORM,
    Prepared,
    prepare,
)
from likewise.metrics import Metric
from likewise.records import NOTHING, Record
from likewise.schema import CollectionSpec, VectorField

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Block", "block_of_columns", "block_of_records", "join_blocks", "rows_of_block"]

#: JSON text up to this length holds no integer that is too long to store.
_SHORT_JSON = 900
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


@dataclass(frozen=True, slots=True)
class Block:
    """Rows that have passed every check, by column.

    ``vectors`` holds float32 arrays of shape (rows, dimension) by name. ``missing`` marks, as a Boolean array of shape (rows,), the rows
    that lack a vector (their numbers are zeros); a vector without an entry is in every row.
    """

    ids: Sequence[str]
    vectors: Mapping[str, NDArray[np.float32]]
    missing: Mapping[str, NDArray[np.bool_]]
    metadata: Sequence[str]
    content: Sequence[str | None]
    modality: Sequence[Modality | None] | None
    content_id: Sequence[str | None] | None
    #: What the collection's own vectors were embedded from (``digests``); None if none of them was.
    embedded: Sequence[bytes | None] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, places: Sequence[int]) -> Block:
        """The rows at these places, in their order."""

        def chosen(values: Sequence[Any]) -> list[Any]:
            return [values[i] for i in places]

        return Block(
            chosen(self.ids),
            {name: array[places] for name, array in self.vectors.items()},
            {name: array[places] for name, array in self.missing.items()},
            chosen(self.metadata),
            chosen(self.content),
            None if self.modality is None else chosen(self.modality),
            None if self.content_id is None else chosen(self.content_id),
            None if self.embedded is None else chosen(self.embedded),
        )


def join_blocks(blocks: Sequence[Block]) -> Block:
    """The rows of several blocks of one collection, one after the other."""
    import numpy as np

    if len(blocks) == 1:
        return blocks[0]
    first = blocks[0]
    missing = {
        name: np.concatenate([b.missing.get(name, np.zeros(len(b), np.bool_)) for b in blocks])
        for name in first.vectors
        if any(name in b.missing for b in blocks)
    }
    return Block(
        [i for b in blocks for i in b.ids],
        {name: np.concatenate([b.vectors[name] for b in blocks]) for name in first.vectors},
        missing,
        [m for b in blocks for m in b.metadata],
        [c for b in blocks for c in b.content],
        None if first.modality is None else [m for b in blocks for m in b.modality or ()],
        None if first.content_id is None else [c for b in blocks for c in b.content_id or ()],
        None if all(b.embedded is None for b in blocks) else [e for b in blocks for e in b.embedded or [None] * len(b)],
    )


def rows_of_block(block: Block) -> Iterator[Prepared]:
    """The rows of a block one by one."""
    for i, record_id in enumerate(block.ids):
        vectors = {}
        for name, array in block.vectors.items():
            if name not in block.missing or not block.missing[name][i]:
                vectors[name] = array[i].copy()
                vectors[name].flags.writeable = False
        yield Prepared(
            record_id,
            vectors,
            json.loads(block.metadata[i]),
            block.metadata[i],
            block.content[i],
            None if block.modality is None else block.modality[i],
            None if block.content_id is None else block.content_id[i],
            None if block.embedded is None else block.embedded[i],
        )


# --- from records --------------------------------------------------------------------------------------------------------------


def block_of_records(records: Sequence[Record], spec: CollectionSpec, first: int) -> Block:
    """The records, checked; ``first`` is the position of the first one in the records of the call. Raises what ``prepare`` raises."""
    quick = _quick_records(records, spec)
    if quick is not None:
        return quick
    return _block_of_prepared([prepare(record, spec, first + i) for i, record in enumerate(records)], spec)


def _quick_records(records: Sequence[Record], spec: CollectionSpec) -> Block | None:
    """The block, if every record has one ordinary vector as a numpy array and nothing unusual; None otherwise."""
    if not records or spec.vectors or any(type(r) is not Record or r.vectors for r in records):
        return None
    vectors = _stacked([r.vector for r in records], spec.vector_fields[""])
    if vectors is None:
        return None
    modality: list[Any] = [
        "image" if r.modality is None and spec.multimodal and r.image is not None else r.modality for r in records
    ]
    return _quick_block(
        spec,
        [r.id for r in records],
        {"": vectors},
        [r.metadata for r in records],
        [r.content for r in records],
        modality,
        [r.content_id for r in records],
    )


def _quick_block(
    spec: CollectionSpec,
    ids: list[Any],
    vectors: Mapping[str, NDArray[np.float32]],
    given_metadata: list[Any] | None,
    content: list[Any],
    modality: list[Any],
    content_id: list[Any],
) -> Block | None:
    metadata = ["{}"] * len(ids) if given_metadata is None else _quick_metadata(given_metadata)
    if metadata is None or not _quick_ids(ids) or not _quick_texts(content):
        return None
    if not spec.multimodal:
        if any(m is not None for m in modality) or any(c is not None for c in content_id):
            return None
        return Block(ids, vectors, NOTHING, metadata, content, None, None)
    modality = ["text" if m is None else m for m in modality]
    if not _quick_texts(content_id) or any(type(m) is not str or m not in ("text", "image") for m in modality):
        return None
    about = [i if c is None else c for i, c in zip(ids, content_id, strict=True)]
    return Block(ids, vectors, NOTHING, metadata, content, modality, about)


def _stacked(vectors: Sequence[object], field: VectorField) -> NDArray[np.float32] | None:
    import numpy as np

    arrays: list[NDArray[Any]] = []
    shape = (field.dimension,)
    for vector in vectors:
        if not isinstance(vector, np.ndarray) or vector.shape != shape or vector.dtype.kind != "f":
            return None
        arrays.append(vector)
    return _quick_numbers(np.concatenate(arrays).reshape(len(arrays), field.dimension), field)


def _quick_numbers(given: NDArray[Any], field: VectorField) -> NDArray[np.float32] | None:
    """The numbers as they are stored, if all of them are finite, none is too large, and no vector is too near zero."""
    import numpy as np

    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        numbers = given.astype(np.float32, copy=False)
        if field.storage == "halfvec":
            if not float(np.abs(numbers).max(initial=0.0)) <= LARGEST_HALF:
                return None
            numbers = numbers.astype(np.float16).astype(np.float32)
        # A sum of squares in range proves that every number is finite and none too large or all too small.
        squares = np.einsum("ij,ij->i", numbers, numbers)
        smallest = SMALLEST_NORM**2 if field.metric == Metric.COSINE else -1.0
        return numbers if bool(((squares > smallest) & (squares < LARGEST**2)).all()) else None


def _quick_ids(ids: Sequence[object]) -> bool:
    return all(type(i) is str and 0 < len(i) <= MAX_ID_LENGTH for i in ids) and _quick_texts(ids)


def _quick_texts(texts: Sequence[object]) -> bool:
    """Whether all are None or texts that can be stored."""
    try:
        for text in texts:
            if text is not None:
                if type(text) is not str or "\x00" in text:
                    return False
                if not text.isascii():
                    text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _quick_metadata(metadata: Sequence[object]) -> list[str] | None:
    """The JSON texts of flat, short objects; None if any is something else."""
    result: list[str] = []
    for value in metadata:
        if value is NOTHING:
            result.append("{}")
            continue
        if type(value) is not dict or not all(type(key) is str for key in value):
            return None
        try:
            text = _encode(value)
        except (TypeError, ValueError, RecursionError):
            return None
        # One brace: no object within, whose keys might not be text. Not too many brackets: not too deep.
        if len(text) > _SHORT_JSON or text.count("{") > 1 or text.count("[") > 32 or "\\u0000" in text:
            return None
        result.append(text)
    return result if _quick_texts(result) else None


def _block_of_prepared(rows: Sequence[Prepared], spec: CollectionSpec) -> Block:
    import numpy as np

    vectors: dict[str, NDArray[np.float32]] = {}
    missing: dict[str, NDArray[np.bool_]] = {}
    for name, field in spec.vector_fields.items():
        lacking = [name not in row.vectors for row in rows]
        if any(lacking):
            missing[name] = np.array(lacking)
        nothing = np.zeros(field.dimension, np.float32)
        vectors[name] = np.array([row.vectors.get(name, nothing) for row in rows], np.float32).reshape(
            len(rows), field.dimension
        )
    return Block(
        [row.id for row in rows],
        vectors,
        missing,
        [row.metadata_json for row in rows],
        [row.content for row in rows],
        [row.modality for row in rows] if spec.multimodal else None,
        [row.content_id for row in rows] if spec.multimodal else None,
    )


# --- from columns --------------------------------------------------------------------------------------------------------------


def block_of_columns(columns: Columns, spec: CollectionSpec, first: int) -> Block:
    """The rows, checked; ``first`` is the position of the first one in the rows of the call. Raises what ``prepare`` raises."""
    quick = _quick_columns(columns, spec)
    return quick if quick is not None else block_of_records(list(columns.records()), spec, first)


def _quick_columns(columns: Columns, spec: CollectionSpec) -> Block | None:
    import numpy as np

    fields = spec.vector_fields
    if columns.vectors.keys() != fields.keys():
        return None
    vectors: dict[str, NDArray[np.float32]] = {}
    for name, column in columns.vectors.items():
        shape = (len(columns), fields[name].dimension)
        if not isinstance(column, np.ndarray) or column.shape != shape or column.dtype.kind != "f":
            return None
        numbers = _quick_numbers(column, fields[name])
        if numbers is None:
            return None
        vectors[name] = numbers
    rows = len(columns)
    return _quick_block(
        spec,
        _plain_column(columns.ids, rows),
        vectors,
        None if columns.metadata is None else _plain_column(columns.metadata, rows),
        _plain_column(columns.content, rows),
        _plain_column(columns.modality, rows),
        _plain_column(columns.content_id, rows),
    )


def _plain_column(column: Any, rows: int) -> list[Any]:
    """A column as a list of Python's own values; as many None where it is not given."""
    if column is None:
        return [None] * rows
    return column.tolist() if hasattr(column, "tolist") else list(column)
