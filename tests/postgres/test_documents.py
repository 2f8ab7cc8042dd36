"""Documents in PostgreSQL: what is stored of a file, and that it changes, and goes, as a whole."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

import likewise
from likewise import CollectionSpec, ModelCard, VectorStore
from likewise.abc.stores import Collection
from likewise.backends.postgres import PostgresStore
from likewise.backends.postgres.documents import PostgresDocuments
from likewise.embedding import HashingEmbedder, register_embedder
from likewise.errors import InvalidArgument, NotFound
from likewise.filters import Eq, Metadata
from likewise.ingest import IngestConfig, PagesConfig, TextConfig, ingest
from likewise.ingest.chunking import TokenChunker, TokensConfig
from unit.documents import pdf


@pytest.fixture
def store(fresh_database_url: str) -> Iterator[PostgresStore]:
    with likewise.connect(fresh_database_url) as store:
        assert isinstance(store, PostgresStore)
        yield store


@pytest.fixture
def notes(store: VectorStore) -> Collection:
    return store.ensure_collection(CollectionSpec("notes", embedder="hashing:64"))


class Reader(HashingEmbedder):
    """A model that embeds texts only."""

    @property
    def card(self) -> ModelCard:
        return replace(super().card, name="reader", modalities=("text",))


register_embedder("reader", lambda _: Reader(64))


def words(size: int = 2) -> TokenChunker:
    return TokenChunker(size, count=lambda text: len(text.split()))


def sql(store: PostgresStore, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
    with store.transaction() as connection:
        cursor = connection.execute(statement, parameters)
        return [] if cursor.description is None else list(cursor.fetchall())


def contents(collection: Collection) -> dict[str, str | None]:
    return {record.id: record.content for record in collection.scan(limit=1_000)}


def test_what_is_stored_of_a_file(store: PostgresStore, notes: Collection, tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("# Storks\n\nStorks stand here.")
    report = ingest(notes, [tmp_path], base=tmp_path, chunker=words(3), owner="ann", metadata={"tags": ["birds"]})
    assert (report.stored, report.records, report.characters) == (1, 2, 28)
    (document,) = notes.documents().scan().documents
    assert (document.source, document.state, document.media_type, document.size) == (
        "a.md",
        "stored",
        "text/markdown",
        28,
    )
    assert (document.title, document.owner, document.chunks, document.embedding_model) == (
        "Storks",
        "ann",
        2,
        "hashing:64",
    )
    assert document.metadata["tags"] == ["birds"]
    chunks = notes.documents().chunks(document.id)
    assert [(c.id, c.chunk_index, c.text, c.length) for c in chunks] == [
        ("a.md#0", 0, "# Storks\n\nStorks", 16),
        ("a.md#1", 1, "stand here.", 11),
    ]
    assert chunks[0].faiss_index < chunks[1].faiss_index
    assert (chunks[1].start, chunks[1].end) == (17, 28)
    assert notes.get("a.md#1").metadata["owner"] == "ann"
    stats = notes.documents().stats()
    assert (stats.total_vectors, stats.total_documents) == (2, 1)
    assert [(d.document_id, d.vectors, d.characters) for d in stats.per_document] == [(document.id, 2, 27)]
    hashes = sql(store, "select content_hash from likewise.vector_metadata order by chunk_index")
    assert hashes[1][0] == hashlib.sha256(b"stand here.").digest()
    with pytest.raises(NotFound, match="no document 0"):
        notes.documents().get(0)
    with pytest.raises(InvalidArgument, match="no id of a document"):
        notes.documents().get_many([True])


def test_only_what_has_changed_is_embedded(notes: Collection, tmp_path: Path, embedded: list[str]) -> None:
    file = tmp_path / "a.txt"
    file.write_text("one two three four five six seven eight")
    ingest(notes, [file], base=tmp_path, chunker=words())
    embedded.clear()
    file.write_text("zero nil one two THREE four five six")
    report = ingest(notes, [file], base=tmp_path, chunker=words())
    assert sorted(embedded) == ["THREE four", "zero nil"]
    assert (report.stored, report.records, report.removed) == (1, 4, 0)
    assert list(contents(notes).values()) == ["zero nil", "one two", "THREE four", "five six"]
    embedded.clear()
    file.write_text("five six")
    assert ingest(notes, [file], base=tmp_path, chunker=words()).removed == 3
    assert embedded == []
    (tmp_path / "b.txt").write_text("five six nine ten")
    ingest(notes, [tmp_path], base=tmp_path, chunker=words())
    assert embedded == ["nine ten"]
    assert contents(notes) == {"a.txt#0": "five six", "b.txt#0": "five six", "b.txt#1": "nine ten"}
    one, other = notes.get("a.txt#0", include=("vector",)).vector, notes.get("b.txt#0", include=("vector",)).vector
    assert np.array_equal(np.asarray(one), np.asarray(other))


def test_what_was_altered_by_hand_is_not_taken_for_the_models(
    store: PostgresStore, notes: Collection, tmp_path: Path
) -> None:
    (tmp_path / "a.txt").write_text("one two")
    ingest(notes, [tmp_path], base=tmp_path)
    right = np.asarray(notes.get("a.txt#0", include=("vector",)).vector)
    sql(store, "update notes set vector = (select vector_concat('[1]', subvector(vector, 2, 63)) from notes)")
    (tmp_path / "b.txt").write_text("one two\n")
    ingest(notes, [tmp_path], base=tmp_path)
    assert np.array_equal(np.asarray(notes.get("b.txt#0", include=("vector",)).vector), right)


def test_a_copy_is_passed_over_and_takes_the_place_of_its_original(
    store: PostgresStore, notes: Collection, tmp_path: Path
) -> None:
    for name in ("a.txt", "b.txt", "c.txt"):
        (tmp_path / name).write_text("the same")
    report = ingest(notes, [tmp_path], base=tmp_path)
    assert (report.stored, report.duplicates, report.files) == (1, 2, 3)
    assert sql(store, "select source, state, duplicate_of is null from likewise.documents order by source") == [
        ("a.txt", "stored", True),
        ("b.txt", "duplicate", False),
        ("c.txt", "duplicate", False),
    ]
    assert list(contents(notes)) == ["a.txt#0"]
    assert ingest(notes, [tmp_path], base=tmp_path).unchanged == 3
    (tmp_path / "a.txt").unlink()
    report = ingest(notes, [tmp_path], base=tmp_path, prune=True)
    assert (report.pruned, report.stored, report.duplicates) == (1, 1, 1)
    assert list(contents(notes)) == ["b.txt#0"]
    report = ingest(notes, [tmp_path], base=tmp_path, copies="store")
    assert (report.stored, report.unchanged) == (1, 1)
    assert list(contents(notes)) == ["b.txt#0", "c.txt#0"]
    (tmp_path / "c.txt").write_text("another")
    assert ingest(notes, [tmp_path], base=tmp_path).stored == 1
    assert contents(notes) == {"b.txt#0": "the same", "c.txt#0": "another"}


def test_a_copy_is_stored_when_its_original_says_something_else(notes: Collection, tmp_path: Path) -> None:
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text("the same")
    ingest(notes, [tmp_path], base=tmp_path)
    (tmp_path / "a.txt").write_text("another")
    report = ingest(notes, [tmp_path], base=tmp_path)
    assert (report.stored, report.unchanged, report.duplicates, report.files) == (2, 0, 0, 2)
    assert contents(notes) == {"a.txt#0": "another", "b.txt#0": "the same"}
    # What was in a file moves to one that comes before it.
    (tmp_path / "b.txt").write_text("a third")
    (tmp_path / "0.txt").write_text("the same")
    report = ingest(notes, [tmp_path], base=tmp_path)
    assert (report.stored, report.unchanged, report.duplicates, report.files) == (2, 1, 0, 3)
    assert contents(notes) == {"0.txt#0": "the same", "a.txt#0": "another", "b.txt#0": "a third"}


def test_a_document_becomes_a_copy_and_its_records_go(notes: Collection, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one")
    (tmp_path / "b.txt").write_text("two")
    ingest(notes, [tmp_path], base=tmp_path)
    (tmp_path / "b.txt").write_text("one")
    report = ingest(notes, [tmp_path], base=tmp_path)
    assert (report.duplicates, report.removed) == (1, 1)
    assert list(contents(notes)) == ["a.txt#0"]


def test_deleting_a_document_deletes_all_of_it(store: PostgresStore, notes: Collection, tmp_path: Path) -> None:
    for n in range(4):
        (tmp_path / f"{n}.txt").write_text(f"text {n} of four")
    ingest(notes, [tmp_path], base=tmp_path, chunker=words())
    assert notes.count() == 8
    first, second, *_ = notes.documents().scan().documents
    sql(store, "delete from likewise.documents where id = %s", first.id)
    assert notes.documents().delete(second.id) == 1
    assert notes.documents().delete([second.id, first.id]) == 0
    assert sorted(contents(notes)) == ["2.txt#0", "2.txt#1", "3.txt#0", "3.txt#1"]
    assert notes.documents().forget(["2.txt", "none.txt"]) == 1
    sql(store, "delete from likewise.vector_metadata where record_id = '3.txt#1'")
    assert list(contents(notes)) == ["3.txt#0"]
    store.drop_collection("notes")
    assert sql(
        store, "select (select count(*) from likewise.documents), (select count(*) from likewise.vector_metadata)"
    ) == [(0, 0)]


def test_a_search_never_sees_half_a_document(notes: Collection, fresh_database_url: str, tmp_path: Path) -> None:
    file = tmp_path / "a.txt"

    def write(version: int) -> None:
        file.write_text(" ".join(f"v{version}w{n}" for n in range(20 + 15 * (version % 3))))

    write(0)
    ingest(notes, [file], base=tmp_path, chunker=words())
    stop, seen, torn = threading.Event(), set(), []

    def read() -> None:
        with likewise.connect(fresh_database_url) as mine:
            collection = mine.collection("notes")
            while not stop.is_set():
                found = list(collection.scan(Eq(Metadata("source"), "a.txt"), limit=1_000))
                versions = {record.metadata["sha256"] for record in found}
                seen.update(versions)
                if len(versions) != 1 or len(found) != found[0].metadata["chunks"]:
                    torn.append([record.id for record in found])

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for version in range(1, 25):
            write(version)
            ingest(notes, [file], base=tmp_path, chunker=words())
    finally:
        stop.set()
        reader.join()
    assert torn == []
    assert len(seen) > 1


def test_a_document_that_cannot_be_stored_whole_is_left_as_it_was(
    notes: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "a.txt"
    file.write_text("one two three four")
    ingest(notes, [file], base=tmp_path, chunker=words())
    before = contents(notes)
    file.write_text("five six")
    with monkeypatch.context() as broken:

        def fail(*_: object) -> None:
            raise RuntimeError("in the middle of it")

        broken.setattr(PostgresDocuments, "_put_chunks", fail)
        with pytest.raises(RuntimeError, match="in the middle"):
            ingest(notes, [file], base=tmp_path, chunker=words())
    assert contents(notes) == before
    assert len(notes.documents().chunks(notes.documents().scan().documents[0].id)) == 2
    assert ingest(notes, [file], base=tmp_path, chunker=words()).stored == 1
    assert contents(notes) == {"a.txt#0": "five six"}


def test_a_file_that_can_no_longer_be_read_keeps_what_it_said(notes: Collection, tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("one two")
    (tmp_path / "b.bin").write_bytes(bytes(range(256)))
    report = ingest(notes, [tmp_path], base=tmp_path)
    assert [(Path(f.path).name, f.stage) for f in report.failed] == [("b.bin", "detecting")]
    file.write_bytes(bytes(range(256)) * 2)
    ingest(notes, [tmp_path], base=tmp_path)
    found = {d.source: d for d in notes.documents().scan().documents}
    assert (found["b.bin"].state, found["b.bin"].error_stage, found["b.bin"].chunks) == ("failed", "detecting", 0)
    assert (found["a.txt"].state, found["a.txt"].error_stage, found["a.txt"].chunks) == ("stored", "detecting", 1)
    assert contents(notes) == {"a.txt#0": "one two"}
    assert [d.source for d in notes.documents().scan(state="failed").documents] == ["b.bin"]
    file.write_text("one two")
    assert ingest(notes, [tmp_path], base=tmp_path).stored == 1
    assert notes.documents().scan(state="stored").documents[0].error is None


def test_a_copy_of_what_cannot_be_read_is_not_called_a_copy(notes: Collection, tmp_path: Path) -> None:
    for name in ("a.bin", "b.bin"):
        (tmp_path / name).write_bytes(bytes(range(256)))
    report = ingest(notes, [tmp_path], base=tmp_path)
    assert [(Path(f.path).name, f.stage) for f in report.failed] == [("a.bin", "detecting"), ("b.bin", "detecting")]
    assert report.duplicates == 0


def test_tenants_do_not_know_of_each_other(notes: Collection, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("the same")
    for tenant in ("north", "south"):
        report = ingest(notes, [tmp_path], base=tmp_path, tenant=tenant)
        assert (report.stored, report.duplicates) == (1, 0)
    assert contents(notes) == {"north//a.txt#0": "the same", "south//a.txt#0": "the same"}
    assert notes.count(Eq(Metadata("tenant"), "north")) == 1
    assert [d.tenant for d in notes.documents().scan(tenant="south").documents] == ["south"]
    assert notes.documents(tenant="north").forget(["a.txt"]) == 1
    assert list(contents(notes)) == ["south//a.txt#0"]
    (tmp_path / "a.txt").unlink()
    assert ingest(notes, [tmp_path], base=tmp_path, tenant="north", prune=True).pruned == 0
    assert notes.count() == 1
    for name in ("a/b", "line\nbreak", "n" * 101):
        with pytest.raises(InvalidArgument, match="tenant is"):
            ingest(notes, [tmp_path], tenant=name)


def test_pruning_takes_only_what_is_gone_from_the_folder(notes: Collection, tmp_path: Path) -> None:
    for name in ("in/a.txt", "in/b.txt", "in/deep/c.txt", "out/d.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    ingest(notes, [tmp_path], base=tmp_path)
    for name in ("in/a.txt", "in/deep/c.txt", "out/d.txt"):
        (tmp_path / name).unlink()
    assert ingest(notes, [tmp_path / "in"], base=tmp_path, prune=True, dry_run=True).pruned == 2
    assert notes.count() == 4
    assert ingest(notes, [tmp_path / "in"], base=tmp_path, prune=True).pruned == 2
    assert list(contents(notes)) == ["in/b.txt#0", "out/d.txt#0"]
    assert ingest(notes, [tmp_path / "in"], prune=True).pruned == 0


def test_syncing_restores_what_was_deleted_or_altered(notes: Collection, tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("# One\n\ntwo three four")
    ingest(notes, [tmp_path], base=tmp_path, chunker=words())
    before = {r.id: r for r in notes.scan(include=("metadata", "content", "vector"))}
    assert notes.documents().sync().restored == 0
    notes.delete("a.md#0")
    notes.upsert(likewise.Record("a.md#1", content="altered"))
    report = notes.documents().sync()
    assert (report.restored, report.refreshed, list(report.unrepairable)) == (1, 1, [])
    after = {r.id: r for r in notes.scan(include=("metadata", "content", "vector"))}
    assert {i: (r.content, r.metadata) for i, r in after.items()} == {
        i: (r.content, r.metadata) for i, r in before.items()
    }
    assert all(np.array_equal(np.asarray(after[i].vector), np.asarray(before[i].vector)) for i in before)
    notes.delete("a.md#0")
    assert ingest(notes, [tmp_path], base=tmp_path, chunker=words()).stored == 1
    assert notes.count() == len(before)


def test_a_picture_is_restored_by_its_file(store: VectorStore, tmp_path: Path) -> None:
    Image.new("RGB", (32, 32), "red").save(tmp_path / "red.png")
    pictures = store.ensure_collection(CollectionSpec("pictures", embedder="mini"))
    ingest(pictures, [tmp_path], base=tmp_path)
    (document,) = pictures.documents().scan().documents
    (chunk,) = pictures.documents().chunks(document.id)
    assert (chunk.id, chunk.text, chunk.length) == ("red.png", None, 0)
    assert ingest(pictures, [tmp_path], base=tmp_path, chunker=words()).unchanged == 1
    pictures.delete("red.png")
    assert list(pictures.documents().sync().unrepairable) == ["red.png"]
    assert ingest(pictures, [tmp_path], base=tmp_path).stored == 1
    assert pictures.count() == 1


def test_a_rehearsal_stores_nothing_and_says_what_would_be(
    notes: Collection, tmp_path: Path, embedded: list[str]
) -> None:
    (tmp_path / "a.txt").write_text("one two three four")
    (tmp_path / "b.bin").write_bytes(bytes(range(256)))
    report = ingest(notes, [tmp_path], base=tmp_path, chunker=words(), dry_run=True)
    assert (report.stored, report.records, len(report.failed), notes.count()) == (1, 2, 1, 0)
    assert report.estimated_seconds is not None
    assert 0 < report.estimated_seconds < 10
    assert notes.documents().scan().documents == []
    ingest(notes, [tmp_path], base=tmp_path, chunker=words())
    again = ingest(notes, [tmp_path], base=tmp_path, chunker=words(), dry_run=True)
    assert (again.stored, again.unchanged, again.estimated_seconds) == (0, 1, None)


def test_whose_a_document_is_is_said_each_time(notes: Collection, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one")
    for owner, expected in (("ann", "ann"), ("ann", "ann"), ("bob", "bob"), ("", None)):
        report = ingest(notes, [tmp_path], base=tmp_path, chunker=words(), owner=owner)
        assert report.failed == []
        assert [found.metadata.get("owner") for found in notes.scan()] == [expected]
        assert [document.owner for document in notes.documents().scan().documents] == [owner]


def test_what_analysts_ask(store: PostgresStore, notes: Collection, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("storks stand in water")
    (tmp_path / "b.txt").write_text("trains leave at ten")
    ingest(notes, [tmp_path / "a.txt"], base=tmp_path, chunker=words(), owner="ann")
    ingest(notes, [tmp_path / "b.txt"], base=tmp_path, chunker=words(4), owner="bob")
    assert sql(
        store, "select source, vectors, characters, shortest from likewise.document_vectors order by source"
    ) == [
        ("a.txt", 2, 20, 8),
        ("b.txt", 1, 19, 19),
    ]
    assert sql(store, "select owner, documents, vectors, bytes from likewise.owner_vectors order by owner") == [
        ("ann", 1, 2, 21),
        ("bob", 1, 1, 19),
    ]
    assert sql(store, "select from_characters, to_characters, chunks, documents from likewise.chunk_distribution") == [
        (0, 199, 3, 2)
    ]
    assert sql(store, "select embedding_model, vectors, documents from likewise.models_used") == [("hashing:64", 3, 2)]
    found = sql(store, "select source, chunk_index, text from likewise.search_chunks('water')")
    assert found == [("a.txt", 1, "in water")]
    assert sql(store, "select source from likewise.search_chunks('\"leave at\" or storks -water', 10, 'notes')") == [
        ("b.txt",),
        ("a.txt",),
    ]
    assert sql(store, "select source from likewise.search_chunks('water', 10, 'others')") == []


def test_a_chunk_of_megabytes_is_stored(store: PostgresStore, notes: Collection, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("storks " + " ".join(f"word{n}" for n in range(300_000)))
    report = ingest(notes, [tmp_path], base=tmp_path, max_characters=10_000_000)
    assert (report.records, report.failed) == (1, [])
    assert sql(store, "select source from likewise.search_chunks('storks')") == [("a.txt",)]


def test_pages_of_documents(notes: Collection, tmp_path: Path) -> None:
    for n in range(5):
        (tmp_path / f"{n}.txt").write_text(str(n))
    ingest(notes, [tmp_path], base=tmp_path)
    first = notes.documents().scan(limit=3)
    assert first.cursor == first.documents[-1].id
    rest = notes.documents().scan(cursor=first.cursor, limit=3)
    assert [d.source for d in (*first.documents, *rest.documents)] == [f"{n}.txt" for n in range(5)]
    assert rest.cursor is None


def test_settings_are_remembered(notes: Collection) -> None:
    assert notes.documents().config() is None
    notes.documents().set_config({"chunking": {"kind": "tokens", "size": 10}})
    notes.documents().set_config({"chunking": {"kind": "tokens", "size": 20}})
    assert notes.documents().config() == {"chunking": {"kind": "tokens", "size": 20}}


def test_the_pages_of_a_pdf_are_pictures_beside_their_text(store: VectorStore, tmp_path: Path) -> None:
    (tmp_path / "two.pdf").write_bytes(pdf("A heron waits in the shallow water.", "The night train leaves at ten."))
    (tmp_path / "one.txt").write_text("A text has no pages.")
    pictures = store.ensure_collection(CollectionSpec("pictures", embedder="mini"))
    config = IngestConfig(TokensConfig(32), PagesConfig(dpi=40))
    report = ingest(pictures, [tmp_path], base=tmp_path, config=config)
    assert (report.stored, report.failed) == (2, [])
    found = {r.id: r for r in pictures.scan(Eq(Metadata("source"), "two.pdf"))}
    drawn = [r for r in found.values() if r.modality == "image"]
    assert [r.metadata["page"] for r in sorted(drawn, key=lambda r: int(r.metadata["chunk"]))] == [1, 2]
    assert {r.metadata["chunks"] for r in found.values()} == {len(found)}
    assert any("heron" in (r.content or "") for r in found.values() if r.modality == "text")
    assert ingest(pictures, [tmp_path], base=tmp_path).unchanged == 2
    text = store.ensure_collection(CollectionSpec("text", embedder="reader"))
    assert ingest(text, [tmp_path], base=tmp_path, config=config).records == report.records - 2


@pytest.mark.slow
def test_what_is_written_in_a_picture_is_found_by_a_model_of_texts(store: VectorStore, tmp_path: Path) -> None:
    notes = store.ensure_collection(CollectionSpec("notes", embedder="reader"))
    picture = Image.new("RGB", (900, 160), "white")
    ImageDraw.Draw(picture).text((30, 50), "The heron waits by the river", fill="black", font_size=48)
    picture.save(tmp_path / "sign.png")
    assert [f.reason for f in ingest(notes, [tmp_path], base=tmp_path).failed] == [
        "a picture, and 'reader' embeds text only: have its text read by ocr, or choose a model for pictures"
    ]
    config = IngestConfig(parsing=TextConfig(ocr=True))
    assert ingest(notes, [tmp_path], base=tmp_path, config=config).failed == []
    assert "heron" in (contents(notes)["sign.png#0"] or "")
    assert ingest(notes, [tmp_path], base=tmp_path).unchanged == 1
    both = store.ensure_collection(CollectionSpec("both", embedder="mini"))
    assert ingest(both, [tmp_path], base=tmp_path, config=config).records == 2
    assert {r.id: r.modality for r in both.scan()} == {"sign.png#0": "image", "sign.png#1": "text"}
    assert ingest(both, [tmp_path], base=tmp_path).unchanged == 1


def test_a_configuration_is_strict() -> None:
    whole = IngestConfig(TokensConfig(30, 5), PagesConfig(ocr=True, dpi=72))
    assert IngestConfig.from_json(json.loads(json.dumps(whole.to_json()))) == whole
    assert IngestConfig.from_json({}) == IngestConfig()
    for wrong, said in (
        ([], "is an object"),
        ({"nope": 1}, "unknown key 'nope'"),
        ({"parsing": {"kind": "nope"}}, "one of 'text', 'pages'"),
        ({"parsing": {"kind": "text", "dpi": 3}}, "unknown key 'dpi'"),
        ({"parsing": {"kind": "text", "ocr": 1}}, "must be true or false"),
        ({"parsing": {"kind": "pages", "dpi": 5}}, "dpi is 5"),
        ({"chunking": {"kind": "paragraphs", "size": 5}}, "its key is 'max_characters'"),
        ({"chunking": {"kind": "paragraphs", "max_characters": 0}}, "max_characters is 0"),
    ):
        with pytest.raises(InvalidArgument, match=said):
            IngestConfig.from_json(wrong)
