"""Folders whose files change places, go, and have odd names: what is found afterwards, in PostgreSQL and in memory."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import likewise
from likewise import CollectionSpec, Record
from likewise.abc.document_rows import NewDocument, Trouble
from likewise.abc.stores import Collection
from likewise.errors import CollectionNotFound, InvalidArgument, LikewiseError
from likewise.ingest import IngestConfig, PagesConfig, ingest
from likewise.ingest.chunking import TokenChunker, TokensConfig


@pytest.fixture(params=["memory", "postgresql"])
def notes(request: pytest.FixtureRequest) -> Iterator[Collection]:
    url = "memory://" if request.param == "memory" else request.getfixturevalue("fresh_database_url")
    with likewise.connect(url) as store:
        yield store.ensure_collection(CollectionSpec("notes", embedder="hashing:64"))


def contents(collection: Collection) -> dict[str, str | None]:
    return {record.id: record.content for record in collection.scan(limit=1_000)}


def write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        (folder / f"{name}.txt").write_text(text)


def test_files_that_change_places_are_no_copies_of_each_other(
    notes: Collection, tmp_path: Path, embedded: list[str]
) -> None:
    write(tmp_path, a="one", b="two", c="three")
    ingest(notes, [tmp_path], base=tmp_path)
    embedded.clear()
    write(tmp_path, a="zero", b="one", c="two")  # as logs are rotated
    report = ingest(notes, [tmp_path], base=tmp_path)
    assert (report.stored, report.duplicates, report.removed, report.files) == (3, 0, 0, 3)
    assert contents(notes) == {"a.txt#0": "zero", "b.txt#0": "one", "c.txt#0": "two"}
    assert embedded == ["zero"]


def test_a_copy_is_stored_when_its_original_changes_in_the_same_run(notes: Collection, tmp_path: Path) -> None:
    write(tmp_path, a="one", b="one")
    ingest(notes, [tmp_path], base=tmp_path)
    write(tmp_path, a="two")
    ingest(notes, [tmp_path], base=tmp_path)
    assert contents(notes) == {"a.txt#0": "two", "b.txt#0": "one"}


def test_a_copy_of_what_a_file_said_before_does_not_fail_with_it(notes: Collection, tmp_path: Path) -> None:
    write(tmp_path, a="one")
    ingest(notes, [tmp_path], base=tmp_path)
    (tmp_path / "a.txt").write_bytes(bytes(range(256)))
    write(tmp_path, c="one")
    report = ingest(notes, [tmp_path], base=tmp_path)
    assert [Path(f.path).name for f in report.failed] == ["a.txt"]


def test_a_copy_that_fails_as_its_original_changes_is_counted_once(notes: Collection, tmp_path: Path) -> None:
    write(tmp_path, a="one", b="one")
    ingest(notes, [tmp_path], base=tmp_path)
    write(tmp_path, a="two")
    (tmp_path / "b.txt").write_bytes(bytes(range(256)))
    report = ingest(notes, [tmp_path], base=tmp_path)
    assert [Path(f.path).name for f in report.failed] == ["b.txt"]
    assert (report.stored, report.unchanged, report.files) == (1, 0, 2)


def test_pruning_spares_names_that_were_shortened(notes: Collection, tmp_path: Path) -> None:
    folder = tmp_path
    for _ in range(5):
        folder = folder / ("n" * 100)
    folder.mkdir(parents=True)
    write(folder, a="one")
    ingest(notes, [tmp_path], base=tmp_path)
    report = ingest(notes, [tmp_path], base=tmp_path, prune=True)
    assert (report.pruned, report.unchanged) == (0, 1)
    (folder / "a.txt").unlink()
    assert ingest(notes, [tmp_path], base=tmp_path, prune=True).pruned == 1


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_pruning_spares_names_that_are_not_unicode(notes: Collection, tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.txt")).write_text("one")
    ingest(notes, [tmp_path], base=tmp_path)
    report = ingest(notes, [tmp_path], base=tmp_path, prune=True)
    assert (report.pruned, report.unchanged) == (0, 1)


def test_pruning_spares_what_is_in_a_folder_that_cannot_be_read(
    notes: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in").mkdir()
    write(tmp_path / "in", a="one")
    ingest(notes, [tmp_path], base=tmp_path)
    real, real_lstat = os.scandir, os.lstat

    def scandir(path: Any) -> Any:
        if Path(path).name == "in":
            raise PermissionError(13, "Permission denied")
        return real(path)

    def lstat(path: Any, **kw: Any) -> Any:
        if Path(path).parent.name == "in":
            raise PermissionError(13, "Permission denied")
        return real_lstat(path, **kw)

    with monkeypatch.context() as closed:
        closed.setattr(os, "scandir", scandir)
        closed.setattr(os, "lstat", lstat)
        report = ingest(notes, [tmp_path], base=tmp_path, prune=True)
    assert report.pruned == 0
    assert contents(notes) == {"in/a.txt#0": "one"}


def test_pruning_takes_a_file_that_became_a_folder(notes: Collection, tmp_path: Path) -> None:
    (tmp_path / "in").write_text("one")
    ingest(notes, [tmp_path], base=tmp_path)
    (tmp_path / "in").unlink()
    (tmp_path / "in").mkdir()
    write(tmp_path / "in", a="two")
    ingest(notes, [tmp_path], base=tmp_path, prune=True)
    assert contents(notes) == {"in/a.txt#0": "two"}


def test_nobody_s_documents_are_apart_from_a_tenant_s(notes: Collection, tmp_path: Path) -> None:
    write(tmp_path, a="one", b="two")
    ingest(notes, [tmp_path], base=tmp_path, tenant="north")
    report = ingest(notes, [tmp_path], base=tmp_path)
    assert (report.stored, report.duplicates) == (2, 0)
    assert ingest(notes, [tmp_path], base=tmp_path).unchanged == 2
    (tmp_path / "b.txt").unlink()
    assert ingest(notes, [tmp_path], base=tmp_path, prune=True).pruned == 1
    assert contents(notes) == {"a.txt#0": "one", "north//a.txt#0": "one", "north//b.txt#0": "two"}


def test_records_of_others_are_let_be(notes: Collection, tmp_path: Path) -> None:
    notes.upsert(Record("mine", content="my own", metadata={"source": "a.txt"}))
    write(tmp_path, a="one")
    ingest(notes, [tmp_path], base=tmp_path)
    assert ingest(notes, [tmp_path], base=tmp_path).unchanged == 1
    (tmp_path / "a.txt").unlink()
    ingest(notes, [tmp_path], base=tmp_path, prune=True)
    assert contents(notes) == {"mine": "my own"}


def test_of_an_owner_s_file_nothing_is_stored_again(notes: Collection, tmp_path: Path) -> None:
    write(tmp_path, a="one")
    ingest(notes, [tmp_path], base=tmp_path, owner="ann")
    assert ingest(notes, [tmp_path], base=tmp_path, owner="ann").unchanged == 1
    assert ingest(notes, [tmp_path], base=tmp_path, owner="bob").stored == 1


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_of_two_files_with_one_name_the_second_is_refused(notes: Collection, tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.txt")).write_text("one")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\\xff.txt")).write_text("two")
    report = ingest(notes, [tmp_path], base=tmp_path)
    assert (report.stored, report.files) == (1, 2)
    assert [(os.fsencode(f.path)[-5:], f.stage) for f in report.failed] == [(b"\xff.txt", "finding")]
    assert "rename one of them" in report.failed[0].reason
    report = ingest(notes, [tmp_path], base=tmp_path)
    assert (report.unchanged, len(report.failed)) == (1, 1)


def test_a_picture_with_the_name_of_a_chunk(notes: Collection, tmp_path: Path) -> None:
    write(tmp_path, a="one")
    Image.new("RGB", (8, 8)).save(tmp_path / "a.txt#0", "PNG")
    report = ingest(notes, [tmp_path], base=tmp_path)
    assert report.stored == 2
    assert notes.count() == 2
    assert ingest(notes, [tmp_path], base=tmp_path).unchanged == 2


def test_a_copy_of_what_became_another_owner_s_is_stored(notes: Collection, tmp_path: Path) -> None:
    write(tmp_path, a="one", b="one")
    ingest(notes, [tmp_path], base=tmp_path, owner="ann")
    ingest(notes, [tmp_path / "a.txt"], base=tmp_path, owner="bob")
    ingest(notes, [tmp_path / "b.txt"], base=tmp_path, owner="ann")
    owners = sorted(str(r.metadata["owner"]) for r in notes.scan())
    assert owners == ["ann", "bob"]


def test_a_copy_with_other_metadata_is_stored(notes: Collection, tmp_path: Path) -> None:
    write(tmp_path, a="one", b="one", c="one")
    ingest(notes, [tmp_path / "a.txt", tmp_path / "b.txt"], base=tmp_path, metadata={"project": "x"})
    report = ingest(notes, [tmp_path / "c.txt"], base=tmp_path, metadata={"project": "y"})
    assert (report.stored, report.duplicates) == (1, 0)
    ingest(notes, [tmp_path / "a.txt"], base=tmp_path, metadata={"project": "y"})
    ingest(notes, [tmp_path / "b.txt"], base=tmp_path, metadata={"project": "x"})
    assert "x" in [record.metadata["project"] for record in notes.scan()]


def test_metadata_is_checked_once_and_compared_as_it_is_stored(fresh_database_url: str, tmp_path: Path) -> None:
    write(tmp_path, a="one")
    with likewise.connect(fresh_database_url) as store:
        notes = store.ensure_collection(CollectionSpec("notes", embedder="hashing:64"))
        ingest(notes, [tmp_path], metadata={"place": (1, 2)})
        assert ingest(notes, [tmp_path], metadata={"place": (1, 2)}).unchanged == 1
        for wrong in ({"place": "\x00"}, {"place": {1}}, "place"):
            with pytest.raises(InvalidArgument, match="metadata"):
                ingest(notes, [tmp_path], metadata=wrong)  # type: ignore[arg-type]


def test_a_page_that_is_a_picture_is_cut_once(notes: Collection, tmp_path: Path) -> None:
    Image.new("RGB", (80, 80), "white").save(tmp_path / "scan.pdf", "PDF")
    config = IngestConfig(TokensConfig(size=20), PagesConfig(dpi=30))
    ingest(notes, [tmp_path], base=tmp_path, config=config)
    assert ingest(notes, [tmp_path], base=tmp_path, config=config).unchanged == 1


def test_two_who_store_the_same_files_do_not_wait_for_each_other(fresh_database_url: str, tmp_path: Path) -> None:
    with likewise.connect(fresh_database_url) as store, likewise.connect(fresh_database_url) as another:
        collections = [
            store.ensure_collection(CollectionSpec("notes", embedder="hashing:64")),
            another.collection("notes"),
        ]
        failed: list[Exception] = []

        def go(collection: Collection, names: Sequence[str], together: threading.Barrier) -> None:
            together.wait()
            try:
                # Of equal files the first is the original: to each of the two another one.
                ingest(collection, [tmp_path / name for name in names], base=tmp_path, workers=1)
            except LikewiseError as error:
                failed.append(error)

        for turn in range(20):
            write(tmp_path, a=f"the same {turn}", b=f"the same {turn}")
            together = threading.Barrier(2)
            orders = ["a.txt", "b.txt"], ["b.txt", "a.txt"]
            threads = [
                threading.Thread(target=go, args=(c, names, together))
                for c, names in zip(collections, orders, strict=True)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert failed == []
        ingest(collections[0], [tmp_path], base=tmp_path)
        assert list(contents(collections[0]).values()) == ["the same 19"]


def test_a_collection_that_is_dropped_meanwhile_is_named(fresh_database_url: str, tmp_path: Path) -> None:
    with likewise.connect(fresh_database_url) as store:
        notes = store.ensure_collection(CollectionSpec("notes", embedder="hashing:64"))
        write(tmp_path, a="one")
        (tmp_path / "b.bin").write_bytes(bytes(range(256)))
        ingest(notes, [tmp_path / "a.txt"], base=tmp_path)
        store.drop_collection("notes")
        documents = notes.documents()
        with pytest.raises(CollectionNotFound, match="'notes'"):
            documents.note_trouble([Trouble("b.bin", "no text", "detecting", bytes(32), 256)])
        with pytest.raises(CollectionNotFound, match="'notes'"):
            documents.set_config(IngestConfig().to_json())
        with pytest.raises(CollectionNotFound, match="'notes'"):
            documents.store(
                documents.embed(
                    [NewDocument(source="c.txt", sha256=bytes(32), size=1, media_type="text/plain", chunks=())]
                )[0]
            )


def test_syncing_does_not_bring_back_what_a_file_no_longer_says(
    fresh_database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with likewise.connect(fresh_database_url) as store, likewise.connect(fresh_database_url) as another:
        notes = store.ensure_collection(CollectionSpec("notes", embedder="hashing:64"))
        words = TokenChunker(2, count=lambda text: len(text.split()))
        write(tmp_path, a="one two three four")
        ingest(notes, [tmp_path], base=tmp_path, chunker=words)
        notes.delete("a.txt#1")
        real = type(notes).upsert

        def upsert(self: Any, records: Any) -> Any:
            records = list(records)
            monkeypatch.setattr(type(notes), "upsert", real)
            # While the model embeds.
            write(tmp_path, a="five")
            ingest(another.collection("notes"), [tmp_path], base=tmp_path, chunker=words)
            return real(self, records)

        monkeypatch.setattr(type(notes), "upsert", upsert)
        assert notes.documents().sync().restored == 0
        assert contents(notes) == {"a.txt#0": "five"}


def test_files_with_metadata_are_unchanged_until_it_is_another(notes: Collection, tmp_path: Path) -> None:
    write(tmp_path, a="one", b="two")
    (tmp_path / "c.md").write_text("---\ntitle: its own\n---\nthree\n")
    for metadata, stored in (
        ({"shelf": 1}, 3),
        ({"shelf": 1}, 0),
        ({"shelf": [2]}, 3),
        ({"shelf": [2]}, 0),
    ):
        report = ingest(notes, [tmp_path], base=tmp_path, metadata=metadata)
        assert (report.stored, report.unchanged) == (stored, 3 - stored)
        assert [record.metadata["shelf"] for record in notes.scan()] == [metadata["shelf"]] * 3
