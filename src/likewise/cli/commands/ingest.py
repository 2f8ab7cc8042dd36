"""``likewise ingest``: files and folders into a collection."""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from collections.abc import Mapping
from typing import Any

from likewise._connect import connect
from likewise.abc.stores import Collection
from likewise.abc.vector_stores import VectorStore
from likewise.cli.context import Context
from likewise.cli.exits import Exit
from likewise.errors import CollectionNotFound, InvalidArgument, LikewiseError
from likewise.ingest import FileFailure, IngestConfig, IngestReport, ParagraphsConfig, find_files, ingest
from likewise.ingest.config import CutConfig, PagesConfig
from likewise.schema import CollectionSpec, Gin, Hnsw

HELP = "store pictures, texts and documents in a collection"

#: Lines of the report about one kind of trouble, and files that are named in one; the rest is counted, and is complete in --json.
_SHOWN, _NAMED = 20, 3
#: The most tokens of a chunk where nobody says: what many models were trained on, and a reader takes in.
_USUAL_SIZE = 256


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "paths",
        nargs="+",
        metavar="PATH",
        help="a picture, a text, a document (PDF, DOCX, HTML …), or a folder of them",
    )
    parser.add_argument(
        "-c", "--collection", metavar="NAME", required=True, help="where to; created if it is not there"
    )
    parser.add_argument(
        "--embedder", metavar="MODEL", default="mini", help="the model of a collection that is created (default: mini)"
    )
    parser.add_argument(
        "--base", metavar="DIR", help="name files by their path below this folder; by default by their absolute path"
    )
    parser.add_argument(
        "--chunker",
        metavar="KIND",
        help="how texts are cut, remembered for the collection: paragraphs, tokens, sentences, headings or semantic, or a JSON object "
        'with more of it, such as \'{"kind": "tokens", "size": 200, "overlap": 20}\'',
    )
    parser.add_argument("--size", type=int, metavar="TOKENS", help="with --chunker: the most tokens of a chunk")
    parser.add_argument(
        "--ocr",
        action="store_true",
        help="read the text in pictures and scans too, remembered for the collection; needs the extra ocr",
    )
    parser.add_argument(
        "--pages",
        action="store_true",
        help="store the pages of PDF as pictures beside their text, remembered for the collection",
    )
    parser.add_argument(
        "--metadata", metavar="JSON", help="what to put into the metadata of every record, as an object"
    )
    parser.add_argument("--owner", metavar="NAME", default="", help="whose the documents are")
    parser.add_argument(
        "--tenant",
        metavar="NAME",
        default="",
        help="to whom they belong: tenants do not know of each other's documents",
    )
    parser.add_argument("--store-copies", action="store_true", help="store files that have the content of another, too")
    parser.add_argument(
        "--prune", action="store_true", help="delete the documents of files that are gone from these folders"
    )
    parser.add_argument(
        "--workers", type=int, metavar="N", help="processes that parse (default: one for each processor, up to 4)"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="store nothing; say what would be done, and how long it would take"
    )
    parser.add_argument(
        "--watch", action="store_true", help="go on: ingest what changes in these folders, until SIGTERM or Ctrl-C"
    )


def run(context: Context) -> int:
    """Ingest and report; exit code 1 if a file could not be stored."""
    options, output = context.options, context.output
    # Before anything is created: a mistyped path must not leave an empty collection behind.
    from pathlib import Path

    total = sum(1 for _, problem in find_files(Path(p) for p in options.paths) if problem is None)
    if options.watch and options.dry_run:
        raise InvalidArgument("--watch goes on and --dry-run does nothing: give one of them")
    metadata = _object(options.metadata, "--metadata")
    if options.chunker is None and options.size is not None:
        raise InvalidArgument("--size is the most tokens of a chunk: give --chunker too")
    how: dict[str, Any] = {
        "base": options.base,
        "metadata": metadata,
        "owner": options.owner,
        "tenant": options.tenant,
        "copies": "store" if options.store_copies else "skip",
        "workers": options.workers,
    }
    started = time.monotonic()
    with context.store() as store:
        collection = _collection(store, options.collection, options.embedder, dry_run=options.dry_run)
        how["config"] = _config(options, collection)
        if options.watch:
            return _watch(context, collection, how)
        with output.progress("embedding files", total) as advance:
            report = ingest(
                collection,
                options.paths,
                prune=options.prune,
                dry_run=options.dry_run,
                progress=lambda done, _total: advance(done),
                **how,
            )
        if not options.dry_run:
            _index(context, store, collection)
        count = collection.count()
    seconds = time.monotonic() - started
    output.document(
        {"collection": options.collection, **_counts(report), "total_records": count, "seconds": round(seconds, 3)}
    )
    if options.dry_run:
        output.line(_rehearsed(report))
    else:
        output.line(
            f"{_done(report)} in {seconds:.1f} s; {options.collection} holds {count} records",
        )
    _list(context, "failed", report.failed)
    _list(context, "skipped", report.skipped)
    return Exit.FAILURE if report.failed else Exit.OK


def _counts(report: IngestReport) -> dict[str, Any]:
    return {
        "files": report.files,
        "stored": report.stored,
        "unchanged": report.unchanged,
        "duplicates": report.duplicates,
        "records": report.records,
        "removed": report.removed,
        "pruned": report.pruned,
        "characters": report.characters,
        "estimated_seconds": report.estimated_seconds,
        "failed": [dataclasses.asdict(f) for f in report.failed],
        "skipped": [dataclasses.asdict(f) for f in report.skipped],
    }


def _done(report: IngestReport) -> str:
    return (
        f"{report.stored} files stored as {report.records} records, {report.unchanged} unchanged, {report.duplicates} copies, {report.removed} "
        f"stale records removed, {report.pruned} documents pruned, {len(report.failed)} failed, {len(report.skipped)} skipped"
    )


def _rehearsed(report: IngestReport) -> str:
    time_needed = (
        "" if report.estimated_seconds is None else f"; embedding would take about {_time(report.estimated_seconds)}"
    )
    return (
        f"{report.stored} files would be stored as {report.records} records, {report.unchanged} are unchanged, {report.duplicates} are copies, "
        f"{report.pruned} would be pruned, {len(report.failed)} would fail, {len(report.skipped)} would be skipped{time_needed}"
    )


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{max(seconds, 0.1):.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5_400 else f"{seconds / 3_600:.1f} h"


def _watch(context: Context, collection: Collection, how: Mapping[str, Any]) -> int:
    """Until a signal; what is being ingested then is finished."""
    import signal
    import threading

    from likewise.ingest import watch_folders

    stop = threading.Event()
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGTERM, signal.SIGINT)}

    def reported(report: IngestReport) -> None:
        context.output.note(_done(report))
        for failure in report.failed[:_SHOWN]:
            context.output.note(f"  failed: {failure.path}: {failure.reason}")

    def troubled(error: LikewiseError) -> None:
        context.output.note(f"to be tried again: {error}")

    try:
        context.output.note(f"watching {', '.join(context.options.paths)}")
        watch_folders(collection, context.options.paths, stop=stop, reported=reported, troubled=troubled, **how)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return Exit.OK


def _config(options: argparse.Namespace, collection: Collection) -> IngestConfig | None:
    """What is remembered, with what the options say otherwise; None if they say nothing."""
    if options.chunker is None and not options.ocr and not options.pages:
        return None
    config = IngestConfig.from_json(collection.documents().config() or {})
    if options.chunker is not None:
        config = dataclasses.replace(config, chunking=_chunking(options.chunker, options.size, collection))
    if options.pages:
        ocr = options.ocr or config.parsing.ocr
        config = dataclasses.replace(config, parsing=PagesConfig(ocr=ocr))
    elif options.ocr:
        config = dataclasses.replace(config, parsing=dataclasses.replace(config.parsing, ocr=True))
    return config


def _chunking(said: str, size: int | None, collection: Collection) -> CutConfig:
    """What --chunker says, an object or a kind; without a size, what the model reads, up to 256 tokens."""
    if said.lstrip().startswith("{"):
        if size is not None:
            raise InvalidArgument("--size is for a kind of --chunker; the object has a size of its own")
        return IngestConfig.from_json({"chunking": _object(said, "--chunker")}).chunking
    if said == "paragraphs":
        if size is not None:
            raise InvalidArgument(
                'paragraphs are measured in characters: --chunker \'{"kind": "paragraphs", "max_characters": 900}\''
            )
        return ParagraphsConfig()
    embedder = collection.embedder
    most = embedder.card.max_tokens if embedder is not None else None
    whole = {"kind": said, "size": size or min(most or _USUAL_SIZE, _USUAL_SIZE)}
    return IngestConfig.from_json({"chunking": whole}).chunking


def _object(text: str | None, option: str) -> dict[str, Any] | None:
    if text is None:
        return None
    try:
        value = json.loads(text)
    except ValueError as error:
        raise InvalidArgument(f"{option} is no JSON: {error}") from error
    if not isinstance(value, dict):
        raise InvalidArgument(f"{option} is {text!r:.80}; it must be a JSON object")
    return value


def _collection(store: VectorStore, name: str, embedder: str, *, dry_run: bool) -> Collection:
    """The collection, made if it is not there; for a dry run in memory."""
    try:
        return store.collection(name)
    except CollectionNotFound:
        return (connect("memory://") if dry_run else store).ensure_collection(CollectionSpec(name, embedder=embedder))


def _index(context: Context, store: VectorStore, collection: Collection) -> None:
    """After the rows, which is faster than before them."""
    if "hnsw" in store.capabilities.vector_indexes and not any(
        index.method in ("hnsw", "ivfflat") for index in collection.indexes()
    ):
        metadata = Gin() if store.capabilities.metadata_indexes else None
        with context.output.building() as progress:
            collection.ensure_indexes(vector=Hnsw(), metadata=metadata, progress=progress)


def _list(context: Context, what: str, failures: list[FileFailure]) -> None:
    """A line for each reason, with the files that it is about."""
    reasons: dict[str, list[str]] = {}
    for failure in failures:
        reasons.setdefault(failure.reason, []).append(failure.path)
    for reason, paths in list(reasons.items())[:_SHOWN]:
        if len(paths) == 1:
            context.output.line(f"  {what}: {paths[0]}: {reason}")
        else:
            more = f", and {len(paths) - _NAMED} more" if len(paths) > _NAMED else ""
            context.output.line(f"  {what}: {len(paths)} files: {reason}: {', '.join(paths[:_NAMED])}{more}")
    if len(reasons) > _SHOWN:
        context.output.line(f"  … and {len(reasons) - _SHOWN} more reasons; --json lists all files")
