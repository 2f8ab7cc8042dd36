"""How a filtered search is answered: by comparing every matching row, or by going along the index until enough rows match. Pure.

The choice is one of cost. Comparing costs so much for each row that matches, and for each that has to be looked at to find those; going
along the index costs so much for each row visited, and if the filter has nothing to do with the vectors, ``top_k / selectivity`` of them
are visited. The figures below are measured; only their ratios matter.

Estimates are wrong now and then, and a filter may have much to do with the vectors. So each way is taken up to a bound at which the
other one would have been cheaper, and then left for it: no search costs much more than twice what it had to. What was counted on
the way corrects the estimate for the next search with the same filter.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from likewise.filters import Filter

__all__ = ["Estimate", "FilterMemory", "Plan", "choose", "read_plan", "worth_counting"]

#: Costs in microseconds, at 384 dimensions on a machine of today: to compare one matching row, to look at one row that may match, to
#: visit one row along the index, and to begin doing that.
COMPARE = 1.2
LOOK = 0.4
VISIT = 7.0
BEGIN = 1_000.0
#: A filter for which the index gave out this often is not asked of it again.
_GAVE_OUT = 0.5
#: Costs that differ by more than this are told apart by the server's statistics alone.
_CLEARLY = 4.0
_MOST_FILTERS = 1_000
_SECONDS = 600.0
_SCANS = frozenset({"Seq Scan", "Bitmap Heap Scan", "Index Scan", "Index Only Scan"})


@dataclass(frozen=True, slots=True)
class Estimate:
    """How many rows a filter matches, of how many, and how many must be looked at to find them (few, where an index serves the filter).

    ``counted``: the rows were counted, or at least that many were; else the server's statistics say so. ``gave_out`` is how often of
    late the index gave too few of them, from 0 to 1.
    """

    matching: float
    rows: float
    looked_at: float
    counted: bool = False
    gave_out: float = 0.0


@dataclass(frozen=True, slots=True)
class Plan:
    """The way that was chosen, and how far it is taken: rows compared (0: all that match), or rows visited."""

    exact: bool
    bound: int


def _costs(estimate: Estimate, top_k: int) -> tuple[float, float, float]:
    """What comparing costs, what visiting costs, and how many rows would be visited."""
    comparing = COMPARE * estimate.matching + LOOK * estimate.looked_at
    expected = top_k * max(estimate.rows, 1.0) / max(estimate.matching, 0.5)
    return comparing, BEGIN + VISIT * expected, expected


def worth_counting(estimate: Estimate, top_k: int) -> int:
    """How many matching rows to count before choosing, 0 if the choice is clear: statistics are rough, and near the line it matters."""
    comparing, visiting, _ = _costs(estimate, top_k)
    if estimate.counted or not _CLEARLY * comparing > visiting > comparing / _CLEARLY:
        return 0
    return _rounded(_CLEARLY * max(comparing, visiting) / COMPARE)


def choose(estimate: Estimate, top_k: int) -> Plan:
    """The cheaper way, with its bound."""
    comparing, visiting, expected = _costs(estimate, top_k)
    if comparing <= visiting or estimate.gave_out > _GAVE_OUT:
        surely = estimate.counted or estimate.gave_out > _GAVE_OUT
        return Plan(exact=True, bound=0 if surely else _most_compared(estimate, top_k))
    return Plan(exact=False, bound=_rounded(max(4 * expected, comparing / VISIT)))


def _most_compared(estimate: Estimate, top_k: int) -> int:
    """Well beyond the number of matching rows at which both ways cost the same."""
    line = BEGIN / COMPARE + math.sqrt(VISIT * top_k * max(estimate.rows, 1.0) / COMPARE)
    return _rounded(max(4 * line, 2 * estimate.matching))


def _rounded(count: float) -> int:
    """The next power of two, so that few different statements are made."""
    return 1 << max(8, int(count - 1).bit_length())


def read_plan(explained: Sequence[Mapping[str, Any]], rows: float) -> Estimate:
    """The server's own estimate: what ``EXPLAIN (FORMAT JSON)`` says of the filter. ``rows`` is how many there are in all."""
    node = explained[0]["Plan"]
    matching = float(node["Plan Rows"])
    while node["Node Type"] not in _SCANS and node.get("Plans"):
        node = node["Plans"][0]
    rows = max(rows, matching)
    return Estimate(matching, rows, rows if node["Node Type"] == "Seq Scan" else matching)


class FilterMemory:
    """What is known of filters. Each is forgotten ten minutes after it was estimated, for tables change."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, tuple[float, Estimate]] = OrderedDict()

    @staticmethod
    def key(where: Filter) -> str:
        """The filter as text; filters that mean the same may have different ones."""
        return repr(where)

    def get(self, key: str) -> Estimate | None:
        """What is known of the filter."""
        found = self._known.get(key)
        if found is None or time.monotonic() > found[0]:
            return None
        return found[1]

    def learn(self, key: str, estimate: Estimate) -> None:
        """Remember a new estimate."""
        self._known[key] = (time.monotonic() + _SECONDS, estimate)
        self._known.move_to_end(key)
        if len(self._known) > _MOST_FILTERS:
            self._known.popitem(last=False)

    def counted(self, key: str, estimate: Estimate, matching: int) -> Estimate:
        """Rows were counted (or at least so many); the estimate mended."""
        looked_at = max(matching, estimate.looked_at) if estimate.looked_at > estimate.matching else matching
        return self._set(key, replace(estimate, matching=matching, looked_at=looked_at, counted=True))

    def visited(self, key: str, estimate: Estimate, *, gave_out: bool) -> Estimate:
        """The index was asked, and gave enough or gave out; the estimate mended."""
        return self._set(key, replace(estimate, gave_out=0.95 * estimate.gave_out + 0.05 * gave_out))

    def _set(self, key: str, estimate: Estimate) -> Estimate:
        until, _ = self._known.get(key, (time.monotonic() + _SECONDS, None))
        self._known[key] = (until, estimate)
        return estimate
