"""The figures of building indexes: how much memory, how many lists, and when a load builds anew rather than insert. Pure."""

from __future__ import annotations

import math

from likewise.backends.postgres._table import TableIndex
from likewise.schema import Hnsw, IvfFlat, VectorField, VectorIndex

__all__ = ["SMALL_TABLE", "build_memory", "lists_for", "most_known", "plan_of", "room_for"]

#: How many rows an index is built over in the time of one row inserted into it. 50,000 x 384, two cores, two workers: 5,700 rows a
#: second against 750 to 1,000; at 30,000 rows both take as long for some 5,000 new ones.
BUILT_PER_INSERTED = 6.5
#: An index over fewer rows is built in a second or two: writers can wait.
SMALL_TABLE = 10_000
_MB = 1 << 20


def most_known(new: int) -> int:
    """The most rows that a table may have had for building its indexes anew to take no more time than inserting ``new`` rows."""
    return int((BUILT_PER_INSERTED - 1) * new)


def lists_for(rows: float) -> int:
    """How many lists an IVFFlat index over so many rows should have, as pgvector's authors advise."""
    return max(10, round(rows / 1_000 if rows <= 1_000_000 else math.sqrt(rows)))


def plan_of(index: TableIndex) -> VectorIndex:
    """What a vector index that is there would be built by."""
    options = {"lists": 100, "m": 16, "ef_construction": 64}  # pgvector's own
    options |= {name: int(value) for name, value in index.options.items()}
    if index.method == "ivfflat":
        return IvfFlat(options["lists"], index.quantization)
    return Hnsw(options["m"], options["ef_construction"], index.quantization)


def build_memory(plan: VectorIndex, field: VectorField, rows: float) -> int:
    """Bytes in which the index can be built without falling back to the disk, with a tenth to spare.

    HNSW keeps its whole graph: each row's numbers, two neighbours of 16 bytes for each of ``m``, and 208 bytes around them (measured with
    pgvector 0.8.5 at 64 to 1,536 dimensions; the graph's upper levels are in the tenth). IVFFlat keeps a sample of 50 rows a list and their
    distances to all lists' centres, and refuses to build with less.
    """
    numbers = field.dimension * (2 if field.storage == "halfvec" else 4)
    if plan.quantization != "none":
        numbers = field.dimension * 2 if plan.quantization == "half" else field.dimension // 8
    if isinstance(plan, Hnsw):
        needed = rows * (208 + 32 * plan.m + numbers)
    else:
        needed = _kmeans(plan, numbers, rows)
    return round(1.1 * needed) + 8 * _MB


def _kmeans(plan: IvfFlat, numbers: int, rows: float) -> float:
    lists = lists_for(rows) if plan.lists == "auto" else plan.lists
    samples = max(10_000, 50 * lists)
    return (samples + 3 * lists) * (numbers + 8) + 4 * samples * (lists + 2) + 4 * lists * (lists + 1)


def room_for(needed: int, *, allowed: int, shared_buffers: int, must: bool) -> int:
    """Bytes for ``maintenance_work_mem``: what the server allows, or more where a build needs it.

    More goes up to ``shared_buffers``, which by custom is a quarter of the machine's memory; beyond that a build has to do with less, unless
    it could not be done at all (``must``).
    """
    if needed <= allowed or must:
        return max(needed, allowed)
    return max(allowed, min(needed, shared_buffers))
