"""When a load builds vector indexes anew rather than inserting into them. Pure; the figures are measured."""

from __future__ import annotations

from likewise.backends.postgres._table import Table, TableIndex

__all__ = ["rebuild_pays", "vector_indexes"]

#: How many rows an index is built over in the time of one row inserted into it. 50,000 x 384, two cores, two workers: 5,700 rows a
#: second against 750 to 1,000.
BUILT_PER_INSERTED = 5.0


def vector_indexes(table: Table) -> list[TableIndex]:
    """The vector indexes that a load may drop and build again: valid ones, which the catalogue can spell out."""
    return [index for index in table.indexes if index.method in ("hnsw", "ivfflat") and index.valid]


def rebuild_pays(known: int, new: int) -> bool:
    """Whether building the index over ``known + new`` rows takes less time than inserting ``new`` into it."""
    return known + new < BUILT_PER_INSERTED * new
