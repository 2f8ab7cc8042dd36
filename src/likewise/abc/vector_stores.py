# Generated from src/likewise/abc/vector_stores_async.py by tools/async_to_sync.py; edit that file instead.
"""The interface of a store, as asynchronous code; ``vector_stores.py`` is the generated twin. Collections are in ``stores``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Self

from likewise.abc.capabilities import Capabilities, ServerInfo
from likewise.abc.query_cache import QueryCacheUsage
from likewise.abc.stores import Collection
from likewise.schema import CollectionSpec

__all__ = ["VectorStore"]


class VectorStore(ABC):
    """A place that holds collections. Made by ``likewise.connect_async`` or ``likewise.attach_async``; an async context manager."""

    @property
    @abstractmethod
    def capabilities(self) -> Capabilities:
        """What this backend can do."""

    @property
    @abstractmethod
    def url(self) -> str:
        """Where the store is, without any secret; for PostgreSQL a connection string that psql accepts."""

    @property
    def query_cache_usage(self) -> QueryCacheUsage:
        """What the queries that are remembered in the database did for this store; all zero where none are."""
        return QueryCacheUsage()

    @abstractmethod
    def info(self) -> ServerInfo:
        """The database behind the store and its versions."""

    @abstractmethod
    def ensure_collection(self, spec: CollectionSpec) -> Collection:
        """The collection, created if it is not there.

        If it is there it has to be what the specification says; ``SchemaMismatch`` lists every difference. With
        ``mode="auto_migrate"`` the optional columns that are missing are added first; the dimension and the metric of a vector are
        never changed. Any number of processes may ensure the same collection at once.
        """

    @abstractmethod
    def collection(self, name: str) -> Collection:
        """The collection of this name; ``CollectionNotFound`` if there is none."""

    @abstractmethod
    def drop_collection(self, name: str, *, missing_ok: bool = False) -> None:
        """Delete the collection and all its records; ``CollectionNotFound`` if there is none, unless ``missing_ok``."""

    @abstractmethod
    def collections(self) -> list[CollectionSpec]:
        """The specifications of all collections, in the order of their names."""

    @abstractmethod
    def transaction(self) -> AbstractContextManager[Any]:
        """A transaction, as the backend's own connection: committed at the end of the block, rolled back if it raises.

        ``collection.using(connection)`` takes part in it. ``UnsupportedFeature`` where the backend has no transactions.
        """

    @abstractmethod
    def close(self) -> None:
        """Let go of connections, and of an embedded server that nobody else uses. May be called twice."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
