"""Metrics: what a distance means, and the score and similarity that follow from it. Pure numbers; no vectors, no database."""

from __future__ import annotations

from enum import StrEnum
from typing import assert_never

__all__ = ["Metric", "similarity"]


class Metric(StrEnum):
    """How near two vectors are. A smaller distance is nearer; a larger score is better.

    ============== ======================== ============= =================
    metric         distance d               score         range of distance
    ============== ======================== ============= =================
    cosine         1 - cos(a, b)            1 - d         0 .. 2
    l2             the Euclidean distance   1 / (1 + d)   0 .. infinity
    inner_product  -(a . b)                 -d            any
    ============== ======================== ============= =================

    The distances are those of pgvector's ``<=>``, ``<->`` and ``<#>``.
    """

    COSINE = "cosine"
    L2 = "l2"
    INNER_PRODUCT = "inner_product"

    def score(self, distance: float) -> float:
        """The score of a distance: larger is better."""
        match self:
            case Metric.COSINE:
                return 1.0 - distance
            case Metric.L2:
                return 1.0 / (1.0 + distance)
            case Metric.INNER_PRODUCT:
                return -distance
        assert_never(self)

    def max_distance(self, min_score: float) -> float:
        """The largest distance whose score is still at least ``min_score`` (infinity if every distance's is)."""
        match self:
            case Metric.COSINE:
                return 1.0 - min_score
            case Metric.L2:
                return float("inf") if min_score <= 0 else 1.0 / min_score - 1.0
            case Metric.INNER_PRODUCT:
                return -min_score
        assert_never(self)

    def similarity(self, distance: float) -> float:
        """The similarity of a distance: its score held to 0..1."""
        return similarity(self.score(distance))


def similarity(score: float) -> float:
    """The score held to 0..1, which is what people put thresholds on."""
    return 0.0 if score < 0.0 else min(score, 1.0)
