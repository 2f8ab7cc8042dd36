"""FAISS's graph (HNSW: Malkov and Yashunin, 2016) of many vectors, with its vectors in it. Pure but for the memory that it takes.

The figures here are measured: docs/decisions/0017-the-replicas-index.md.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from likewise.backends.faiss._library import library

__all__ = ["Graph", "usual_ef_search"]

#: Links of each vector above the lowest layer (twice as many there), and candidates when a vector is linked.
M = 32
EF_CONSTRUCTION = 128
#: How many candidates a search looks at in large graphs; and in those of up to so many vectors.
_EF_SEARCH = 40
_EF_SEARCH_SMALL, _SMALL = 28, 100_000
#: Seconds that a step of building may take.
STEP = 0.01


def usual_ef_search(vectors: int) -> int:
    """How many candidates a search without a filter looks at in a graph of so many vectors: recall@10 is 0.95 and more then."""
    return _EF_SEARCH_SMALL if vectors <= _SMALL else _EF_SEARCH


class Graph:
    """Vectors by place, linked to their neighbours. Not to be searched while it grows."""

    def __init__(self, dimension: int, *, l2: bool) -> None:
        faiss = library()
        self.dimension = dimension
        self.l2 = l2
        self.index: Any = faiss.IndexHNSWFlat(dimension, M, faiss.METRIC_L2 if l2 else faiss.METRIC_INNER_PRODUCT)
        self.index.hnsw.efConstruction = EF_CONSTRUCTION
        self._pace = 16.0
        self._rows: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return int(self.index.ntotal)

    @property
    def rows(self) -> NDArray[np.float32]:
        """The vectors, as a view that is good until the next are added."""
        if self._rows is None:
            self._rows = self._view()
        return self._rows

    def _view(self) -> NDArray[np.float32]:
        if not len(self):
            return np.empty((0, self.dimension), np.float32)
        storage = library().downcast_index(self.index.storage)
        numbers: NDArray[np.float32] = library().rev_swig_ptr(storage.get_xb(), len(self) * self.dimension)
        return numbers.reshape(len(self), self.dimension)

    @property
    def links(self) -> int:
        """The bytes of what is not vectors."""
        hnsw = self.index.hnsw
        return int(4 * hnsw.neighbors.size() + 4 * hnsw.levels.size() + 8 * hnsw.offsets.size())

    def reserve(self, count: int) -> None:
        """Make room for so many vectors in all, before the first: what grows piece by piece is copied, and takes twice the memory then."""
        codes = library().downcast_index(self.index.storage).codes
        _make_room(codes, count * self.dimension * 4)
        codes.resize(0)

    def build(self, blocks: list[NDArray[np.float32]]) -> None:
        """Take the first vectors, on all processors, and empty the list of blocks: each is let go as soon as it is copied.

        All at once, for FAISS then links them in an order by chance. Block by block in the order of a table, where neighbours in meaning are
        neighbours, recall at 200,000 was 0.963 and not 0.98.
        """
        faiss = library()
        count = sum(map(len, blocks))
        storage = faiss.downcast_index(self.index.storage)
        _make_room(storage.codes, count * self.dimension * 4)
        place = faiss.rev_swig_ptr(storage.get_xb(), count * self.dimension).reshape(count, self.dimension)
        blocks.reverse()
        first = 0
        while blocks:
            block = blocks.pop()
            place[first : first + len(block)] = block
            first += len(block)
        # The vectors are where ``add`` copies them to: it is given that very place, so that they are not in memory twice.
        self._rows = None
        self.index.add_c(count, storage.get_xb())
        _double_room(self.index.hnsw.neighbors)

    def add(self, vectors: NDArray[np.float32]) -> None:
        """Add vectors, on all processors if there are more than a hundred."""
        self._rows = None
        self.index.add(vectors)

    def pace(self) -> int:
        """How many vectors may be added in a step, by how long the last took."""
        return max(1, int(self._pace))

    def add_step(self, vectors: NDArray[np.float32]) -> None:
        """Add what ``pace`` allows, and learn from it."""
        started = time.perf_counter()
        self.add(vectors)
        taken = max(time.perf_counter() - started, 1e-6)
        # At most a hundred: more are added by several threads, which wait for each other where others work too.
        self._pace = min(100.0, 0.5 * self._pace + 0.5 * len(vectors) * STEP / taken)

    def parameters(self, ef_search: int, members: NDArray[np.uint8] | None) -> Any:
        """How to search: among the places whose bits are set, or all. It may be used again as long as the bits are true."""
        faiss = library()
        if members is None:
            return faiss.SearchParametersHNSW(efSearch=ef_search)
        return faiss.SearchParametersHNSW(efSearch=ef_search, sel=faiss.IDSelectorBitmap(members))

    def search(self, query: NDArray[np.float32], top_k: int, parameters: Any) -> NDArray[np.int64]:
        """The places of about the ``top_k`` nearest; fewer where fewer were met. Without the GIL, in one thread."""
        faiss = library()
        values, places = np.empty(top_k, np.float32), np.empty(top_k, np.int64)
        self.index.search_c(1, faiss.swig_ptr(query), top_k, faiss.swig_ptr(values), faiss.swig_ptr(places), parameters)
        return places[places >= 0]

    def links_bytes(self) -> bytes:
        """The links, as FAISS writes them, without the vectors."""
        faiss = library()
        written = faiss.VectorIOWriter()
        faiss.write_index(self.index, written, faiss.IO_FLAG_SKIP_STORAGE)
        return bytes(faiss.vector_to_array(written.data))

    @classmethod
    def restored(cls, links: bytes, count: int, dimension: int, *, l2: bool) -> Graph:
        """The graph of ``links_bytes``, whose vectors are to be put into ``rows``. ``ValueError`` where it is of another kind.

        FAISS believes what it reads: the bytes must have been checked.
        """
        faiss = library()
        reader = faiss.VectorIOReader()
        faiss.copy_array_to_vector(np.frombuffer(links, np.uint8), reader.data)
        graph = cls(dimension, l2=l2)
        index = faiss.read_index(reader, faiss.IO_FLAG_SKIP_STORAGE)
        if not isinstance(index, faiss.IndexHNSWFlat) or (index.ntotal, index.d, index.metric_type) != (
            count,
            dimension,
            graph.index.metric_type,
        ):
            raise ValueError("its links are those of another graph")
        storage = faiss.IndexFlat(dimension, index.metric_type)
        _make_room(storage.codes, count * dimension * 4)
        storage.ntotal = count
        storage.this.disown()
        index.storage = storage
        index.own_fields = True
        _double_room(index.hnsw.neighbors)
        index.hnsw.efConstruction = EF_CONSTRUCTION
        graph.index = index
        return graph


def _make_room(codes: Any, size: int) -> None:
    """Make an empty vector of C++ so many bytes long, with room for a quarter more that takes no memory before it is used.

    Such vectors have no more room than they were asked for at once, and double it when they grow, for which all is copied: so this one grows
    while it is short. Without the room the first vectors that come later have all of them copied while searches wait.
    """
    short = size * 5 // 8
    codes.resize(short)
    codes.resize(short + 1)
    codes.resize(size)


def _double_room(links: Any) -> None:
    """The same for a vector that is as long as it is: it is copied once, now that nobody waits."""
    size = links.size()
    links.resize(size + 1)
    links.resize(size)
