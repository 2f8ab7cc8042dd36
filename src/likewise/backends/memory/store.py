# Generated from src/likewise/backends/memory/store_async.py by tools/async_to_sync.py; edit that file instead.
"""A store in memory: collections in a table of this process."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from likewise._deadline import check_deadline
from likewise.abc.capabilities import Capabilities, ServerInfo
from likewise.abc.models import opened_embedder
from likewise.abc.specs import EmbedderResolver, resolve_spec
from likewise.abc.vector_stores import VectorStore
from likewise.backends.memory._tables import Tables
from likewise.backends.memory.collection import MemoryCollection
from likewise.errors import UnsupportedFeature
from likewise.schema import CollectionSpec

__all__ = ["MemoryStore"]

CAPABILITIES = Capabilities("memory")


class MemoryStore(VectorStore):
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

    def info(self) -> ServerInfo:
        check_deadline()
        return ServerInfo(backend="memory", version=f"NumPy {np.__version__}")

    def ensure_collection(self, spec: CollectionSpec) -> MemoryCollection:
        check_deadline()
        spec, embedder = resolve_spec(spec, self._embedders)
        return MemoryCollection(self._tables, self._tables.ensure(spec, embedder), embedder=embedder)

    def collection(self, name: str) -> MemoryCollection:
        check_deadline()
        spec, model = self._tables.spec(name), self._tables.model(name)
        embedder = opened_embedder(spec, model, self._embedders)
        return MemoryCollection(self._tables, spec, embedder=embedder)

    def drop_collection(self, name: str, *, missing_ok: bool = False) -> None:
        check_deadline()
        self._tables.drop(name, missing_ok=missing_ok)

    def collections(self) -> list[CollectionSpec]:
        check_deadline()
        return self._tables.specs()

    def transaction(self) -> AbstractContextManager[Any]:
        raise UnsupportedFeature("transactions", backend="memory", hint="each call is atomic; nothing larger is")

    def close(self) -> None:
        self._tables.close()
