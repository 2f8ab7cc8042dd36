"""The vectors that a collection was searched for last, to measure recall by what people ask."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from likewise.abc.validation import check_query
from likewise.errors import InvalidArgument
from likewise.schema import CollectionSpec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from likewise.records import VectorInput

__all__ = ["RecentQueries"]

#: How many are kept of each vector of the collection.
MOST = 200


class RecentQueries:
    """The latest queries by the name of their vector; safe to use from several threads, for a deque is."""

    def __init__(self) -> None:
        self._kept: dict[str, deque[NDArray[np.float32]]] = {}

    def add(self, name: str, query: NDArray[np.float32]) -> None:
        """Keep a query of this vector; the one that was asked longest ago makes room."""
        kept = self._kept.get(name)
        if kept is None:
            kept = self._kept.setdefault(name, deque(maxlen=MOST))
        # One search may be several of the backend's.
        if not kept or not (kept[-1] == query).all():
            kept.append(query)

    def chosen(
        self,
        queries: Sequence[VectorInput] | NDArray[np.floating[Any]] | Literal["recent"],
        spec: CollectionSpec,
        using: str | None,
    ) -> list[NDArray[np.float32]]:
        """The queries that are given, checked, or those that are kept; ``InvalidArgument`` if there are none."""
        name, _ = spec.vector_field(using)
        if isinstance(queries, str):
            if queries != "recent":
                raise InvalidArgument(f"queries is {queries!r:.80}; it must be vectors, or 'recent'")
            kept = list(self._kept.get(name, ()))
            if not kept:
                raise InvalidArgument(
                    f"collection {spec.name!r} has not been searched yet by this object, so there are no recent queries: give vectors"
                )
            return kept
        given = [check_query(vector, spec, using)[2] for vector in queries]
        if not given:
            raise InvalidArgument("queries is empty; give at least one vector")
        return given
