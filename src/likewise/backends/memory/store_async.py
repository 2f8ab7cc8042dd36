"""A store in memory: collections in a table of this process."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Any

import numpy as np

from likewise._deadline import check_deadline
from likewise.abc.capabilities import Capabilities, ServerInfo
from likewise.abc.models import opened_embedder
from likewise.abc.specs import EmbedderResolver, resolve_spec
from likewise.abc.vector_stores_async import AsyncVectorStore
from likewise.backends.memory._tables import Tables
from likewise.backends.memory.collection_async import AsyncMemoryCollection
from likewise.errors import UnsupportedFeature
from likewise.schema import CollectionSpec

__all__ = ["AsyncMemoryStore"]

CAPABILITIES = Capabilities("memory")


class AsyncMemoryStore(AsyncVectorStore):
    """Collections in this process. Any number of threads and tasks may use it at once."""

    def __init__(self, *, embedders: EmbedderResolver) -> None:
        self._embedders = embedders
        self._tables = Tables()

    @property
    def capabilities(self) -> Capabilities:
        return CAPABILITIES

    @property
    def url(self) -> str:
        return "memory://"

    async def info(self) -> ServerInfo:
        check_deadline()
        return ServerInfo(backend="memory", version=f"NumPy {np.__version__}")

    async def ensure_collection(self, spec: CollectionSpec) -> AsyncMemoryCollection:
        check_deadline()
        spec, embedder = resolve_spec(spec, self._embedders)
        return AsyncMemoryCollection(self._tables, self._tables.ensure(spec, embedder), embedder=embedder)

    async def collection(self, name: str) -> AsyncMemoryCollection:
        check_deadline()
        spec, model = self._tables.spec(name), self._tables.model(name)
        embedder = opened_embedder(spec, model, self._embedders)
        return AsyncMemoryCollection(self._tables, spec, embedder=embedder)

    async def drop_collection(self, name: str, *, missing_ok: bool = False) -> None:
        check_deadline()
        self._tables.drop(name, missing_ok=missing_ok)

    async def collections(self) -> list[CollectionSpec]:
        check_deadline()
        return self._tables.specs()

    def transaction(self) -> AbstractAsyncContextManager[Any]:
        raise UnsupportedFeature("transactions", backend="memory", hint="each call is atomic; nothing larger is")

    async def aclose(self) -> None:
        self._tables.close()
