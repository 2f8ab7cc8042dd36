"""Positions as text: a place in the log (``0/16B3748``), a snapshot (``723:730:725``), or both with a semicolon between. Pure.

A position that somebody has learnt has both, so that it means something to a copy that follows the log and to one that follows triggers; that of a
feed has its own.
"""

from __future__ import annotations

from dataclasses import dataclass

from likewise.abc.feeds import Position
from likewise.errors import InvalidArgument

__all__ = ["Snapshot", "log_place", "log_position", "snapshot_in", "snapshot_reached"]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a statement sees, as PostgreSQL's ``pg_snapshot`` has it: transactions below ``most``, but for those still ``running``."""

    most: int
    running: frozenset[int]


def log_place(position: Position) -> int:
    """The place in the log, in bytes. ``InvalidArgument`` if the position has none."""
    for part in str(position).split(";"):
        high, slash, low = part.partition("/")
        if slash:
            try:
                place = (int(high, 16) << 32) + int(low, 16)
            except ValueError:
                break
            if 0 <= place < 1 << 64:
                return place
            break
    raise InvalidArgument(f"{position!r:.80} is no position in the log; one looks like '0/16B3748'")


def log_position(place: int) -> Position:
    """A place in the log as a position."""
    return Position(f"{place >> 32:X}/{place & 0xFFFFFFFF:X}")


def snapshot_in(position: Position) -> Snapshot:
    """The snapshot. ``InvalidArgument`` if the position has none."""
    for part in str(position).split(";"):
        if part.count(":") == 2:
            least, most, running = part.split(":")
            try:
                int(least)
                return Snapshot(int(most), frozenset(int(x) for x in running.split(",") if x))
            except ValueError:
                break
    raise InvalidArgument(f"{position!r:.80} is no snapshot; one looks like '723:730:725'")


def snapshot_reached(snapshot: Snapshot, wanted: Snapshot) -> bool:
    """Whether all that the wanted snapshot sees is seen by this one too."""
    if any(x not in wanted.running for x in range(snapshot.most, wanted.most)):
        return False
    return all(x >= wanted.most or x in wanted.running for x in snapshot.running)
