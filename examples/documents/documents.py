"""Document management: files of several people are ingested, listed, searched, replaced, deleted, repaired, and counted in SQL.

Run it with ``python examples/documents/documents.py``. Without more it uses the embedded PostgreSQL and the texts beside it: papers of a house, in a folder for
each of its owners. ``documents.py FOLDER --database URL --ask WORDS`` takes files of your own, in folders named after their owners. The program works on a
copy of the files, so that yours stay as they are.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import likewise
from likewise import CollectionSpec, Metadata
from likewise.abc.document_rows import DocumentInfo
from likewise.abc.stores import Collection
from likewise.ingest import IngestConfig, ingest
from likewise.ingest.chunking import HeadingsConfig

TEXTS = Path(__file__).with_name("texts")
COLLECTION = "example_documents"

#: Of each owner what there is, by one of the views that come with documents.
BY_OWNER = """
select owner, documents, vectors, characters from likewise.owner_vectors where collection = 'example_documents' order by owner
"""
#: The documents' kinds, by an ordinary statement over an ordinary table.
BY_TYPE = """
select media_type, count(*) as documents, sum(bytes) as bytes, sum(chunks) as chunks
from likewise.documents where collection = 'example_documents' and state = 'stored'
group by media_type order by documents desc, media_type
"""


def owners_of(folder: Path) -> list[tuple[str, Path]]:
    """The folders in a folder, each with its owner's name; the folder itself, nobody's, if it has none."""
    found = [(path.name, path) for path in sorted(folder.iterdir()) if path.is_dir() and not path.name.startswith(".")]
    return found or [("", folder)]


def put(documents: Collection, folder: Path) -> None:
    """Ingest the folder of each owner. What is there unchanged is left alone, and what is gone from a folder is deleted."""
    config = IngestConfig(HeadingsConfig(size=100, prefix=True))
    for owner, path in owners_of(folder):
        done = ingest(documents, [path], base=folder, config=config, owner=owner, prune=True)
        print(
            f"  {owner or 'nobody'}: {done.stored} stored, {done.unchanged} unchanged, {done.duplicates} copies, {done.pruned} deleted, "
            f"{len(done.failed)} failed"
        )


def all_of(documents: Collection) -> Iterator[DocumentInfo]:
    """Every document, page by page."""
    cursor = None
    while True:
        page = documents.documents().scan(cursor=cursor)
        yield from page.documents
        cursor = page.cursor
        if cursor is None:
            return


def show(documents: Collection, words: str, where: Any = None) -> None:
    """Search, and print where in which document each passage is."""
    for result in documents.search(words, top_k=2, where=where, target_modality="text"):
        metadata = result.record.metadata
        place = [f"characters {metadata['start']} to {metadata['end']}"] if "start" in metadata else []
        place += [f"page {metadata['page']}"] if "page" in metadata else []
        place += [" > ".join(metadata["headings"])] if metadata.get("headings") else []
        print(f"  {result.similarity:.2f}  {metadata['source']}, {', '.join(place)}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Go through the life of some documents."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=TEXTS, help="the documents (default: those beside)")
    parser.add_argument("--database", metavar="URL", help="the database (default: the embedded one)")
    parser.add_argument("--ask", metavar="WORDS", default="who pays for damage by water", help="what to search for")
    options = parser.parse_args(arguments)

    with tempfile.TemporaryDirectory() as scratch, likewise.connect(options.database) as store:
        folder = Path(shutil.copytree(options.folder, Path(scratch, "documents")))
        documents = store.ensure_collection(CollectionSpec(COLLECTION, embedder="mini"))
        print("ingested")
        put(documents, folder)

        # An earlier run may have had other files.
        listed = [one for one in all_of(documents) if Path(folder, one.source).exists()]
        print("\ndocuments")
        for one in listed[:20]:
            said = f"{one.chunks} chunks" if one.state == "stored" else one.error or "as another one"
            print(f"  {one.source}: {one.state}, {one.media_type}, of {one.owner or 'nobody'}, {said}")

        stored = [one for one in listed if one.state == "stored"]
        if len(stored) < 2:
            raise SystemExit("it takes two documents to show the rest")
        owner, kind = stored[-1].owner, stored[-1].media_type
        print(f"\n{options.ask}: anywhere")
        show(documents, options.ask)
        print(f"of {owner or 'nobody'}")
        show(documents, options.ask, Metadata("owner") == owner)
        print(f"of {owner or 'nobody'}, and {kind}")
        show(documents, options.ask, (Metadata("owner") == owner) & (Metadata("media_type") == kind))

        first, last = stored[0], stored[-1]
        print(f"\n{first.source} is replaced, {last.source} deleted")
        Path(folder, first.source).write_text("# Replaced\n\nThe lift is out of order until May.\n", encoding="utf-8")
        Path(folder, last.source).unlink()
        put(documents, folder)
        print("the lift")
        show(documents, "is the lift working")

        # Somebody deletes records behind the documents' back.
        documents.delete([chunk.id for chunk in documents.documents().chunks(first.id)])
        repaired = documents.documents().sync()
        print(f"\nrepaired: {repaired.restored} records restored, {len(repaired.unrepairable)} beyond repair")

        with store.transaction() as connection:
            print("\nby owner")
            for owner, count, vectors, characters in connection.execute(BY_OWNER):
                print(f"  {owner or 'nobody'}: {count} documents, {vectors} vectors, {characters:,} characters")
            print("by type")
            for kind, count, size, chunks in connection.execute(BY_TYPE):
                print(f"  {kind}: {count} documents, {size:,} bytes, {chunks} chunks")


if __name__ == "__main__":
    main()
