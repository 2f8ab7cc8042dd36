"""The vectors that a search is to look among: those of a filter's rows; and comparing some, or all, one by one."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from likewise.backends.faiss._library import library

__all__ = ["Places", "Selection", "nearest"]

#: Where at least this part of so many vectors is to be compared, all are multiplied at once: memory is read faster so than a row at a time.
_AT_ONCE_PART, _AT_ONCE = 0.6, 10_000


class Places:
    """Some rows of an array, ascending, and what FAISS wants to know of them."""

    __slots__ = ("_selector", "rows")

    def __init__(self, rows: NDArray[np.int64]) -> None:
        self.rows = rows
        self._selector: Any = None

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def selector(self) -> Any:
        """Made when it is first asked for."""
        if self._selector is None:
            self._selector = library().IDSelectorArray(self.rows)
        return self._selector


class Selection:
    """Vectors to search among: places in the graph, and rows of the tail, which begins at the place ``first``."""

    __slots__ = ("_base", "_bits", "few", "first", "main", "tail")

    def __init__(self, main: Places, tail: Places, base: int, first: int) -> None:
        self.main = main
        self.tail = tail
        self.first = first
        #: Where they are very few: all of them as they were given, and their lengths, once they have been wanted.
        self.few: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None
        self._base = base
        self._bits: NDArray[np.uint8] | None = None

    def __len__(self) -> int:
        return len(self.main) + len(self.tail)

    @property
    def places(self) -> NDArray[np.int64]:
        """The places of all of them, ascending."""
        return np.concatenate((self.main.rows, self.tail.rows + self.first))

    @property
    def memory(self) -> int:
        """The bytes that are held, or will be when it is used."""
        few = sum(each.nbytes for each in self.few or ())
        return self.main.rows.nbytes + self.tail.rows.nbytes + self._base // 8 + few

    def has(self, places: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of these places in the graph are the selection's."""
        if self._bits is None:
            members = np.zeros(self._base, np.bool_)
            members[self.main.rows] = True
            self._bits = np.packbits(members, bitorder="little")
        return np.asarray(self._bits[places >> 3] >> (places & 7).astype(np.uint8) & 1, np.bool_)


def nearest(
    vectors: NDArray[np.float32], query: NDArray[np.float32], top_k: int, *, l2: bool, among: Places | None
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The ``top_k`` nearest vectors by comparing each, all or those ``among`` them: values, nearest first, and places.

    There must be as many. Values are squared distances, or inner products, as float32 has them. Without the GIL.
    """
    count, dimension = vectors.shape
    if not l2 and count >= _AT_ONCE and (among is None or len(among) >= _AT_ONCE_PART * count):
        with np.errstate(over="ignore", invalid="ignore"):
            products = vectors @ query
        if among is not None:
            products = products[among.rows]
        best = np.argpartition(products, len(products) - top_k)[len(products) - top_k :]
        best = best[np.argsort(-products[best])]
        return products[best], best if among is None else among.rows[best]
    faiss = library()
    values, places = np.empty(top_k, np.float32), np.empty(top_k, np.int64)
    pointer = faiss.swig_ptr
    given = pointer(query), pointer(vectors), dimension, 1, count, top_k, pointer(values), pointer(places)
    selected = None if among is None else among.selector
    if l2:
        faiss.knn_L2sqr(*given, None, selected)
    else:
        faiss.knn_inner_product(*given, selected)
    return values, places
