# Generated from src/likewise/backends/faiss/documents_async.py by tools/async_to_sync.py; edit that file instead.
"""The documents of a collection with a replica: those of the collection of record. What is written by way of them is read by who searches next."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from likewise.abc.digests import StoredVector
from likewise.abc.document_rows import (
    ChunkInfo,
    DocumentInfo,
    DocumentPage,
    DocumentState,
    DocumentStats,
    KnownDocument,
    NewDocument,
    Refused,
    StoreReport,
    SyncReport,
    Trouble,
)
from likewise.abc.documents import Documents, EmbeddedDocument

if TYPE_CHECKING:
    from likewise.abc.stores import Collection

__all__ = ["FaissDocuments"]


class FaissDocuments(Documents):
    """Documents of another store's collection; ``wrote`` is told of every write, and of every one that may have been one."""

    def __init__(self, collection: Collection, inner: Documents, wrote: Callable[[], None]) -> None:
        super().__init__(collection, tenant=inner.tenant, owner=inner.owner)
        self._inner = inner
        self._wrote = wrote

    # --- writing ----------------------------------------------------------------------------------------------------------------

    def delete(self, documents: int | Iterable[int]) -> int:
        try:
            return self._inner.delete(documents)
        finally:
            self._wrote()

    def sync(self) -> SyncReport:
        try:
            return self._inner.sync()
        finally:
            self._wrote()

    def forget(self, sources: Sequence[str]) -> int:
        try:
            return self._inner.forget(sources)
        finally:
            self._wrote()

    def store(self, documents: Sequence[EmbeddedDocument]) -> StoreReport:
        try:
            return self._inner.store(documents)
        finally:
            self._wrote()

    # --- what no search sees ----------------------------------------------------------------------------------------------------

    def scan(
        self,
        *,
        cursor: int | None = None,
        limit: int = 100,
        state: DocumentState | None = None,
        owner: str | None = None,
        tenant: str | None = None,
    ) -> DocumentPage:
        return self._inner.scan(cursor=cursor, limit=limit, state=state, owner=owner, tenant=tenant)

    def get_many(self, documents: Iterable[int]) -> list[DocumentInfo]:
        return self._inner.get_many(documents)

    def chunks(self, document: int) -> list[ChunkInfo]:
        return self._inner.chunks(document)

    def stats(self) -> DocumentStats:
        return self._inner.stats()

    def config(self) -> Mapping[str, Any] | None:
        return self._inner.config()

    def set_config(self, config: Mapping[str, Any]) -> None:
        self._inner.set_config(config)

    def known(self, sources: Sequence[str]) -> Mapping[str, KnownDocument]:
        return self._inner.known(sources)

    def copies(self, digests: Sequence[bytes]) -> Mapping[bytes, str]:
        return self._inner.copies(digests)

    def sources(self, *, after: str | None = None) -> list[str]:
        return self._inner.sources(after=after)

    def embed(self, documents: Sequence[NewDocument]) -> tuple[list[EmbeddedDocument], list[Refused]]:
        return self._inner.embed(documents)

    def note_trouble(self, troubles: Sequence[Trouble]) -> None:
        self._inner.note_trouble(troubles)

    def _vectors(self, hashes: Sequence[bytes], ids: Sequence[str]) -> Mapping[bytes, StoredVector]:
        return self._inner._vectors(hashes, ids)
