"""Exact search: every distance computed in float64 from the stored float32, and reciprocal rank fusion."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from likewise._deadline import check_deadline
from likewise.abc.validation import Prepared
from likewise.metrics import Metric

__all__ = ["fuse", "fusion_depth", "nearest"]

_RRF_CONSTANT = 60
_BATCH = 4_096


def nearest(
    rows: Sequence[Prepared], name: str, query: NDArray[np.float32], metric: Metric, top_k: int
) -> list[tuple[float, Prepared]]:
    """The ``top_k`` rows nearest by their vector of this name, with their distances, in the order of distance and id."""
    having = [row for row in rows if name in row.vectors]
    found: list[tuple[float, Prepared]] = []
    for start in range(0, len(having), _BATCH):
        check_deadline()
        part = having[start : start + _BATCH]
        vectors = np.stack([row.vectors[name] for row in part]).astype(np.float64)
        found += zip(_distances(vectors, query.astype(np.float64), metric).tolist(), part, strict=True)
    found.sort(key=lambda pair: (pair[0], pair[1].id))
    return found[:top_k]


def _distances(vectors: NDArray[np.float64], query: NDArray[np.float64], metric: Metric) -> NDArray[np.float64]:
    distances: NDArray[np.float64]
    match metric:
        case Metric.L2:
            distances = np.linalg.norm(vectors - query, axis=1)
        case Metric.INNER_PRODUCT:
            distances = -np.einsum("ij,j->i", vectors, query)
        case Metric.COSINE:
            norms = np.linalg.norm(vectors, axis=1) * np.linalg.norm(query)
            distances = 1.0 - np.clip(np.einsum("ij,j->i", vectors, query) / norms, -1.0, 1.0)
    return distances


def fusion_depth(top_k: int) -> int:
    """How many records each ranking of a fused search holds."""
    return max(100, 5 * top_k)


def fuse(
    rankings: Mapping[str, Iterable[Prepared]], weights: Mapping[str, float], top_k: int
) -> list[tuple[float, Prepared]]:
    """The ``top_k`` rows of all rankings with their scores, in the order of score, best first, and id."""
    parts: dict[str, list[float]] = {}
    rows: dict[str, Prepared] = {}
    for name, ranking in rankings.items():
        for rank, row in enumerate(ranking, 1):
            rows[row.id] = row
            parts.setdefault(row.id, []).append(weights[name] / (_RRF_CONSTANT + rank))
    best = sum(weights.values()) / (_RRF_CONSTANT + 1)
    fused = [(min(1.0, sum(parts[i]) / best), row) for i, row in rows.items()]
    fused.sort(key=lambda pair: (-pair[0], pair[1].id))
    return fused[:top_k]
