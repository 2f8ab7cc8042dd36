"""Rows in the binary format of COPY, made a block at a time, and which ids of a load were seen before. Pure; no connection.

The format is that of PostgreSQL's documentation of COPY, "Binary Format": a signature, then for each row the number of its fields and each
field with its length, then a trailer. Vectors go from the array to the bytes in one step; no Python object is made per number.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from likewise.abc.blocks import Block
from likewise.backends.postgres._rows import NUMBERS, Element
from likewise.backends.postgres._table import Table

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["COPY_END", "COPY_START", "SeenIds", "pack_block"]

COPY_START = b"PGCOPY\n\xff\r\n\x00" + struct.pack(">ii", 0, 0)
COPY_END = b"\xff\xff"

_NULL = b"\xff\xff\xff\xff"
_length = struct.Struct(">i").pack
_first = struct.Struct(">hi").pack
#: A jsonb value begins with the version of its format.
_jsonb = struct.Struct(">iB").pack


def pack_block(table: Table, block: Block) -> bytes:
    """The rows of a block, with the columns in the order of ``_statements.written``."""
    count = 3 + len(table.vectors) + (2 if table.spec.multimodal else 0) + int(table.embedded)
    ids = [i.encode() for i in block.ids]
    columns: list[Iterable[bytes]] = [[_first(count, len(i)) + i for i in ids]]
    for name, _, element in table.vectors:
        columns.append(_pack_vectors(block.vectors[name], block.missing.get(name), element))
    metadata = [m.encode() for m in block.metadata]
    columns.append([_jsonb(len(m) + 1, 1) + m for m in metadata])
    columns.append(_pack_texts(block.content))
    if table.spec.multimodal:
        columns.append(_pack_texts(block.modality or ()))
        columns.append(_pack_texts(block.content_id or ()))
    if table.embedded:
        digests = block.embedded or [None] * len(block)
        columns.append([_NULL if d is None else _length(len(d)) + d for d in digests])
    return b"".join(chain.from_iterable(zip(*columns, strict=True)))


def _pack_texts(texts: Sequence[str | None]) -> list[bytes]:
    encoded = [None if t is None else t.encode() for t in texts]
    return [_NULL if t is None else _length(len(t)) + t for t in encoded]


def _pack_vectors(vectors: NDArray[np.float32], missing: NDArray[np.bool_] | None, element: Element) -> list[bytes]:
    rows, dimension = vectors.shape
    numbers = vectors.astype(NUMBERS[element])
    size = numbers.itemsize * dimension
    fields = np.empty((rows, 8 + size), np.uint8)
    fields[:, :8] = np.frombuffer(struct.pack(">iHH", 4 + size, dimension, 0), np.uint8)
    fields[:, 8:] = numbers.view(np.uint8)
    data = fields.tobytes()
    packed = [data[at : at + 8 + size] for at in range(0, len(data), 8 + size)]
    if missing is not None:
        for row in np.flatnonzero(missing):
            packed[row] = _NULL
    return packed


class SeenIds:
    """Which ids of a load came before, in 8 bytes an id: hashes, sorted in runs that are merged as they grow.

    Two ids may have the same hash, so that "seen" means "perhaps seen"; "not seen" is certain.
    """

    def __init__(self) -> None:
        self._recent: set[int] = set()
        self._runs: list[NDArray[np.int64]] = []

    def repeated(self, ids: Sequence[str]) -> list[int]:
        """The places of ids that were perhaps given before, here or earlier; all of them are seen from now on."""
        hashes = [hash(i) for i in ids]
        places = set()
        for place, value in enumerate(hashes):
            if value in self._recent:
                places.add(place)
            else:
                self._recent.add(value)
        if self._runs:
            wanted = np.array(hashes, np.int64)
            for run in self._runs:
                at = np.minimum(np.searchsorted(run, wanted), len(run) - 1)
                places.update(np.flatnonzero(run[at] == wanted).tolist())
        if len(self._recent) >= _RUN:
            self._runs.append(np.sort(np.fromiter(self._recent, np.int64, len(self._recent))))
            self._recent.clear()
            while len(self._runs) > 1 and len(self._runs[-2]) <= 2 * len(self._runs[-1]):
                self._runs[-2:] = [np.sort(np.concatenate(self._runs[-2:]))]
        return sorted(places)


_RUN = 1 << 16
