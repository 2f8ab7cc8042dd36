"""What a worker counts, as numbers that anybody may read at any time, and as Prometheus writes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

__all__ = ["WorkerCounts", "exposition"]


@dataclass(slots=True)
class WorkerCounts:
    """Counters of one worker since it was started; all but ``waiting`` only grow."""

    requests: int = 0
    """Requests that were read from the log while this worker answered."""
    answered: int = 0
    """Vectors that were stored for callers."""
    remembered: int = 0
    """Requests for which a vector was there already, or was being made for somebody else."""
    refused: int = 0
    """Requests that were answered with an error."""
    expired: int = 0
    """Requests whose callers had given up before it was their turn."""
    malformed: int = 0
    """Messages that were no requests."""
    batches: int = 0
    """Calls of a model."""
    largest_batch: int = 0
    """The most texts or pictures of one call."""
    model_seconds: float = 0.0
    """Time in models."""
    took_over: int = 0
    """How often this worker became the one that answers."""
    reconnected: int = 0
    """How often a connection to the database was lost."""
    waiting: int = 0
    """Requests that wait now."""

    def as_dict(self) -> dict[str, float]:
        """The counters by name."""
        return asdict(self)


#: What falls as well as grows.
_GAUGES = frozenset({"waiting", "leads", "queue_depth", "largest_batch"})


def exposition(counts: Mapping[str, float]) -> str:
    """The counts in Prometheus's text format 0.0.4."""
    lines = []
    for name, value in counts.items():
        gauge = name in _GAUGES
        full = f"likewise_worker_{name}" + ("" if gauge else "_total")
        lines += [f"# TYPE {full} {'gauge' if gauge else 'counter'}", f"{full} {value:g}"]
    return "\n".join([*lines, ""])
