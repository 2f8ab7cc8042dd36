# Generated from src/likewise/abc/record_documents_async.py by tools/async_to_sync.py; edit that file instead.
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
from likewise.abc.documents import Documents, EmbeddedDocument
from likewise.abc.loading import Part
from likewise.errors import UnsupportedFeature
from likewise.filters import Exists, Filter, In, Metadata
from likewise.records import Record

__all__ = ["RecordDocuments"]

_PAGE = 1_000
#: Keys of the metadata that say how a document was read and cut.
_SETTINGS = ("chunker", "parsing", "owner")


class RecordDocuments(Documents):
    """The documents of a collection that has records and no more. Listing them, and what needs that, is ``UnsupportedFeature``."""

    def scan(
        self,
        *,
        cursor: int | None = None,
        limit: int = 100,
        state: DocumentState | None = None,
        owner: str | None = None,
        tenant: str | None = None,
    ) -> DocumentPage:
        self._refuse()

    def get_many(self, documents: Iterable[int]) -> list[DocumentInfo]:
        self._refuse()

    def chunks(self, document: int) -> list[ChunkInfo]:
        self._refuse()

    def stats(self) -> DocumentStats:
        self._refuse()

    def delete(self, documents: int | Iterable[int]) -> int:
        self._refuse()

    def sync(self) -> SyncReport:
        self._refuse()

    def config(self) -> Mapping[str, Any] | None:
        return None

    def set_config(self, config: Mapping[str, Any]) -> None:
        """There is no place for it; it has to be given each time."""

    def _refuse(self) -> NoReturn:
        backend = type(self._collection).__module__.split(".")[-2]
        raise UnsupportedFeature(
            "a list of documents", backend=backend, hint="its records are there, with their source in the metadata"
        )

    # --- ingestion --------------------------------------------------------------------------------------------------------------

    def known(self, sources: Sequence[str]) -> Mapping[str, KnownDocument]:
        found: dict[str, list[Record]] = {}
        for record in self._records(In(Metadata("source"), list(sources))) if sources else []:
            found.setdefault(str(record.metadata["source"]), []).append(record)
        return {source: _known(source, records) for source, records in found.items()}

    def copies(self, digests: Sequence[bytes], metadata: Mapping[str, Any]) -> Mapping[bytes, str]:
        wanted = In(Metadata("sha256"), [digest.hex() for digest in digests])
        found: dict[bytes, str] = {}
        for record in self._records(wanted) if digests else []:
            same = all(record.metadata.get(key) == value for key, value in metadata.items())
            if same and record.metadata.get("owner", "") == self._owner:
                found.setdefault(bytes.fromhex(str(record.metadata["sha256"])), str(record.metadata["source"]))
        return found

    def sources(self, *, after: str | None = None) -> list[str]:
        if after is not None:
            return []  # all of them came at once
        records = self._records(Exists(Metadata("source")))
        return sorted({str(record.metadata["source"]) for record in records})

    def orphans(self) -> list[str]:
        return []  # copies leave no trace here; the next ingestion meets them as new

    def forget(self, sources: Sequence[str]) -> int:
        records = self._records(In(Metadata("source"), list(sources))) if sources else []
        try:
            self._collection.delete([record.id for record in records])
        finally:
            self.wrote()
        return len({record.metadata["source"] for record in records})

    def store(self, documents: Sequence[EmbeddedDocument]) -> StoreReport:
        try:
            return self._store(documents)
        finally:
            self.wrote()

    def _store(self, documents: Sequence[EmbeddedDocument]) -> StoreReport:
        part = Part(None, None)
        part.blocks = [block for document in documents for block in document.blocks]
        part.rows = sum(map(len, part.blocks))
        written = self._collection._write_part(part, replace=True, progress=None) if part.blocks else 0
        stored = {identifier for block in part.blocks for identifier in block.ids}
        of_these = self._records(In(Metadata("source"), [one.document.source for one in documents]))
        removed = self._collection.delete([record.id for record in of_these if record.id not in stored])
        return StoreReport(written, removed)

    def note_trouble(self, troubles: Sequence[Trouble]) -> None:
        """There is no place for it; whoever ingests reports it."""

    def _vectors(self, hashes: Sequence[bytes], ids: Sequence[str]) -> Mapping[bytes, StoredVector]:
        stored = self._collection._stored_vectors(list(ids))
        records = self._collection.get_many(list(stored), include=("content",))
        return {NewChunk(text=record.content).content_hash: stored[record.id] for record in records if record.content}

    def _is_ours(self, record: Record) -> bool:
        """Whether a record is of a document of this tenant: it has the id of one. Whoever stores records of their own may give them a source, too."""
        source = record.metadata.get("source")
        if not isinstance(source, str):
            return False
        whole = record_id(source, None, self._tenant)
        return record.id == whole or record.id == record_id(source, _ordinal(record), self._tenant)

    def _records(self, where: Filter) -> list[Record]:
        """This tenant's records, of those that match."""
        found: list[Record] = []
        cursor: str | None = None
        while True:
            page = self._collection.scan(where, cursor=cursor, limit=_PAGE, include=("metadata",))
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
