"""The vectors that a search is to look among: those of a filter's rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from likewise.backends.faiss._library import selector

__all__ = ["Places", "Selection"]


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
            self._selector = selector(self.rows)
        return self._selector


class Selection:
    """Vectors to search among: places in the graph, and rows of the tail."""

    __slots__ = ("_base", "_bits", "main", "parameters", "tail")

    def __init__(self, main: Places, tail: Places, base: int) -> None:
        self.main = main
        self.tail = tail
        self._base = base
        self._bits: NDArray[np.uint8] | None = None
        #: For the graph, by how many candidates it is to look at.
        self.parameters: dict[int, Any] = {}

    def __len__(self) -> int:
        return len(self.main) + len(self.tail)

    @property
    def bits(self) -> NDArray[np.uint8]:
        """A bit for each place in the graph."""
        if self._bits is None:
            members = np.zeros(self._base, np.bool_)
            members[self.main.rows] = True
            self._bits = np.packbits(members, bitorder="little")
        return self._bits
