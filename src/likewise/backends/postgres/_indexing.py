"""When a load builds vector indexes anew rather than inserting into them. Pure; the figure is measured."""

from __future__ import annotations

__all__ = ["most_known"]

#: How many rows an index is built over in the time of one row inserted into it. 50,000 x 384, two cores, two workers: 5,700 rows a
#: second against 750 to 1,000.
BUILT_PER_INSERTED = 5


def most_known(new: int) -> int:
    """The most rows that a table may have had for building its indexes anew to take no more time than inserting ``new`` rows."""
    return (BUILT_PER_INSERTED - 1) * new
