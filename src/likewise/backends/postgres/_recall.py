"""What the recall of an index is at each value of its dial (ef_search, probes), and which a wanted recall takes. Pure; no connection."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from likewise.records import SearchResults

__all__ = [
    "LEAST_EF_SEARCH",
    "RecallCurve",
    "depth_of",
    "dials",
    "measured",
    "overlap",
    "sample_size",
    "surely",
    "usual_ef_search",
]

#: The values of ef_search that are tried, and of probes.
_EF_SEARCH = (40, 60, 80, 100, 150, 200, 300, 400, 600, 800, 1_000)
_PROBES = (1, 2, 3, 5, 8, 12, 18, 27, 40, 60, 90, 130, 200, 300, 450, 700, 1_000, 1_500)
#: The values that a search takes by itself.
LEAST_EF_SEARCH = 64
_LEAST_FILTERED = 100
_USUAL = (LEAST_EF_SEARCH, 80, 100, 128, 160, 200, 250, 320, 400)
_DEPTHS = (10, 30, 100, 300, 1_000)
#: So many times as deep is looked where a filter leaves a part.
_DEEPER = 3
#: Standard errors of a recall that are less than this are not worth more queries.
_SHARP = 0.01
#: A curve holds while the collection is between these parts of the size at which it was measured.
_SHRUNK, _GROWN = 0.5, 1.5


def usual_ef_search(rows: float, *, filtered: bool = False) -> int:
    """The ef_search of a search that does not say, chosen for recall@10 of 0.95; half as much again through a filter, twice as much at 200,000
    rows, and at least 100.

    Of real embeddings of sentences 28 to 56 sufficed at 50,000 rows, by how the graph came out, 64 to 80 at 200,000 and 100 at a million: about
    the fourth root of the rows. Vectors without any structure take more: ``recall=`` finds out.
    """
    wanted = LEAST_EF_SEARCH * (max(rows, 1.0) / 50_000) ** 0.25
    if filtered:
        # Where a filter goes with the vectors, what matches lies at the edge of what a scan meets, in a large graph more than in a small one.
        wanted = max(_LEAST_FILTERED, 1.55 * wanted * max(1.0, rows / 50_000) ** 0.18)
    return next((dial for dial in _USUAL if dial >= wanted * 0.99), _USUAL[-1])


def depth_of(top_k: int, *, filtered: bool = False) -> int | None:
    """The k at which recall is measured for a search of ``top_k``; None where no index can be asked for so many.

    What is left by a filter lies deeper: its ten nearest are among the twenty nearest of all where it leaves half, and where it leaves a third
    among the thirty. Deeper ones are counted on no further: where less is left, the rows that match are compared sooner or later.
    """
    if filtered:
        top_k = max(top_k, min(_DEPTHS[-1], _DEEPER * top_k))
    return next((depth for depth in _DEPTHS if depth >= top_k), None)


def dials(method: str, k: int, lists: int = 0) -> list[int]:
    """The values to try for ``k`` results: of ``ef_search``, each at least ``k``, or of ``probes``, up to half of the lists."""
    if method == "hnsw":
        return sorted({min(1_000, max(dial, k)) for dial in _EF_SEARCH})
    return [probes for probes in _PROBES if probes <= max(1, lists // 2)]


def sample_size(rows: float, *, deeper: bool = False) -> int:
    """How many stored vectors are searched for: fewer where each exact search takes longer; with ``deeper`` up to three times as many."""
    return int(min(300, (3 if deeper else 1) * max(30, 10_000_000 / max(rows, 1.0))))


def surely(mean: float, error: float) -> float:
    """The recall to count on for new queries, given what was measured on stored vectors.

    Stored vectors are nodes of the index, so that their neighbours are found more easily than those of new vectors, which missed up to 1.35
    times as many where the vectors had no structure at all. A half more for that, and a standard error.
    """
    return 1.0 - 1.5 * (1.0 - mean) - error


@dataclass(frozen=True, slots=True)
class RecallCurve:
    """Measured points (dial, recall@k, its standard error) of one index, by rising dial, and when they hold."""

    index_definition: str
    rows: float
    points: tuple[tuple[int, float, float], ...]

    def holds(self, index_definition: str, rows: float) -> bool:
        """Whether the index is still the one that was measured, over about as many rows."""
        return self.index_definition == index_definition and _SHRUNK * self.rows <= rows <= _GROWN * self.rows

    def near(self, dial: int) -> tuple[float, float]:
        """The mean recall that was measured at this value, or at the next lower one, and its error; at the lowest, if that is higher."""
        lower = [point for point in self.points if point[0] <= dial]
        _, mean, error = lower[-1] if lower else self.points[0]
        return mean, error

    def unsure(self, recall: float) -> bool:
        """Whether it is for want of queries that none surely reaches the recall: a single one that finds nothing counts for much among few."""
        _, mean, error = self.points[-1]
        return self.dial(recall) is None and error > _SHARP and surely(mean, 0.0) >= recall

    def dial(self, recall: float) -> int | None:
        """The least that surely reaches the recall; None if none does."""
        return next((dial for dial, mean, error in self.points if surely(mean, error) >= recall), None)


def measured(
    truth: Sequence[SearchResults], found: Sequence[SearchResults], own: Sequence[str], k: int
) -> tuple[float, float]:
    """Mean recall@k over the queries and its standard error. ``own`` are the queries' own records, which do not count.

    A record as near as the k-th is as good an answer: ties and duplicates are no misses.
    """
    parts: list[float] = []
    for exactly, approximately, record_id in zip(truth, found, own, strict=True):
        wanted = [r.distance for r in exactly if r.id != record_id][:k]
        if wanted:
            near = [r for r in approximately if r.id != record_id and r.distance <= wanted[-1] + 1e-6]
            parts.append(min(1.0, len(near) / len(wanted)))
    if not parts:
        return 1.0, 0.0
    error = statistics.stdev(parts) / math.sqrt(len(parts)) if len(parts) > 1 else 0.0
    return statistics.fmean(parts), error


def overlap(truth: Sequence[SearchResults], found: Sequence[SearchResults]) -> float:
    """The part of the exact answers that was found, 0 to 1. A record as near as the last is as good an answer: ties and duplicates are no misses."""
    hits = total = 0
    for exactly, approximately in zip(truth, found, strict=True):
        furthest = exactly[-1].distance + 1e-6
        hits += sum(result.distance <= furthest for result in approximately)
        total += len(exactly)
    return min(1.0, hits / total)
