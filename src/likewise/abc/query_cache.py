"""Remembers the vectors of the latest queries, for people search for the same again: a model takes milliseconds, this microseconds."""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from likewise.abc.embedder import Embedder

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["QueryCache", "QueryCacheUsage", "cache_of"]

#: How many queries are remembered for a model, and how long one may be.
MOST_QUERIES = 1_000
LONGEST = 1_000


@dataclass(frozen=True, slots=True)
class QueryCacheUsage:
    """What the queries remembered in a database did for a store, since it was opened.

    ``hits`` were found there and ``misses`` were not; ``stored`` were put there. ``failures`` counts how often it could not be read or
    written, which fails no search; ``last_failure`` says why, and is empty if there was none.
    """

    hits: int = 0
    misses: int = 0
    stored: int = 0
    failures: int = 0
    last_failure: str = ""


class QueryCache:
    """The vectors of the queries that were asked last, of one model; safe to use from several threads."""

    def __init__(self, most: int = MOST_QUERIES) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._known: OrderedDict[str, NDArray[np.float32]] = OrderedDict()

    def get(self, text: str) -> NDArray[np.float32] | None:
        """The query's vector of shape (dimension,), None if it is not remembered."""
        with self._lock:
            vector = self._known.get(text)
            if vector is not None:
                self._known.move_to_end(text)
            return vector

    def put(self, text: str, vector: NDArray[np.float32]) -> None:
        """Remember the query's vector, which nobody may change; the query that was asked longest ago makes room. Long texts are not kept."""
        if len(text) > LONGEST:
            return
        with self._lock:
            self._known[text] = vector
            self._known.move_to_end(text)
            if len(self._known) > self._most:
                self._known.popitem(last=False)

    def __len__(self) -> int:
        return len(self._known)


_lock = threading.Lock()
#: By the embedder's identity, for an embedder need not be hashable.
_caches: dict[int, QueryCache] = {}


def cache_of(embedder: Embedder) -> QueryCache:
    """The cache of this embedder, one for all collections that use it; it goes when the embedder does."""
    key = id(embedder)
    with _lock:
        if key not in _caches:
            _caches[key] = QueryCache()
            weakref.finalize(embedder, _caches.pop, key, None).atexit = False
        return _caches[key]
