"""Brings files into a collection: read, parse, cut, embed, store, and remove what a changed file no longer says.

A file is looked at first: what is stored already, with the same content, cut in the same way, is passed over unparsed. Parsing goes on in
several processes, embedding in the thread that called, storing in one of its own. A document is replaced in one transaction where
the backend has such, and a run that is broken off, however that was, is completed by the next. What is in memory at any time is bounded,
whatever the number of files.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, cast

from likewise._json import normalise
from likewise.abc.document_rows import KnownDocument, NewDocument, Refused, StoreReport, Trouble
from likewise.abc.documents import Documents, EmbeddedDocument
from likewise.abc.embedder import Embedder
from likewise.abc.stores import Collection
from likewise.abc.validation import chunks
from likewise.errors import InvalidArgument
from likewise.ingest.ahead import Ahead
from likewise.ingest.chunking import MAX_CHARACTERS, Chunker
from likewise.ingest.config import IngestConfig, ParagraphsConfig
from likewise.ingest.cutting import Cutter, Seen
from likewise.ingest.loading import find_files, is_there
from likewise.ingest.parsing import ParseOptions, ParserPool
from likewise.ingest.report import FileFailure, IngestReport

__all__ = ["ingest"]

#: Processes that parse, and those that read text in pictures, of which each takes a gigabyte.
_MOST_WORKERS, _MOST_READERS = 4, 2
#: Files that are looked up together.
_WINDOW = 64
#: Documents are embedded together until they are so many, or have so many chunks, or bytes of text and pictures.
_MOST_DOCUMENTS, _MOST_CHUNKS, _MOST_BYTES = 64, 512, 64 << 20
#: Bytes of what is cut, and waits to be embedded, from which on no more files are begun.
_MOST_AHEAD = 256 << 20
#: Texts on which a dry run measures the model.
_SAMPLE = 64


def ingest(
    collection: Collection,
    paths: Iterable[str | os.PathLike[str]],
    *,
    base: str | os.PathLike[str] | None = None,
    max_characters: int | None = None,
    chunker: Chunker | None = None,
    config: IngestConfig | None = None,
    metadata: Mapping[str, Any] | None = None,
    tenant: str = "",
    owner: str = "",
    copies: Literal["skip", "store"] = "skip",
    prune: bool = False,
    dry_run: bool = False,
    workers: int | None = None,
    only: Callable[[Path], bool] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> IngestReport:
    """Store the pictures, texts and documents among these files and folders; what was done, and what failed and why.

    A picture becomes one record, whose id is its path; a text one record a chunk, with the ids ``path#0``, ``path#1`` … The path is
    absolute, or relative to ``base``. What a document says of itself (title, author, language, dates, keywords) is in the metadata, with
    what ``metadata`` says of all of them. Documents are parsed in ``workers`` processes (as many as there are processors, up to 4, or 2 that read text in pictures): what hangs
    or crashes one is a failure of that file. ``progress`` is called with the number of files done and of all files. The collection needs
    an embedder. ``NotFound`` if a path does not exist.

    Of a file that has changed only what has changed is embedded; a search finds it as it was, or as it is. A file with the content of another, of the same owner and with the same ``metadata``, is
    passed over, unless ``copies="store"``. ``prune`` deletes the documents under these folders whose files are gone. ``tenant`` and ``owner`` say whose the documents are:
    those of another tenant are not touched, whatever their names. ``dry_run`` stores nothing, and says what would be done and how long it would take.
    ``only`` says of a file whether it is to be looked at.

    ``config`` says how files are read and cut, and is stored with the collection: what is ingested later is read and cut so too. Without it, and where nothing
    is stored, texts are cut at their paragraphs. ``max_characters`` (of paragraphs) and ``chunker`` are for this call alone. Of what a chunker has cut, the metadata of each record say where in
    the document's text it stands (``start``, ``end``, in characters of what was read, not of the file), its ``tokens``, the ``headings`` above it, the ``page`` on which it begins, and the ``prefix`` that its content begins
    with, where there are any, and the ``chunker``'s settings. A file that was cut with other settings is cut and stored again.
    """
    if collection.embedder is None:
        raise InvalidArgument(
            f"collection {collection.name!r} has no embedder, so files cannot be embedded: create one with embedder='mini'"
        )
    if copies not in ("skip", "store"):
        raise InvalidArgument(f"copies is {copies!r:.80}; it must be 'skip' or 'store'")
    for name, value in (("tenant", tenant), ("owner", owner)):
        if not isinstance(value, str) or len(value) > 100 or not value.isprintable():
            raise InvalidArgument(f"{name} is {value!r:.80}; it must be text of at most 100 printable characters")
    if "/" in tenant:
        raise InvalidArgument(f"tenant is {tenant!r}; it must have no '/' in it")
    given = _metadata(metadata)
    roots = [Path(path) for path in paths]
    documents = collection.documents(tenant=tenant, owner=owner)
    if (max_characters is not None) + (chunker is not None) + (config is not None) > 1:
        raise InvalidArgument("give one of max_characters=, chunker= and config=: each says how texts are cut")
    chosen = _config(documents, config, dry_run=dry_run)
    if max_characters is None and chunker is None:
        chunker = chosen.chunker(collection.embedder)
        if isinstance(chosen.chunking, ParagraphsConfig):
            max_characters = chosen.chunking.max_characters
    threads = (
        min(_MOST_READERS if chosen.parsing.ocr else _MOST_WORKERS, os.cpu_count() or 1) if workers is None else workers
    )
    if isinstance(threads, bool) or not isinstance(threads, int) or not 1 <= threads <= 64:
        raise InvalidArgument(f"workers is {workers!r:.80}; it must be a whole number from 1 to 64")
    with ParserPool(options=ParseOptions(ocr=chosen.parsing.ocr)) as pool:
        cutter = Cutter(
            pool=pool,
            pictures="image" in collection.embedder.card.modalities,
            embedder=collection.spec.embedder,
            base=None if base is None else Path(base).resolve(),
            tenant=tenant,
            owner=owner,
            chunker=chunker,
            max_characters=max_characters or MAX_CHARACTERS,
            parsing=chosen.parsing,
            metadata=given,
        )
        run = _Run(documents, cutter, collection.embedder, share=copies == "skip", dry=dry_run, progress=progress)
        return run.go(roots, prune=prune, only=only, threads=threads)


def _metadata(given: Mapping[str, Any] | None) -> dict[str, Any]:
    """As it is stored, and compared with what is."""
    if given is not None and not isinstance(given, Mapping):
        raise InvalidArgument(f"metadata is {given!r:.80}; it must be a mapping such as {{'lang': 'en'}}")
    try:
        return cast("dict[str, Any]", normalise(given or {}, where="metadata"))
    except ValueError as error:
        raise InvalidArgument(str(error)) from error


def _config(documents: Documents, given: IngestConfig | None, *, dry_run: bool) -> IngestConfig:
    """What is given, which is stored; or what is stored."""
    stored = documents.config()
    if given is None:
        return IngestConfig() if stored is None else IngestConfig.from_json(stored)
    if not dry_run and stored != given.to_json():
        documents.set_config(given.to_json())
    return given


class _Run:
    """One call of ``ingest``."""

    def __init__(
        self,
        documents: Documents,
        cutter: Cutter,
        embedder: Embedder,
        *,
        share: bool,
        dry: bool,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        self._documents = documents
        self._cutter = cutter
        self._embedder = embedder
        self._share = share
        self._dry = dry
        self._progress = progress
        self._report = IngestReport()
        self._total = 0
        #: Contents that are on their way into the collection, with their sources.
        self._ahead: dict[bytes, str] = {}
        self._copies: Mapping[bytes, str] = {}
        self._batch: list[NewDocument | Trouble] = []
        #: The files that are on their way, by their sources.
        self._paths: dict[str, Path] = {}
        #: Files that failed, by their sources: their copies fail with them.
        self._failed: dict[str, Trouble] = {}
        self._storing: tuple[Future[StoreReport], Sequence[NewDocument | Trouble], Mapping[str, Trouble]] | None = None
        #: Files that were found to be copies.
        self._copied: set[str] = set()
        self._sampled = 0.0

    def go(
        self, roots: Sequence[Path], *, prune: bool, only: Callable[[Path], bool] | None, threads: int
    ) -> IngestReport:
        """Ingest what is under these roots."""

        def wanted() -> Iterator[tuple[Path, str | None]]:
            return (found for found in find_files(roots) if only is None or only(found[0]))

        self._total = sum(1 for _, problem in wanted() if problem is None)
        if prune:
            self._prune(roots)
        files = self._files(wanted())
        with (
            ThreadPoolExecutor(threads, "likewise-parse") as parsing,
            ThreadPoolExecutor(1, "likewise-store") as self._writer,
        ):
            try:
                self._take(files, parsing, threads)
                if not self._dry:
                    self._take(self._orphaned(roots, only), parsing, threads)
            finally:
                # On an error nobody waits for what has not begun.
                parsing.shutdown(wait=False, cancel_futures=True)
        if self._dry and self._sampled:
            self._report.estimated_seconds = self._sampled * self._report.records
        return self._report

    def _take(self, files: Iterator[Path], parsing: ThreadPoolExecutor, threads: int) -> None:
        with Ahead(parsing, threads, self._cutter.cut, most=_MOST_AHEAD) as ahead:
            for document in self._cut(files, parsing, ahead):
                self._batch.append(document)
                if self._is_full():
                    self._flush()
        self._flush()
        self._stored()

    # --- what there is to do ------------------------------------------------------------------------------------------------------

    def _files(self, found: Iterator[tuple[Path, str | None]]) -> Iterator[Path]:
        names: set[str] = set()
        for path, problem in found:
            if problem is not None:
                self._report.skipped.append(FileFailure(str(path), problem))
            elif (source := self._cutter.source(path)) in names:
                reason = (
                    f"another of these files goes by the same name in the collection, {source!r}: rename one of them"
                )
                self._report.failed.append(FileFailure(str(path), reason))
            else:
                names.add(source)
                yield path

    def _orphaned(self, roots: Sequence[Path], only: Callable[[Path], bool] | None) -> Iterator[Path]:
        """Copies, among these files, of what has changed or gone: they are stored themselves now, and are counted as that alone."""
        orphans = set(self._documents.orphans())
        if not orphans:
            return
        self._ahead = {}
        for path, problem in find_files(roots):
            if problem is None and (source := self._cutter.source(path)) in orphans:
                orphans.remove(source)
                if source in self._failed:
                    continue
                if source in self._copied:
                    self._report.duplicates -= 1
                elif only is None or only(path):
                    self._report.unchanged -= 1
                yield path

    def _prune(self, roots: Sequence[Path]) -> None:
        """Delete the documents of files that are gone from these folders. Where a name does not tell its file, it is let be, and so is
        what is in a folder that cannot be read.
        """
        folders = [root.resolve() for root in roots if root.is_dir()]
        if not folders:
            return
        present: set[str] = set()
        closed: set[Path] = set()
        for path, problem in find_files(folders):
            if problem is None:
                present.add(self._cutter.source(path))
            else:
                closed.add(path)

        def is_gone(source: str) -> bool:
            # A name that was shortened, or is not Unicode, seems to tell another file than its own.
            path = None if source in present else self._cutter.path(source)
            if path is None or not any(path.is_relative_to(folder) for folder in folders):
                return False
            return closed.isdisjoint((path, *path.parents)) and not is_there(path)

        after: str | None = None
        while sources := self._documents.sources(after=after):
            after = sources[-1]
            gone = [source for source in sources if is_gone(source)]
            self._report.pruned += len(gone) if self._dry or not gone else self._documents.forget(gone)

    def _cut(self, files: Iterator[Path], parsing: ThreadPoolExecutor, ahead: Ahead) -> Iterator[NewDocument | Trouble]:
        """What is new or has changed, in the order of the files; the rest is counted."""
        for seen in self._changed(files, parsing):
            if len(ahead) >= 2 * _WINDOW:
                yield ahead.take()
            if seen.trouble is not None:
                ahead.put(seen.trouble)
            elif (original := self._original(seen)) is not None:
                ahead.put(self._copy_of(original, seen))
            else:
                self._ahead[seen.sha256] = seen.source
                ahead.add(seen)
        yield from ahead.rest()

    def _changed(self, files: Iterator[Path], parsing: ThreadPoolExecutor) -> Iterator[Seen]:
        settings = self._cutter.settings
        for paths in chunks(files, _WINDOW):
            looked = list(parsing.map(self._cutter.look, paths))
            known = self._documents.known([seen.source for seen in looked])
            fresh = []
            for seen in looked:
                stored = known.get(seen.source)
                if seen.trouble is None and self._is_as(stored, seen, settings):
                    self._report.unchanged += 1
                    self._say()
                else:
                    self._paths[seen.source] = seen.path
                    fresh.append(seen)
            # What is stored by now is found where it is stored.
            self._ahead = {digest: source for digest, source in self._ahead.items() if source in self._paths}
            self._copies = self._originals(fresh, looked, parsing) if self._share and fresh else {}
            yield from fresh

    def _originals(
        self, fresh: Sequence[Seen], looked: Sequence[Seen], parsing: ThreadPoolExecutor
    ) -> Mapping[bytes, str]:
        """Of some contents, the source of the document that holds each. Not one whose file is there and says something else by now, or
        nothing: files change places, and each would be a copy of the other.
        """
        found = self._documents.copies([seen.sha256 for seen in fresh], self._cutter.metadata)
        now = {seen.source: seen for seen in looked}
        paths = {source: self._cutter.path(source) for source in found.values() if source not in now}
        now |= {seen.source: seen for seen in parsing.map(self._cutter.look, filter(None, paths.values()))}

        def holds(source: str, digest: bytes) -> bool:
            seen = now.get(source)
            return seen is None or seen.sha256 == digest or not is_there(seen.path)

        return {digest: source for digest, source in found.items() if holds(source, digest)}

    def _is_as(self, stored: KnownDocument | None, seen: Seen, settings: Mapping[str, Any]) -> bool:
        """Whether what is stored of the file is what would be stored of it now."""
        if stored is None or (stored.state == "duplicate" and not self._share):
            return False
        return stored.is_as(seen.sha256, settings)

    def _original(self, seen: Seen) -> str | None:
        """The source of another file with this content that is stored, or is about to be."""
        if not self._share:
            return None
        original = self._ahead.get(seen.sha256) or self._copies.get(seen.sha256)
        return None if original == seen.source else original

    def _copy_of(self, original: str, seen: Seen) -> NewDocument:
        return NewDocument(
            source=seen.source,
            sha256=seen.sha256,
            size=seen.size,
            media_type="",
            chunks=(),
            settings=self._cutter.settings,
            duplicate_of=original,
        )

    # --- doing it -----------------------------------------------------------------------------------------------------------------

    def _is_full(self) -> bool:
        documents = [one for one in self._batch if isinstance(one, NewDocument)]
        return (
            len(self._batch) >= _MOST_DOCUMENTS
            or sum(len(one.chunks) for one in documents) >= _MOST_CHUNKS
            or sum(one.held for one in documents) >= _MOST_BYTES
        )

    def _flush(self) -> None:
        """Embed what has come together, and have it stored while the next is embedded."""
        batch, self._batch = self._batch, []
        documents = [one for one in batch if isinstance(one, NewDocument)]
        troubles = [one for one in batch if isinstance(one, Trouble)]
        if self._dry:
            self._rehearse(documents)
            self._count(batch, {}, StoreReport(sum(len(one.chunks) for one in documents)))
            return
        self._failed |= {one.source: one for one in troubles}
        embedded, refused = self._documents.embed(documents)
        problems = {one.document.source: _trouble(one) for one in refused}
        self._failed |= problems
        for one in [e for e in embedded if e.document.duplicate_of in self._failed]:
            embedded.remove(one)
            original = self._failed[one.document.duplicate_of or ""]
            problems[one.document.source] = replace(original, source=one.document.source)
        troubles += problems.values()
        self._stored()
        context = copy_context()
        writing = self._writer.submit(lambda: context.run(self._store, embedded, troubles))
        self._storing = (writing, batch, problems)

    def _store(self, embedded: Sequence[EmbeddedDocument], troubles: Sequence[Trouble]) -> StoreReport:
        report = self._documents.store(embedded)
        if troubles:
            self._documents.note_trouble(troubles)
        return report

    def _stored(self) -> None:
        """Wait for what is being stored, and count it."""
        if self._storing is not None:
            (writing, batch, problems), self._storing = self._storing, None
            self._count(batch, problems, writing.result())

    def _count(
        self, batch: Sequence[NewDocument | Trouble], problems: Mapping[str, Trouble], done: StoreReport
    ) -> None:
        report = self._report
        for one in batch:
            path = self._paths.pop(one.source)
            trouble = one if isinstance(one, Trouble) else problems.get(one.source)
            if trouble is not None:
                report.failed.append(FileFailure(str(path), trouble.reason, trouble.stage))
            elif isinstance(one, NewDocument) and one.duplicate_of is not None:
                report.duplicates += 1
                self._copied.add(one.source)
            elif isinstance(one, NewDocument):
                report.stored += 1
                report.characters += one.characters
        report.records += done.records
        report.removed += done.removed
        self._say()

    def _rehearse(self, documents: Sequence[NewDocument]) -> None:
        """Measure the model on the first texts that there are, in seconds for each."""
        texts = [chunk.text for one in documents for chunk in one.chunks if chunk.text][:_SAMPLE]
        if texts and not self._sampled:
            self._embedder.embed_passages(texts[:1])  # loads it
            started = time.perf_counter()
            self._embedder.embed_passages(texts)
            self._sampled = (time.perf_counter() - started) / len(texts)

    def _say(self) -> None:
        if self._progress is not None:
            done = self._report.files - len(self._report.skipped)
            self._progress(min(done, self._total), self._total)


def _trouble(refused: Refused) -> Trouble:
    document = refused.document
    return Trouble(document.source, refused.reason, "embedding", document.sha256, document.size)
