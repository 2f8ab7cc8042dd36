"""A collection's replica in this process: vectors in FAISS's indexes, metadata and contents beside them. PostgreSQL is the only truth.

``image`` is what is in memory, with ``table`` (rows), ``index`` (vectors), ``columns`` (filters) and ``file`` (the image on disk).
FAISS is imported here and nowhere else.

``store`` and ``collection`` are what callers have; ``follower`` is the thread in which ``following`` keeps each ``replica``.
"""

from likewise.backends.faiss._options import PREFIX, ReplicaOptions, split_url
from likewise.backends.faiss.collection import FaissCollection
from likewise.backends.faiss.collection_async import AsyncFaissCollection
from likewise.backends.faiss.replica import ReplicaStatus, Written
from likewise.backends.faiss.store import FaissStore
from likewise.backends.faiss.store_async import AsyncFaissStore
from likewise.backends.faiss.verifying import VerifyReport

__all__ = [
    "PREFIX",
    "AsyncFaissCollection",
    "AsyncFaissStore",
    "FaissCollection",
    "FaissStore",
    "ReplicaOptions",
    "ReplicaStatus",
    "VerifyReport",
    "Written",
    "split_url",
]
