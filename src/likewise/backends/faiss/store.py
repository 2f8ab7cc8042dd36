# Generated from src/likewise/backends/faiss/store_async.py by tools/async_to_sync.py; edit that file instead.
"""A store whose collections are searched in this process: a database of record, and a replica of each collection that is searched."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Any

from likewise.abc.capabilities import Capabilities, ServerInfo
from likewise.abc.feeds import Feed, Payload
from likewise.abc.query_cache import QueryCacheUsage
from likewise.abc.running import run_apart
from likewise.abc.stores import Collection
from likewise.abc.vector_stores import VectorStore
from likewise.backends.faiss._options import PREFIX, ReplicaOptions
from likewise.backends.faiss.collection import FaissCollection
from likewise.backends.faiss.follower import Follower
from likewise.backends.faiss.replica import ReplicaStatus
from likewise.errors import BackendConflict, LikewiseError
from likewise.schema import CollectionSpec

__all__ = ["FaissStore"]

_log = logging.getLogger("likewise.backends.faiss")


class FaissStore(VectorStore):
    """The collections of another store. What is written goes there, what is searched is found here where that is possible.

    ``schema`` is where the other store has its tables: replicas of different schemas have different files.
    """

    def __init__(self, inner: VectorStore, options: ReplicaOptions, *, schema: str = "public") -> None:
        self._inner = inner
        self._options = options
        # The database's name, not its address: an embedded server's changes.
        database = inner.url.partition("?")[0].rpartition("/")[2]
        self._follower = Follower(options, database, schema)

    @property
    def capabilities(self) -> Capabilities:
        return replace(self._inner.capabilities, backend="faiss")

    @property
    def url(self) -> str:
        return PREFIX + self._inner.url

    @property
    def inner(self) -> VectorStore:
        """The store of record."""
        return self._inner

    @property
    def query_cache_usage(self) -> QueryCacheUsage:
        return self._inner.query_cache_usage

    def info(self) -> ServerInfo:
        info = self._inner.info()
        wrong = [
            f"the replica of collection {name!r}: {note}"
            for name, status in self.replicas().items()
            for note in status.notes
        ]
        return replace(info, backend="faiss", warnings=(*info.warnings, *wrong))

    def replicas(self) -> dict[str, ReplicaStatus]:
        """How the replicas of this store's collections are, by the collection's name: as it is known, without asking."""
        return {replica.spec.name: replica.status() for replica in self._follower.known()}

    def ensure_collection(self, spec: CollectionSpec) -> FaissCollection:
        return self._opened(self._inner.ensure_collection(spec))

    def collection(self, name: str) -> FaissCollection:
        return self._opened(self._inner.collection(name))

    def _opened(self, inner: Collection) -> FaissCollection:
        def open_feed(holds: frozenset[Payload], slot: str | None) -> Feed:
            return inner._feed(holds, name=slot, how=self._options.follow)

        return FaissCollection(inner, self._follower, self._follower.replica(inner.spec, open_feed))

    def drop_collection(self, name: str, *, missing_ok: bool = False) -> None:
        if self._follower.keeps(name):
            try:
                opened = self.collection(name)
            except LikewiseError:
                pass  # It is no more, or cannot be read; the inner store says which.
            else:
                # Where another process has the files, that one cleans up when it finds the collection gone.
                try:
                    run_apart(opened.drop_replica)
                except BackendConflict:
                    pass
                except LikewiseError as error:
                    _log.warning("what the database keeps for the replica of %s was not dropped: %s", name, error)
        self._inner.drop_collection(name, missing_ok=missing_ok)

    def collections(self) -> list[CollectionSpec]:
        return self._inner.collections()

    @contextmanager
    def _transaction(self) -> Iterator[Any]:
        try:
            with self._inner.transaction() as connection:
                yield connection
        finally:
            # What it wrote, into whichever collection, is read by who reads after it.
            for replica in self._follower.known():
                replica.wrote()

    def transaction(self) -> AbstractContextManager[Any]:
        return self._transaction()

    def close(self) -> None:
        run_apart(self._follower.close)
        self._inner.close()
