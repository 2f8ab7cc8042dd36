"""Turns the driver's errors into ours, all of them: one table by SQLSTATE, and nothing of the driver beyond this backend."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import psycopg_pool

from likewise.errors import (
    BackendConflict,
    BackendError,
    BackendTimeout,
    BackendUnavailable,
    CollectionNotFound,
    LikewiseError,
)

__all__ = ["translate", "translating"]

_UNAVAILABLE = {"57P01", "57P02", "57P03", "57P05", "53300", "25P03"}
_CONFLICT = {"40001", "40P01", "55P03"}
_HINTS = {
    "42501": "grant the role what it lacks, or connect as the owner of the collection",
    "25006": "the transaction or the server is read-only: write to the primary",
    "53100": "the disk is full: free some room",
    "53200": "the server is out of memory: lower work_mem or maintenance_work_mem",
    "58P01": "a file of the server is missing: is pgvector installed for this server version?",
    "0A000": "the server does not support this",
}


def translate(error: psycopg.Error, *, collection: str | None = None) -> LikewiseError:
    """Our error for one of the driver's; ``collection`` is the one that the statement was about, if it was."""
    state = error.sqlstate
    text = (error.diag.message_primary or str(error).strip() or type(error).__name__).rstrip()
    if isinstance(error, psycopg_pool.PoolTimeout | psycopg_pool.TooManyRequests):
        return BackendUnavailable(f"no connection to PostgreSQL became free in time: {text}")
    if isinstance(error, psycopg_pool.PoolClosed):
        return BackendError("the store is closed: connect again")
    if state is None:
        if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
            return BackendUnavailable(f"PostgreSQL cannot be reached, or the connection was lost: {text}")
        return BackendError(f"PostgreSQL's driver failed: {text}")
    if state == "57014":
        return BackendTimeout(f"PostgreSQL stopped the statement: {text}", sqlstate=state)
    if state.startswith("08") or state in _UNAVAILABLE:
        return BackendUnavailable(f"PostgreSQL is not available: {text}", sqlstate=state)
    if state in _CONFLICT:
        return BackendConflict(f"another transaction was in the way: {text}; retry", sqlstate=state)
    if state == "42P01" and collection is not None:
        return CollectionNotFound(collection)
    hint = _HINTS.get(state) or error.diag.message_hint
    return BackendError(
        f"PostgreSQL refused: {text} (SQLSTATE {state})" + (f"; {hint}" if hint else ""), sqlstate=state
    )


@contextmanager
def translating(collection: str | None = None) -> Iterator[None]:
    """Whatever the driver raises in the block is raised as ours, the driver's error as its cause."""
    try:
        yield
    except psycopg.Error as error:
        raise translate(error, collection=collection) from error
