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
from likewise.abc.documents_async import AsyncDocuments, EmbeddedDocument

if TYPE_CHECKING:
    from likewise.abc.stores_async import AsyncCollection

__all__ = ["AsyncFaissDocuments"]


class AsyncFaissDocuments(AsyncDocuments):
    """Documents of another store's collection; ``wrote`` is told of every write, and of every one that may have been one."""

    def __init__(self, collection: AsyncCollection, inner: AsyncDocuments, wrote: Callable[[], None]) -> None:
        super().__init__(collection, tenant=inner.tenant, owner=inner.owner)
        self._inner = inner
        self._wrote = wrote

    # --- writing ----------------------------------------------------------------------------------------------------------------

    async def delete(self, documents: int | Iterable[int]) -> int:
        try:
            return await self._inner.delete(documents)
        finally:
            self._wrote()

    async def sync(self) -> SyncReport:
        try:
            return await self._inner.sync()
        finally:
            self._wrote()

    async def forget(self, sources: Sequence[str]) -> int:
        try:
            return await self._inner.forget(sources)
        finally:
            self._wrote()

    async def store(self, documents: Sequence[EmbeddedDocument]) -> StoreReport:
        try:
            return await self._inner.store(documents)
        finally:
            self._wrote()

    # --- what no search sees ----------------------------------------------------------------------------------------------------

    async def scan(
        self,
        *,
        cursor: int | None = None,
        limit: int = 100,
        state: DocumentState | None = None,
        owner: str | None = None,
        tenant: str | None = None,
    ) -> DocumentPage:
        return await self._inner.scan(cursor=cursor, limit=limit, state=state, owner=owner, tenant=tenant)

    async def get_many(self, documents: Iterable[int]) -> list[DocumentInfo]:
        return await self._inner.get_many(documents)

    async def chunks(self, document: int) -> list[ChunkInfo]:
        return await self._inner.chunks(document)

    async def stats(self) -> DocumentStats:
        return await self._inner.stats()

    async def config(self) -> Mapping[str, Any] | None:
        return await self._inner.config()

    async def set_config(self, config: Mapping[str, Any]) -> None:
        await self._inner.set_config(config)

    async def known(self, sources: Sequence[str]) -> Mapping[str, KnownDocument]:
        return await self._inner.known(sources)

    async def copies(self, digests: Sequence[bytes]) -> Mapping[bytes, str]:
        return await self._inner.copies(digests)

    async def sources(self, *, after: str | None = None) -> list[str]:
        return await self._inner.sources(after=after)

    async def embed(self, documents: Sequence[NewDocument]) -> tuple[list[EmbeddedDocument], list[Refused]]:
        return await self._inner.embed(documents)

    async def note_trouble(self, troubles: Sequence[Trouble]) -> None:
        await self._inner.note_trouble(troubles)

    async def _vectors(self, hashes: Sequence[bytes], ids: Sequence[str]) -> Mapping[bytes, StoredVector]:
        return await self._inner._vectors(hashes, ids)
