"""The documents of a collection, as asynchronous code; ``documents.py`` is the generated twin.

A document is a file that was read and cut; each of its chunks is a record of the collection. A backend implements the abstract methods;
embedding, which is the same for all, is written here. No driver enters this module, and no file is read.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from likewise.abc.blocks import Block
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
from likewise.abc.runs import Run
from likewise.errors import DimensionMismatch, InvalidArgument, InvalidRecord, NotFound
from likewise.records import Record

if TYPE_CHECKING:
    from likewise.abc.stores_async import AsyncCollection

__all__ = ["AsyncDocuments", "EmbeddedDocument"]

_BLOCK_ROWS = 128


@dataclass(frozen=True, slots=True)
class EmbeddedDocument:
    """A document with the rows that its chunks became."""

    document: NewDocument
    blocks: Sequence[Block]


class AsyncDocuments(ABC):
    """The documents of one collection, of one ``tenant`` and ``owner`` where these are given (the empty text is nobody).

    Documents of different tenants do not know of each other: the same file may be stored for each of them.
    """

    def __init__(self, collection: AsyncCollection, *, tenant: str = "", owner: str = "") -> None:
        self._collection = collection
        self._tenant = tenant
        self._owner = owner
        #: Called after records may have changed, for those who keep a copy of them.
        self.wrote: Callable[[], None] = _nothing

    @property
    def tenant(self) -> str:
        """Whose documents these are; empty for nobody's."""
        return self._tenant

    @property
    def owner(self) -> str:
        """Who owns what is stored here; empty for nobody."""
        return self._owner

    # --- reading ----------------------------------------------------------------------------------------------------------------

    @abstractmethod
    async def scan(
        self,
        *,
        cursor: int | None = None,
        limit: int = 100,
        state: DocumentState | None = None,
        owner: str | None = None,
        tenant: str | None = None,
    ) -> DocumentPage:
        """A page of documents of all tenants and owners, or of those that are given, in the order of their ids."""

    @abstractmethod
    async def get_many(self, documents: Iterable[int]) -> list[DocumentInfo]:
        """The documents with these ids, in the order of the ids; unknown ones are left out."""

    async def get(self, document: int) -> DocumentInfo:
        """The document with this id; ``NotFound`` if there is none."""
        found = await self.get_many([document])
        if not found:
            raise NotFound(f"there is no document {document} in collection {self._collection.name!r}")
        return found[0]

    @abstractmethod
    async def chunks(self, document: int) -> list[ChunkInfo]:
        """The chunks of a document, in order; none if there is no such document."""

    @abstractmethod
    async def stats(self) -> DocumentStats:
        """How many vectors and documents there are."""

    # --- writing ----------------------------------------------------------------------------------------------------------------

    @abstractmethod
    async def delete(self, documents: int | Iterable[int]) -> int:
        """Delete these documents, their chunks and their records, all or none; how many documents there were."""

    @abstractmethod
    async def sync(self) -> SyncReport:
        """Compare the chunks with their records, and make those records anew that are gone, or are not what the chunk says."""

    @abstractmethod
    async def config(self) -> Mapping[str, Any] | None:
        """How files are parsed and cut for this collection, as ``ingest`` was last told; None if it never was."""

    @abstractmethod
    async def set_config(self, config: Mapping[str, Any]) -> None:
        """Remember it."""

    # --- ingestion --------------------------------------------------------------------------------------------------------------

    @abstractmethod
    async def known(self, sources: Sequence[str]) -> Mapping[str, KnownDocument]:
        """What is stored of some files, by their sources."""

    @abstractmethod
    async def copies(self, digests: Sequence[bytes], metadata: Mapping[str, Any]) -> Mapping[bytes, str]:
        """Of some contents, by their SHA-256, the source of the document that holds each, of this tenant and owner, and ingested with this metadata."""

    @abstractmethod
    async def sources(self, *, after: str | None = None) -> list[str]:
        """Sources of this tenant's documents, in the order of code points, those after a source; empty at the end."""

    @abstractmethod
    async def orphans(self) -> list[str]:
        """Sources of this tenant's documents that are copies of what has changed or gone meanwhile, so that nothing holds their content."""

    @abstractmethod
    async def forget(self, sources: Sequence[str]) -> int:
        """Delete this tenant's documents with these sources and their records; how many documents there were."""

    async def embed(self, documents: Sequence[NewDocument]) -> tuple[list[EmbeddedDocument], list[Refused]]:
        """The documents with the vectors of their chunks, and those that cannot be stored.

        All are embedded together. What is equal is embedded once, and what the collection has a vector of already is not embedded at all.
        ``DimensionMismatch`` if the model's vectors do not fit the collection.
        """
        records: list[Record] = []
        hashes: dict[str, bytes] = {}
        places: list[tuple[int, int]] = []
        for document in documents:
            made = document.records(self._tenant)
            places.append((len(records), len(records) + len(made)))
            records += made
            hashes.update({record.id: chunk.content_hash for record, chunk in zip(made, document.chunks, strict=True)})

        async def known(ids: list[str]) -> Mapping[str, StoredVector]:
            stored = await self._vectors(list(dict.fromkeys(hashes[i] for i in ids)), ids)
            return {i: stored[hashes[i]] for i in ids if hashes[i] in stored}

        rejected: list[InvalidRecord] = []
        runs = await self._collection._runs(records, 0, known, rejected)
        problems = {error.position: error for error in reversed(rejected)}
        embedded: list[EmbeddedDocument] = []
        refused: list[Refused] = []
        for document, (low, high) in zip(documents, places, strict=True):
            problem = next((problems[place] for place in range(low, high) if place in problems), None)
            try:
                if problem is not None:
                    raise problem
                blocks = [
                    block
                    for run in _between(runs, low, high)
                    for block in run.blocks(self._collection.spec, _BLOCK_ROWS)
                ]
            except DimensionMismatch:
                raise
            except InvalidArgument as error:
                refused.append(Refused(document, _reason(error)))
            else:
                embedded.append(EmbeddedDocument(document, blocks))
        return embedded, refused

    @abstractmethod
    async def store(self, documents: Sequence[EmbeddedDocument]) -> StoreReport:
        """Store documents in place of what was stored under their sources: all of them, or nothing. A search sees each as it was or as it is."""

    @abstractmethod
    async def note_trouble(self, troubles: Sequence[Trouble]) -> None:
        """Remember that these files could not be read or stored; what was stored of them before stays."""

    @abstractmethod
    async def _vectors(self, hashes: Sequence[bytes], ids: Sequence[str]) -> Mapping[bytes, StoredVector]:
        """Vectors that the collection has of these contents, by their hashes; ``ids`` are those that the records will have."""


def _nothing() -> None:
    """What is done after a change, unless somebody wants to know."""


def _between(runs: Sequence[Run], low: int, high: int) -> list[Run]:
    """The rows of the input from ``low`` up to ``high``."""
    found = []
    for run in runs:
        first, last = max(low, run.position), min(high, run.position + len(run))
        if first < last:
            found.append(run.part(first - run.position, last - run.position))
    return found


def _reason(error: InvalidArgument) -> str:
    """The cause's own words: what stands around them is about a record among many."""
    cause = error.__cause__
    return str(cause if isinstance(cause, InvalidArgument) else error)
