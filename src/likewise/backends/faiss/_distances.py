"""Distances in float64, as ``likewise.metrics`` has them; those of equal vectors are equal."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from likewise.metrics import Metric

__all__ = ["distances", "lengths"]

# Row by row, so that equal rows give equal products wherever they are, which a product of matrices does not promise. NumPy 2 has it, four times as quick.
_vecdot: Any = getattr(np, "vecdot", None)


def _inner(rows: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    """The inner product of each row and a vector, or of each row and the same row of another array."""
    if _vecdot is not None:
        return np.asarray(_vecdot(rows, other))
    return np.asarray(np.einsum("ij,j->i" if other.ndim == 1 else "ij,ij->i", rows, other))


def lengths(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """The length of each row."""
    return np.asarray(np.sqrt(_inner(vectors, vectors)))


def distances(
    metric: Metric, query: NDArray[np.float64], vectors: NDArray[np.float64], lengths_: NDArray[np.float64] | None
) -> NDArray[np.float64]:
    """The distance of each row from a query, by the rows' ``lengths`` where they are known already."""
    if metric is Metric.L2:
        return np.asarray(np.linalg.norm(vectors - query, axis=1))
    dots = _inner(vectors, query)
    if metric is Metric.INNER_PRODUCT:
        return -dots
    products = (lengths(vectors) if lengths_ is None else lengths_) * math.sqrt(query.dot(query))
    return np.asarray(1.0 - np.minimum(np.maximum(dots / products, -1.0), 1.0))
