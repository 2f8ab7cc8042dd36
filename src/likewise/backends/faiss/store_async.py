"""A store whose collections are searched in this process: a database of record, and a replica of each collection that is searched."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from typing import Any

from likewise.abc.capabilities import Capabilities, ServerInfo
from likewise.abc.feeds import Feed, Payload
from likewise.abc.query_cache import QueryCacheUsage
from likewise.abc.running_async import run_apart
from likewise.abc.stores_async import AsyncCollection
from likewise.abc.vector_stores_async import AsyncVectorStore
from likewise.backends.faiss._options import PREFIX, ReplicaOptions
from likewise.backends.faiss.collection_async import AsyncFaissCollection
from likewise.backends.faiss.follower import Follower
from likewise.backends.faiss.replica import ReplicaStatus
from likewise.errors import BackendConflict, LikewiseError
from likewise.schema import CollectionSpec

__all__ = ["AsyncFaissStore"]

_log = logging.getLogger("likewise.backends.faiss")


class AsyncFaissStore(AsyncVectorStore):
    """The collections of another store. What is written goes there, what is searched is found here where that is possible.

    ``schema`` is where the other store has its tables: replicas of different schemas have different files.
    """

    def __init__(self, inner: AsyncVectorStore, options: ReplicaOptions, *, schema: str = "public") -> None:
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
    def inner(self) -> AsyncVectorStore:
        """The store of record."""
        return self._inner

    @property
    def query_cache_usage(self) -> QueryCacheUsage:
        return self._inner.query_cache_usage

    async def info(self) -> ServerInfo:
        info = await self._inner.info()
        wrong = [
            f"the replica of collection {name!r}: {note}"
            for name, status in self.replicas().items()
            for note in status.notes
        ]
        return replace(info, backend="faiss", warnings=(*info.warnings, *wrong))

    def replicas(self) -> dict[str, ReplicaStatus]:
        """How the replicas of this store's collections are, by the collection's name: as it is known, without asking."""
        return {replica.spec.name: replica.status() for replica in self._follower.known()}

    async def ensure_collection(self, spec: CollectionSpec) -> AsyncFaissCollection:
        return self._opened(await self._inner.ensure_collection(spec))

    async def collection(self, name: str) -> AsyncFaissCollection:
        return self._opened(await self._inner.collection(name))

    def _opened(self, inner: AsyncCollection) -> AsyncFaissCollection:
        def open_feed(holds: frozenset[Payload], slot: str | None) -> Feed:
            return inner._feed(holds, name=slot, how=self._options.follow)

        return AsyncFaissCollection(inner, self._follower, self._follower.replica(inner.spec, open_feed))

    async def drop_collection(self, name: str, *, missing_ok: bool = False) -> None:
        if self._follower.keeps(name):
            try:
                opened = await self.collection(name)
            except LikewiseError:
                pass  # It is no more, or cannot be read; the inner store says which.
            else:
                # Where another process has the files, that one cleans up when it finds the collection gone.
                try:
                    await run_apart(opened.drop_replica)
                except BackendConflict:
                    pass
                except LikewiseError as error:
                    _log.warning("what the database keeps for the replica of %s was not dropped: %s", name, error)
        await self._inner.drop_collection(name, missing_ok=missing_ok)

    async def collections(self) -> list[CollectionSpec]:
        return await self._inner.collections()

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[Any]:
        try:
            async with self._inner.transaction() as connection:
                yield connection
        finally:
            # What it wrote, into whichever collection, is read by who reads after it.
            for replica in self._follower.known():
                replica.wrote()

    def transaction(self) -> AbstractAsyncContextManager[Any]:
        return self._transaction()

    async def aclose(self) -> None:
        await run_apart(self._follower.close)
        await self._inner.aclose()
