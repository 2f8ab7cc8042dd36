"""FAISS itself, imported when an image is made."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any

from likewise.errors import OptionalDependencyError

__all__ = ["library"]

_WAITING = "OMP_WAIT_POLICY"


def library() -> Any:
    """The module ``faiss``; ``OptionalDependencyError`` if it is not installed."""
    known = sys.modules.get("faiss")
    if known is not None:
        return known
    try:
        with _patient_threads():
            import faiss
    except ModuleNotFoundError as error:
        raise OptionalDependencyError("faiss-cpu", extra="faiss") from error
    return faiss


@contextlib.contextmanager
def _patient_threads() -> Iterator[None]:
    """While FAISS's OpenMP is loaded, which is when it looks: have its threads sleep while they wait for each other.

    Where others use the same processors they would spin in their way: building took three times the processor's time. What the
    environment says already is left as it is.
    """
    if _WAITING in os.environ:
        yield
        return
    os.environ[_WAITING] = "passive"
    try:
        yield
    finally:
        del os.environ[_WAITING]
