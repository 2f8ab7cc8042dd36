"""``likewise ingest``: files and folders into a collection."""

from __future__ import annotations

import argparse
import dataclasses
import time

from likewise.abc.stores import Collection
from likewise.abc.vector_stores import VectorStore
from likewise.cli.context import Context
from likewise.cli.exits import Exit
from likewise.errors import CollectionNotFound
from likewise.ingest import FileFailure, find_files, ingest
from likewise.schema import CollectionSpec, Gin, Hnsw

HELP = "store pictures, texts and documents in a collection"

#: Lines of the report about one kind of trouble; the rest is counted, and is complete in --json.
_SHOWN = 20


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


def run(context: Context) -> int:
    """Ingest and report; exit code 1 if a file could not be stored."""
    options, output = context.options, context.output
    # Before anything is created: a mistyped path must not leave an empty collection behind.
    from pathlib import Path

    total = sum(1 for _, problem in find_files(Path(p) for p in options.paths) if problem is None)
    started = time.monotonic()
    with context.store() as store:
        collection = _collection(store, options.collection, options.embedder)
        with output.progress("embedding files", total) as advance:
            report = ingest(collection, options.paths, base=options.base, progress=lambda done, _total: advance(done))
        _index(context, store, collection)
        count = collection.count()
    seconds = time.monotonic() - started
    output.document(
        {
            "collection": options.collection,
            "files": report.files,
            "stored": report.stored,
            "unchanged": report.unchanged,
            "records": report.records,
            "removed": report.removed,
            "failed": [dataclasses.asdict(f) for f in report.failed],
            "skipped": [dataclasses.asdict(f) for f in report.skipped],
            "total_records": count,
            "seconds": round(seconds, 3),
        }
    )
    output.line(
        f"{report.stored} files stored as {report.records} records, {report.unchanged} unchanged, {report.removed} stale records "
        f"removed, {len(report.failed)} failed, {len(report.skipped)} skipped in {seconds:.1f} s; "
        f"{options.collection} holds {count} records"
    )
    _list(context, "failed", report.failed)
    _list(context, "skipped", report.skipped)
    return Exit.FAILURE if report.failed else Exit.OK


def _collection(store: VectorStore, name: str, embedder: str) -> Collection:
    try:
        return store.collection(name)
    except CollectionNotFound:
        return store.ensure_collection(CollectionSpec(name, embedder=embedder))


def _index(context: Context, store: VectorStore, collection: Collection) -> None:
    """After the rows, which is faster than before them."""
    if "hnsw" in store.capabilities.vector_indexes and not any(
        index.method in ("hnsw", "ivfflat") for index in collection.indexes()
    ):
        metadata = Gin() if store.capabilities.metadata_indexes else None
        with context.output.building() as progress:
            collection.ensure_indexes(vector=Hnsw(), metadata=metadata, progress=progress)


def _list(context: Context, what: str, failures: list[FileFailure]) -> None:
    for failure in failures[:_SHOWN]:
        context.output.line(f"  {what}: {failure.path}: {failure.reason}")
    if len(failures) > _SHOWN:
        context.output.line(f"  … and {len(failures) - _SHOWN} more; --json lists them all")
