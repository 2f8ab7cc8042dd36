"""Documents as values: what is stored of a file, of its chunks, and the records that they become. Pure; no database enters here."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, TypeAlias

from likewise.records import Record

__all__ = [
    "ChunkInfo",
    "DocumentInfo",
    "DocumentPage",
    "DocumentState",
    "DocumentStats",
    "DocumentVectors",
    "KnownDocument",
    "NewChunk",
    "NewDocument",
    "Refused",
    "StoreReport",
    "SyncReport",
    "Trouble",
    "record_id",
    "record_of",
]

#: ``stored`` has records; ``failed`` could not be read and has none; ``duplicate`` has the content of another document, which has the records.
DocumentState: TypeAlias = Literal["stored", "failed", "duplicate"]


@dataclass(frozen=True, slots=True, kw_only=True)
class NewChunk:
    """A part of a document that becomes one record: its ``text``, prefix included, or the bytes of a picture.

    ``start`` and ``end`` are where its text stands in the document, in characters, without the prefix of ``prefix_length`` characters;
    ``page`` counts from 1; ``tokens`` are what its embedder counts. None where that is not known.
    """

    text: str | None = None
    image: bytes | None = None
    start: int | None = None
    end: int | None = None
    prefix_length: int = 0
    tokens: int | None = None
    page: int | None = None
    headings: tuple[str, ...] = ()

    @property
    def content_hash(self) -> bytes:
        """SHA-256 of what is embedded."""
        data = self.image if self.image is not None else (self.text or "").encode("utf-8", "surrogatepass")
        return hashlib.sha256(data).digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class NewDocument:
    """A file that was read and cut. ``metadata`` goes into each of its records; ``settings`` say how it was read and cut.

    With ``duplicate_of`` it has the content of the document with this source, and no chunks.
    """

    source: str
    sha256: bytes
    size: int
    media_type: str
    chunks: Sequence[NewChunk]
    metadata: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    title: str | None = None
    language: str | None = None
    characters: int = 0
    #: Whether its one picture stands for the whole file: then the record's id is the source itself.
    whole: bool = False
    duplicate_of: str | None = None

    @property
    def held(self) -> int:
        """The bytes that its pictures take, and its text at the least."""
        return sum(len(chunk.text or "") + len(chunk.image or b"") for chunk in self.chunks)

    def records(self, tenant: str = "") -> list[Record]:
        """The records of its chunks, in order."""
        return [
            record_of(
                chunk, record_id(self.source, None if self.whole else n, tenant), n, len(self.chunks), self.metadata
            )
            for n, chunk in enumerate(self.chunks)
        ]


def record_id(source: str, ordinal: int | None, tenant: str = "") -> str:
    """The id of a chunk's record: the source and the chunk's number, from 0; of a picture the source alone.

    A tenant's begin with its name and ``//``, which is in no tenant's name and in no path, so that nobody has the ids of another.
    """
    name = source if not tenant else f"{tenant}//{source}"
    return name if ordinal is None else f"{name}#{ordinal}"


def record_of(chunk: NewChunk, identifier: str, ordinal: int, chunks: int, metadata: Mapping[str, Any]) -> Record:
    """The record of a chunk: the document's metadata, and what the chunk knows of its place."""
    place: dict[str, Any] = {"chunk": ordinal, "chunks": chunks}
    known = {"start": chunk.start, "end": chunk.end, "tokens": chunk.tokens, "page": chunk.page}
    place.update({name: value for name, value in known.items() if value is not None})
    if chunk.headings:
        place["headings"] = list(chunk.headings)
    if chunk.prefix_length and chunk.text:
        place["prefix"] = chunk.text[: chunk.prefix_length]
    if chunk.image is not None:
        return Record(identifier, image=chunk.image, metadata={**metadata, **place})
    return Record(identifier, content=chunk.text, metadata={**metadata, **place})


@dataclass(frozen=True, slots=True)
class KnownDocument:
    """What is stored of a file: the hash of its content, how it was read and cut, and whether all of its records are there.

    Where the settings do not tell what metadata was asked for, ``said`` is what the records have.
    """

    source: str
    sha256: bytes
    settings: Mapping[str, Any] | None
    state: DocumentState
    complete: bool
    failed: bool = False
    picture: bool = False
    said: Mapping[str, Any] | None = None

    def is_as(self, sha256: bytes, settings: Mapping[str, Any]) -> bool:
        """Whether a file with this content, read and cut like this, need not be stored again. Of a picture there may be nothing to cut."""
        if self.said is not None:
            if any(self.said.get(name) != value for name, value in settings.get("metadata", {}).items()):
                return False
            settings = {name: value for name, value in settings.items() if name != "metadata"}
        same = self.settings == settings
        if self.picture and not same:
            same = self.settings == {name: value for name, value in settings.items() if name != "chunker"}
        return same and self.complete and self.sha256 == sha256 and not self.failed


@dataclass(frozen=True, slots=True)
class Trouble:
    """A file that could not be read or stored: what was being done, and why it failed."""

    source: str
    reason: str
    stage: str
    sha256: bytes
    size: int


@dataclass(frozen=True, slots=True)
class Refused:
    """A document of which a chunk cannot be embedded or stored, and why; nothing of it is stored."""

    document: NewDocument
    reason: str


@dataclass(frozen=True, slots=True)
class StoreReport:
    """What storing some documents did: ``records`` written, ``removed`` records that are no longer said."""

    records: int = 0
    removed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentInfo:
    """A document as it is stored. ``size`` is in bytes; ``error`` says why it could not be read last, if it could not."""

    id: int
    source: str
    state: DocumentState
    media_type: str | None
    size: int
    title: str | None
    language: str | None
    metadata: Mapping[str, Any]
    chunks: int
    characters: int
    embedding_model: str | None
    tenant: str
    owner: str
    error: str | None
    error_stage: str | None
    duplicate_of: int | None
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class DocumentPage:
    """Some documents, and the cursor that asks for the next, None on the last page."""

    documents: Sequence[DocumentInfo]
    cursor: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkInfo:
    """A chunk as it is stored: its record's id, its place in the document, and its text (None for a picture).

    ``faiss_index`` is a number of its own, for indexes whose keys are numbers. ``start`` and ``end`` are characters of the document.
    """

    id: str
    chunk_index: int
    text: str | None
    length: int
    faiss_index: int
    embedding_model: str | None
    page: int | None
    start: int | None
    end: int | None
    headings: tuple[str, ...]
    created_at: datetime


@dataclass(frozen=True, slots=True)
class DocumentVectors:
    """How many vectors a document has, and the characters of their texts."""

    document_id: int
    vectors: int
    characters: int


@dataclass(frozen=True, slots=True)
class DocumentStats:
    """The vectors of a collection, those of documents and others, its documents, and what each of these has (the first thousand)."""

    total_vectors: int
    total_documents: int
    per_document: Sequence[DocumentVectors]


@dataclass(frozen=True, slots=True)
class SyncReport:
    """What ``sync`` found and did: ``restored`` records that were gone, ``refreshed`` ones that said something else or came from another model.

    ``unrepairable`` are the ids of records that only the file can restore (pictures): their documents are read again at the next ingestion.
    """

    restored: int
    refreshed: int
    unrepairable: Sequence[str]
