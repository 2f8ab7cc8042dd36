"""FAISS itself, imported when an image is made; and the few of its functions that are called with addresses."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from likewise.errors import OptionalDependencyError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["library", "nearest", "selector"]

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


def selector(places: NDArray[np.int64]) -> Any:
    """What has ``nearest`` look among these places only. It may be used again."""
    return library().IDSelectorArray(places)


def nearest(
    vectors: NDArray[np.float32],
    query: NDArray[np.float32],
    top_k: int,
    *,
    l2: bool,
    among: Any,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The ``top_k`` nearest vectors by comparing each, all or those ``among`` them (a ``selector``): values, nearest first, and places.

    There must be as many. Values are squared distances, or inner products. One thread does it, without the GIL.
    """
    faiss = library()
    values, places = np.empty(top_k, np.float32), np.empty(top_k, np.int64)
    pointer = faiss.swig_ptr
    count, dimension = vectors.shape
    given = pointer(query), pointer(vectors), dimension, 1, count, top_k, pointer(values), pointer(places)
    if l2:
        faiss.knn_L2sqr(*given, None, among)
    else:
        faiss.knn_inner_product(*given, among)
    return values, places
