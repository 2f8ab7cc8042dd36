"""Deadlines that every call inside a block obeys, whatever the backend: ``with likewise.deadline(0.5): …``."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from likewise.errors import BackendTimeout, InvalidArgument

__all__ = ["check_deadline", "deadline", "ends_at", "remaining", "until"]

_ends_at: ContextVar[float | None] = ContextVar("likewise_deadline", default=None)


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Give every Likewise call in the block, together, this many seconds; ``BackendTimeout`` when they are used up.

    Deadlines nest: an inner block can shorten the outer deadline, never lengthen it. The deadline belongs to the current thread
    or task and is inherited by tasks started inside the block. It works in synchronous and asynchronous code alike, and a call
    that is stopped leaves nothing half-written. Asynchronous calls can also be cancelled, as any task.
    """
    if not seconds > 0:
        raise InvalidArgument(f"a deadline must be a positive number of seconds, not {seconds!r}")
    mine = time.monotonic() + seconds
    outer = _ends_at.get()
    token = _ends_at.set(mine if outer is None else min(mine, outer))
    try:
        yield
    finally:
        _ends_at.reset(token)


def ends_at() -> float | None:
    """When the deadline is, by ``time.monotonic()``; None without one."""
    return _ends_at.get()


@contextmanager
def until(moment: float | None) -> Iterator[None]:
    """Put this deadline, by ``time.monotonic()``, in the place of the one there is: for work that several callers wait for."""
    token = _ends_at.set(moment)
    try:
        yield
    finally:
        _ends_at.reset(token)


def remaining() -> float | None:
    """Seconds left before the deadline, None without one; ``BackendTimeout`` once it has passed."""
    moment = _ends_at.get()
    if moment is None:
        return None
    left = moment - time.monotonic()
    if left <= 0:
        raise BackendTimeout("the deadline had passed before the call could be made")
    return left


def check_deadline() -> None:
    """Raise ``BackendTimeout`` if the deadline has passed."""
    remaining()
