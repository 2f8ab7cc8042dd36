"""Documents where nothing but records can be stored: what is known of a file is in the metadata of its records. ``record_documents.py`` is the twin.

New records are stored before stale ones are removed, so that a file is never missing in between; all at once they are not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NoReturn

from likewise.abc.digests import StoredVector
from likewise.abc.document_rows import (
    ChunkInfo,
    DocumentInfo,
    DocumentPage,
    DocumentState,
    DocumentStats,
    KnownDocument,
    NewChunk,
    StoreReport,
    SyncReport,
    Trouble,
    record_id,
)
from likewise.abc.documents_async import AsyncDocuments, EmbeddedDocument
from likewise.abc.loading_async import AsyncPart
from likewise.errors import UnsupportedFeature
from likewise.filters import Exists, Filter, In, Metadata
from likewise.records import Record

__all__ = ["AsyncRecordDocuments"]

_PAGE = 1_000
#: Keys of the metadata that say how a document was read and cut.
_SETTINGS = ("chunker", "parsing", "owner")


class AsyncRecordDocuments(AsyncDocuments):
    """The documents of a collection that has records and no more. Listing them, and what needs that, is ``UnsupportedFeature``."""

    async def scan(
        self,
        *,
        cursor: int | None = None,
        limit: int = 100,
        state: DocumentState | None = None,
        owner: str | None = None,
        tenant: str | None = None,
    ) -> DocumentPage:
        self._refuse()

    async def get_many(self, documents: Iterable[int]) -> list[DocumentInfo]:
        self._refuse()

    async def chunks(self, document: int) -> list[ChunkInfo]:
        self._refuse()

    async def stats(self) -> DocumentStats:
        self._refuse()

    async def delete(self, documents: int | Iterable[int]) -> int:
        self._refuse()

    async def sync(self) -> SyncReport:
        self._refuse()

    async def config(self) -> Mapping[str, Any] | None:
        return None

    async def set_config(self, config: Mapping[str, Any]) -> None:
        """There is no place for it; it has to be given each time."""

    def _refuse(self) -> NoReturn:
        backend = type(self._collection).__module__.split(".")[-2]
        raise UnsupportedFeature(
            "a list of documents", backend=backend, hint="its records are there, with their source in the metadata"
        )

    # --- ingestion --------------------------------------------------------------------------------------------------------------

    async def known(self, sources: Sequence[str]) -> Mapping[str, KnownDocument]:
        found: dict[str, list[Record]] = {}
        for record in await self._records(In(Metadata("source"), list(sources))) if sources else []:
            found.setdefault(str(record.metadata["source"]), []).append(record)
        return {source: _known(source, records) for source, records in found.items()}

    async def copies(self, digests: Sequence[bytes], metadata: Mapping[str, Any]) -> Mapping[bytes, str]:
        wanted = In(Metadata("sha256"), [digest.hex() for digest in digests])
        found: dict[bytes, str] = {}
        for record in await self._records(wanted) if digests else []:
            same = all(record.metadata.get(key) == value for key, value in metadata.items())
            if same and record.metadata.get("owner", "") == self._owner:
                found.setdefault(bytes.fromhex(str(record.metadata["sha256"])), str(record.metadata["source"]))
        return found

    async def sources(self, *, after: str | None = None) -> list[str]:
        if after is not None:
            return []  # all of them came at once
        records = await self._records(Exists(Metadata("source")))
        return sorted({str(record.metadata["source"]) for record in records})

    async def orphans(self) -> list[str]:
        return []  # copies leave no trace here; the next ingestion meets them as new

    async def forget(self, sources: Sequence[str]) -> int:
        records = await self._records(In(Metadata("source"), list(sources))) if sources else []
        try:
            await self._collection.delete([record.id for record in records])
        finally:
            self.wrote()
        return len({record.metadata["source"] for record in records})

    async def store(self, documents: Sequence[EmbeddedDocument]) -> StoreReport:
        try:
            return await self._store(documents)
        finally:
            self.wrote()

    async def _store(self, documents: Sequence[EmbeddedDocument]) -> StoreReport:
        part = AsyncPart(None, None)
        part.blocks = [block for document in documents for block in document.blocks]
        part.rows = sum(map(len, part.blocks))
        written = await self._collection._write_part(part, replace=True, progress=None) if part.blocks else 0
        stored = {identifier for block in part.blocks for identifier in block.ids}
        of_these = await self._records(In(Metadata("source"), [one.document.source for one in documents]))
        removed = await self._collection.delete([record.id for record in of_these if record.id not in stored])
        return StoreReport(written, removed)

    async def note_trouble(self, troubles: Sequence[Trouble]) -> None:
        """There is no place for it; whoever ingests reports it."""

    async def _vectors(self, hashes: Sequence[bytes], ids: Sequence[str]) -> Mapping[bytes, StoredVector]:
        stored = await self._collection._stored_vectors(list(ids))
        records = await self._collection.get_many(list(stored), include=("content",))
        return {NewChunk(text=record.content).content_hash: stored[record.id] for record in records if record.content}

    def _is_ours(self, record: Record) -> bool:
        """Whether a record is of a document of this tenant: it has the id of one. Whoever stores records of their own may give them a source, too."""
        source = record.metadata.get("source")
        if not isinstance(source, str):
            return False
        whole = record_id(source, None, self._tenant)
        return record.id == whole or record.id == record_id(source, _ordinal(record), self._tenant)

    async def _records(self, where: Filter) -> list[Record]:
        """This tenant's records, of those that match."""
        found: list[Record] = []
        cursor: str | None = None
        while True:
            page = await self._collection.scan(where, cursor=cursor, limit=_PAGE, include=("metadata",))
            found += filter(self._is_ours, page)
            cursor = page.cursor
            if cursor is None:
                return found


def _ordinal(record: Record) -> int | None:
    """The number of the chunk that a record is, from 0."""
    number = record.metadata.get("chunk")
    return number if isinstance(number, int) else None


def _known(source: str, records: Sequence[Record]) -> KnownDocument:
    """What the records of a file say of it: of a file half-written, or half-replaced, they do not agree."""
    said = records[0].metadata
    settings = {key: said[key] for key in _SETTINGS if key in said}
    agreed = all(
        (r.metadata.get("sha256"), {key: r.metadata[key] for key in _SETTINGS if key in r.metadata})
        == (said.get("sha256"), settings)
        for r in records
    )
    complete = agreed and said.get("chunks") == len(records)
    digest = said.get("sha256")
    return KnownDocument(
        source, bytes.fromhex(digest) if isinstance(digest, str) else b"", settings, "stored", complete, said=said
    )
