"""Brings files into a collection: load, chunk, embed, upsert, and remove what a changed file no longer says.

Every record carries its file's ``source`` and ``sha256`` in the metadata. They are what makes a second run fast (files whose
content is stored already are passed over) and safe to interrupt (a file half-written is written again). New chunks are stored
before stale ones are removed, so that a file is never missing in between.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from likewise.abc.stores import Collection
from likewise.abc.validation import MAX_ID_LENGTH, chunks
from likewise.errors import DimensionMismatch, InvalidArgument, OptionalDependencyError
from likewise.filters import And, Column, Eq, In, Metadata, NotIn
from likewise.ingest.chunking import MAX_CHARACTERS, Chunk, Chunker, chunk_text
from likewise.ingest.loading import Document, find_files, load
from likewise.ingest.parsing import Parsed, ParserPool, Unreadable
from likewise.records import Record

__all__ = ["FileFailure", "IngestReport", "ingest"]

_log = logging.getLogger("likewise.ingest")

#: Files looked at together: their stored state is asked for in one query, their records are embedded together.
BATCH_FILES = 32
#: Room in an id for "#" and the number of a chunk.
_LONGEST_SOURCE = MAX_ID_LENGTH - 12
#: Characters of a title or name, and the number of keywords, that go into the metadata of each record.
_LONGEST_FACT, _MOST_KEYWORDS = 500, 50


@dataclass(frozen=True, slots=True)
class FileFailure:
    """A file that gave no record, and why."""

    path: str
    reason: str


@dataclass(slots=True)
class IngestReport:
    """What an ingestion did. Files are counted once each: ``stored``, ``unchanged``, or listed in ``failed`` or ``skipped``.

    ``failed`` could not be stored, ``skipped`` were left out on purpose (links that lead elsewhere). ``records`` were written,
    ``removed`` are the stale records of changed files.
    """

    stored: int = 0
    unchanged: int = 0
    records: int = 0
    removed: int = 0
    failed: list[FileFailure] = field(default_factory=list)
    skipped: list[FileFailure] = field(default_factory=list)

    @property
    def files(self) -> int:
        """How many files were looked at."""
        return self.stored + self.unchanged + len(self.failed) + len(self.skipped)


def ingest(
    collection: Collection,
    paths: Iterable[str | os.PathLike[str]],
    *,
    base: str | os.PathLike[str] | None = None,
    max_characters: int = MAX_CHARACTERS,
    chunker: Chunker | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> IngestReport:
    """Store the pictures, texts and documents among these files and folders; what was done, and what failed and why.

    A picture becomes one record, whose id is its path; a text one record a chunk, with the ids ``path#0``, ``path#1`` … The path is
    absolute, or relative to ``base``. What a document says of itself (title, author, language, dates, keywords) is in the metadata.
    Documents are parsed in a process of their own: what hangs or crashes it is a failure of that file. ``progress`` is called with
    the number of files done and of all files. The collection needs an embedder. ``NotFound`` if a path does not exist.

    Texts are cut at their paragraphs into ``max_characters`` at most, or by a ``chunker``; then the metadata of each record say where in the
    file its text stands (``start``, ``end``, in characters), its ``tokens``, the ``headings`` above it, the ``page`` on which it begins, and the ``prefix`` that its content begins
    with, where there are any, and the ``chunker``'s settings. A file that was cut with other settings is cut and stored again.
    """
    if collection.embedder is None:
        raise InvalidArgument(
            f"collection {collection.name!r} has no embedder, so files cannot be embedded: create one with embedder='mini'"
        )
    pictures = "image" in collection.embedder.card.modalities
    folder = None if base is None else Path(base).resolve()
    found = list(find_files(Path(p) for p in paths))
    report = IngestReport(skipped=[FileFailure(str(path), reason) for path, reason in found if reason is not None])
    files = [path for path, reason in found if reason is None]
    done = 0
    with ParserPool() as pool:
        for batch in chunks(files, BATCH_FILES):
            documents: list[tuple[str, Document]] = []
            for path in batch:
                try:
                    document = load(path, pool=pool)
                    if document.kind == "image" and not pictures:
                        raise Unreadable(
                            f"a picture, and {collection.spec.embedder!r} embeds text only", stage="parsing"
                        )
                    documents.append((_source(path, folder), document))
                except Unreadable as error:
                    report.failed.append(FileFailure(str(path), error.reason))
                except OptionalDependencyError as error:
                    report.failed.append(FileFailure(str(path), str(error)))
            _store(collection, documents, max_characters, chunker, report)
            done += len(batch)
            if progress is not None:
                progress(done, len(files))
    return report


def _source(path: Path, base: Path | None) -> str:
    """The name that a file goes by; a name too long for an id keeps its beginning and a hash of the whole."""
    name = path.as_posix() if base is None or not path.is_relative_to(base) else path.relative_to(base).as_posix()
    name = _printable(name)
    if len(name) > _LONGEST_SOURCE:
        name = f"{name[: _LONGEST_SOURCE - 17]}~{hashlib.sha256(name.encode()).hexdigest()[:16]}"
    return name


def _printable(path: str | Path) -> str:
    """A name that is not Unicode reaches Python with lone surrogates, which no database stores: its bytes are written out."""
    return str(path).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _records(source: str, document: Document, max_characters: int, chunker: Chunker | None) -> list[Record]:
    common: dict[str, Any] = {
        "source": source,
        "path": _printable(document.path),
        "sha256": document.digest,
        "media_type": document.media_type,
        "bytes": document.size,
        **_said(document.parsed),
    }
    if document.kind == "image":
        return [Record(source, image=document.data, metadata={**common, "chunk": 0, "chunks": 1})]
    if chunker is not None:
        pages = document.parsed.pages if document.parsed is not None else ()
        cut = chunker.chunk(document.text, page_starts=[start for start, _ in pages])
        return [
            Record(
                f"{source}#{chunk.ordinal}",
                content=chunk.embedded,
                metadata={
                    **common,
                    "chunk": chunk.ordinal,
                    "chunks": len(cut),
                    "chunker": chunker.settings,
                    **_where(chunk),
                },
            )
            for chunk in cut
        ]
    parts = chunk_text(document.text, max_characters=max_characters)
    return [
        Record(f"{source}#{n}", content=part, metadata={**common, "chunk": n, "chunks": len(parts)})
        for n, part in enumerate(parts)
    ]


def _said(parsed: Parsed | None) -> dict[str, str | int | list[str]]:
    """What a document says of itself, without what it does not say."""
    if parsed is None:
        return {}
    facts: dict[str, str | int | list[str] | None] = {
        "title": parsed.title,
        "author": parsed.author,
        "language": parsed.language,
        "created": parsed.created,
        "modified": parsed.modified,
        "keywords": list(parsed.keywords),
        "width": parsed.width,
        "height": parsed.height,
    }
    return {name: _short(value) for name, value in facts.items() if value}


def _short(value: str | int | list[str]) -> str | int | list[str]:
    """As metadata keeps it: strange files have titles of a megabyte, and characters that no database stores."""
    match value:
        case str():
            return value[:_LONGEST_FACT].replace("\x00", "").encode("utf-8", "replace").decode("utf-8")
        case list():
            return [str(_short(word)) for word in value[:_MOST_KEYWORDS]]
        case _:
            return value


def _where(chunk: Chunk) -> dict[str, Any]:
    """What a chunk knows of its place, as metadata."""
    known: dict[str, Any] = {"start": chunk.start, "end": chunk.end, "tokens": chunk.tokens}
    if chunk.headings:
        known["headings"] = list(chunk.headings)
    if chunk.prefix:
        known["prefix"] = chunk.prefix
    if chunk.page is not None:
        known["page"] = chunk.page
    return known


def _state(digest: object, settings: object) -> tuple[str, str]:
    """What a record was made of: the file's content, and how it was cut; no settings for pictures and paragraphs."""
    return str(digest or ""), str(settings or "")


def _store(
    collection: Collection,
    documents: Sequence[tuple[str, Document]],
    max_characters: int,
    chunker: Chunker | None,
    report: IngestReport,
) -> None:
    stored = _stored(collection, [source for source, _ in documents])
    pending: list[tuple[str, Document, list[Record]]] = []
    for source, document in documents:
        records = _records(source, document, max_characters, chunker)
        if stored.get(source) == {r.id: _state(r.metadata["sha256"], r.metadata.get("chunker")) for r in records}:
            report.unchanged += 1
        else:
            pending.append((source, document, records))
    if not pending:
        return
    try:
        report.records += collection.upsert([r for _, _, records in pending for r in records])
    except DimensionMismatch:
        raise
    except InvalidArgument:
        # One of them cannot be embedded or stored: find out which, and keep the others.
        pending = _one_by_one(collection, pending, report)
    for source, _, records in pending:
        report.stored += 1
        if source in stored:
            ids = [r.id for r in records]
            stale = [i for i in stored[source] if i not in set(ids)]
            if stale:
                report.removed += collection.delete(where=And(Eq(Metadata("source"), source), NotIn(Column("id"), ids)))


def _one_by_one(
    collection: Collection, pending: Sequence[tuple[str, Document, list[Record]]], report: IngestReport
) -> list[tuple[str, Document, list[Record]]]:
    kept = []
    for source, document, records in pending:
        try:
            report.records += collection.upsert(records)
            kept.append((source, document, records))
        except InvalidArgument as error:
            _log.debug("a file was refused", extra={"source": source}, exc_info=True)
            report.failed.append(FileFailure(str(document.path), _reason(error)))
    return kept


def _reason(error: InvalidArgument) -> str:
    """The cause's own words: what stands around them is about a batch of one."""
    cause = error.__cause__
    return str(cause if isinstance(cause, InvalidArgument) else error)


def _stored(collection: Collection, sources: Sequence[str]) -> dict[str, dict[str, tuple[str, str]]]:
    """What is stored of these files: by source, what each record was made of, under its id."""
    found: dict[str, dict[str, tuple[str, str]]] = {}
    cursor: str | None = None
    while sources:
        page = collection.scan(In(Metadata("source"), list(sources)), cursor=cursor, limit=1_000, include=("metadata",))
        for record in page:
            found.setdefault(str(record.metadata["source"]), {})[record.id] = _state(
                record.metadata.get("sha256"), record.metadata.get("chunker")
            )
        cursor = page.cursor
        if cursor is None:
            break
    return found
