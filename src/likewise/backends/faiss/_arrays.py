"""Arrays that grow at their end, and vectors that were divided by their length and can be had back as they were."""

from __future__ import annotations

import mmap
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Growing", "Scaled", "apart"]


class Growing:
    """An array that rows are appended to. What was read stays as it was: rows are not moved about in it."""

    def __init__(self, row: tuple[int, ...], kind: Any) -> None:
        self._data = np.empty((0, *row), kind)
        self.count = 0

    @property
    def rows(self) -> NDArray[Any]:
        """The rows, as a view."""
        return self._data[: self.count]

    @property
    def capacity(self) -> int:
        """The bytes that are reserved."""
        return int(self._data.nbytes)

    def append(self, rows: NDArray[Any]) -> None:
        """Add rows at the end, growing by a quarter where there is no room."""
        wanted = self.count + len(rows)
        if wanted > len(self._data):
            grown = np.empty((max(wanted, self.count + self.count // 4 + 64), *self._data.shape[1:]), self._data.dtype)
            grown[: self.count] = self.rows
            self._data = grown
        self._data[self.count : wanted] = rows
        self.count = wanted


def apart(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """A copy in memory of its own, all of which goes back to the system when the copy is let go.

    The C library keeps what is freed of blocks up to 32 MB if anything above it is still used: half as much again as the index at 200,000.
    """
    copy = np.frombuffer(mmap.mmap(-1, max(1, vectors.nbytes)), np.float32, vectors.size).reshape(vectors.shape)
    copy[:] = vectors
    return copy


class Scaled:
    """What gives vectors back bit for bit that are held divided by their length: the length, and what rounding changed.

    ``float32(v / length) * length`` is wrong by at most one unit in the last place, so two bits for each number put it right: 1/16 of a vector.
    A vector of numbers too small for that is kept whole. Nothing is held as long as every vector was of length 1.
    """

    def __init__(self, dimension: int) -> None:
        self._dimension = dimension
        self.norms: Growing | None = None
        self.fixes = Growing(((dimension + 3) // 4,), np.uint8)
        self.whole: dict[int, NDArray[np.float32]] = {}

    def even(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Note vectors that stay as they are."""
        if self.norms is not None:
            self.norms.append(np.ones(len(vectors)))
            self.fixes.append(np.zeros((len(vectors), *self.fixes.rows.shape[1:]), np.uint8))
        return vectors

    def append(self, vectors: NDArray[np.float32], norms: NDArray[np.float64], first: int) -> NDArray[np.float32]:
        """The vectors from place ``first`` on, divided by these lengths; those whose length is 1 stay as they are."""
        if self.norms is None:
            self.norms = Growing((), np.float64)
            self.norms.append(np.ones(first))
            self.fixes.append(np.zeros((first, *self.fixes.rows.shape[1:]), np.uint8))
        held = (vectors / norms[:, None]).astype(np.float32)
        wrong = vectors.view(np.int32).astype(np.int64) - _scaled(held, norms).view(np.int32)
        for row in np.flatnonzero((np.abs(wrong) > 1).any(axis=1)).tolist():
            self.whole[first + row] = vectors[row].copy()
            wrong[row] = 0
        self.norms.append(norms)
        self.fixes.append(_pack(wrong))
        return held

    def given(self, held: NDArray[np.float32], places: NDArray[np.int64]) -> NDArray[np.float32]:
        """The vectors of these places as they were given, of what is held for them."""
        if self.norms is None:
            return held
        norms = self.norms.rows[places]
        wrong = _unpack(self.fixes.rows[places], self._dimension)
        vectors = (_scaled(held, norms).view(np.int32) + wrong).view(np.float32)
        if self.whole:
            for row, place in enumerate(places.tolist()):
                if place in self.whole:
                    vectors[row] = self.whole[place]
        return np.where(norms[:, None] == 1.0, held, vectors)

    def picked(self, places: NDArray[np.int64]) -> Scaled:
        """The same of some vectors, in this order."""
        other = Scaled(self._dimension)
        if self.norms is not None:
            whole = {
                new: self.whole[old]
                for new, old in enumerate(places.tolist() if self.whole else ())
                if old in self.whole
            }
            other.restore(len(places), self.norms.rows[places], self.fixes.rows[places], whole)
        return other

    def restore(
        self,
        count: int,
        norms: NDArray[np.float64] | None,
        fixes: NDArray[np.uint8] | None,
        whole: dict[int, NDArray[np.float32]],
    ) -> None:
        """Become what was kept. ``ValueError`` where the parts do not fit."""
        if norms is None or fixes is None:
            return
        if norms.shape != (count,) or fixes.shape != (count, *self.fixes.rows.shape[1:]):
            raise ValueError("lengths of vectors are missing")
        self.norms = Growing((), np.float64)
        self.norms.append(norms)
        self.fixes.append(fixes)
        self.whole = whole

    @property
    def memory(self) -> int:
        """The bytes that are held."""
        norms = 0 if self.norms is None else self.norms.capacity
        return norms + self.fixes.capacity + sum(vector.nbytes + 100 for vector in self.whole.values())


def _scaled(held: NDArray[np.float32], norms: NDArray[np.float64]) -> NDArray[np.float32]:
    return np.asarray((held.astype(np.float64) * norms[:, None]).astype(np.float32))


def _pack(wrong: NDArray[np.int64]) -> NDArray[np.uint8]:
    """-1, 0 and 1 as two bits each: 2, 0 and 1."""
    rows, dimension = wrong.shape
    bits = np.zeros((rows, (dimension + 3) // 4 * 4), np.uint8)
    bits[:, :dimension] = wrong % 3
    fours = bits.reshape(rows, bits.shape[1] // 4, 4)
    four = fours[:, :, 0] | fours[:, :, 1] << 2 | fours[:, :, 2] << 4 | fours[:, :, 3] << 6
    return np.asarray(four, np.uint8)


def _unpack(packed: NDArray[np.uint8], dimension: int) -> NDArray[np.int32]:
    bits = (packed[:, :, None] >> np.array([0, 2, 4, 6], np.uint8)) & 3
    wrong = bits.reshape(len(packed), 4 * packed.shape[1])[:, :dimension].astype(np.int32)
    return np.where(wrong == 2, -1, wrong).astype(np.int32)
