"""FAISS itself, imported when an image is made; and the few of its functions that are called with addresses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from likewise.errors import OptionalDependencyError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["check_installed", "library", "nearest"]


def check_installed() -> None:
    """``OptionalDependencyError`` if FAISS is not installed."""
    library()


def library() -> Any:
    """The module ``faiss``; ``OptionalDependencyError`` if it is not installed."""
    try:
        import faiss
    except ModuleNotFoundError as error:
        raise OptionalDependencyError("faiss-cpu", extra="faiss") from error
    return faiss


def nearest(
    vectors: Any,
    count: int,
    query: NDArray[np.float32],
    top_k: int,
    *,
    l2: bool,
    among: NDArray[np.int64] | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The ``top_k`` nearest of ``count`` vectors, or of those ``among`` them, by comparing each: values, nearest first, and places.

    ``vectors`` is an array of shape (count, dimension) or FAISS's own pointer to such memory. Values are squared distances, or
    inner products. One thread does it, without the GIL.
    """
    faiss = library()
    found = min(top_k, count if among is None else len(among))
    values, places = np.empty(found, np.float32), np.empty(found, np.int64)
    if not found:
        return values, places
    base = faiss.swig_ptr(vectors) if isinstance(vectors, np.ndarray) else vectors
    given = (
        faiss.swig_ptr(query),
        base,
        query.shape[0],
        1,
        count,
        found,
        faiss.swig_ptr(values),
        faiss.swig_ptr(places),
    )
    selected = None if among is None else faiss.IDSelectorArray(among)
    if l2:
        faiss.knn_L2sqr(*given, None, selected)
    else:
        faiss.knn_inner_product(*given, selected)
    return values, places
