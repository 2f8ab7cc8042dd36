"""``likewise ingest`` and the pipeline beneath it."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import likewise as package
from likewise.cli.exits import Exit
from likewise.ingest import Unreadable, chunk_text, load
from unit import documents

if TYPE_CHECKING:
    from cli.conftest import Likewise

Ingest = Callable[..., dict[str, Any]]


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with a picture, two texts, and much that is none of the two."""
    folder = tmp_path / "files"
    (folder / "deep").mkdir(parents=True)
    Image.new("RGB", (32, 32), "red").save(folder / "red.png")
    Image.new("RGB", (32, 32), "blue").save(folder / "blue", "JPEG")
    (folder / "short.txt").write_text("One short paragraph.\n")
    paragraphs = [f"Paragraph {n}. " + "Words follow words. " * 20 for n in range(6)]
    (folder / "deep" / "long.md").write_text("\n\n".join(paragraphs))
    (folder / ".hidden").write_text("not to be seen")
    return folder


@pytest.fixture
def spoiled(files: Path, tmp_path: Path) -> Path:
    """The same, with files that cannot be stored."""
    (files / "empty.txt").touch()
    (files / "blank.txt").write_text(" \n\t\n")
    (files / "binary.bin").write_bytes(bytes(range(256)))
    (files / "broken.png").write_bytes((files / "red.png").read_bytes()[:40])
    (files / "not-a-picture.jpg").write_bytes(b"\xde\xad\xbe\xef" * 8)
    (files / "paper.pdf").write_bytes(b"%PDF-1.7 and so on")
    (tmp_path / "secret.txt").write_text("outside of the folder")
    (files / "way-out.txt").symlink_to(tmp_path / "secret.txt")
    (files / "nowhere.txt").symlink_to(tmp_path / "does-not-exist")
    (files / "alias.txt").symlink_to(files / "short.txt")
    if hasattr(os, "mkfifo"):
        os.mkfifo(files / "pipe.txt")
    return files


@pytest.fixture
def ingest(likewise: Likewise) -> Ingest:
    def call(*arguments: object, code: int = Exit.OK) -> dict[str, Any]:
        done = likewise("ingest", *arguments, "-c", "mine", "--json")
        assert done.code == code, done.err
        document: dict[str, Any] = done.json
        return document

    return call


def ids(url: str) -> list[str]:
    with package.connect(url) as store:
        return [r.id for r in store.collection("mine").scan(limit=1_000)]


def test_a_folder(ingest: Ingest, files: Path, fresh_database_url: str, likewise: Likewise) -> None:
    report = ingest(files, "--base", files)
    assert (report["files"], report["stored"], report["failed"], report["skipped"]) == (4, 4, [], [])
    assert report["records"] == report["total_records"]
    stored = ids(fresh_database_url)
    assert {"red.png", "blue", "short.txt#0", "deep/long.md#0"} <= set(stored)
    assert len([i for i in stored if i.startswith("deep/long.md#")]) > 2
    with package.connect(fresh_database_url) as store:
        record = store.collection("mine").get("red.png")
        assert {i.method for i in store.collection("mine").indexes()} == {"btree", "gin", "hnsw"}
    assert record.modality == "image"
    assert record.metadata["media_type"] == "image/png"
    assert record.metadata["path"] == str(files.resolve() / "red.png")
    found = likewise("search", "--like", "red.png", "-c", "mine", "--modality", "image", "--json").json
    assert [r["id"] for r in found["results"]] == ["blue"]


def test_ids_are_absolute_paths_unless_told_otherwise(ingest: Ingest, files: Path, fresh_database_url: str) -> None:
    ingest(files / "short.txt")
    assert ids(fresh_database_url) == [f"{(files / 'short.txt').resolve()}#0"]
    assert ingest(files)["unchanged"] == 1


def test_again_after_nothing_changed(ingest: Ingest, files: Path) -> None:
    ingest(files)
    again = ingest(files)
    assert (again["stored"], again["unchanged"], again["records"], again["removed"]) == (0, 4, 0, 0)


def test_again_after_a_change(ingest: Ingest, files: Path, fresh_database_url: str) -> None:
    before = ingest(files, "--base", files)
    (files / "deep" / "long.md").write_text("Much shorter now.")
    after = ingest(files, "--base", files)
    assert (after["stored"], after["unchanged"], after["records"]) == (1, 3, 1)
    assert after["removed"] == before["records"] - 4
    assert ids(fresh_database_url) == ["blue", "deep/long.md#0", "red.png", "short.txt#0"]
    (files / "red.png").write_text("The picture is a text now.")
    ingest(files, "--base", files)
    assert ids(fresh_database_url) == ["blue", "deep/long.md#0", "red.png#0", "short.txt#0"]


def test_an_interrupted_run_is_completed(ingest: Ingest, files: Path, fresh_database_url: str) -> None:
    whole = ingest(files, "--base", files)["records"]
    with package.connect(fresh_database_url) as store:
        store.collection("mine").delete("deep/long.md#1")
    again = ingest(files, "--base", files)
    assert (again["stored"], again["unchanged"], again["total_records"]) == (1, 3, whole)


def test_what_cannot_be_stored_is_reported_and_the_rest_is_stored(ingest: Ingest, spoiled: Path) -> None:
    report = ingest(spoiled, code=Exit.FAILURE)
    failed = {Path(f["path"]).name: f["reason"] for f in report["failed"]}
    assert set(failed) == {
        "empty.txt", "blank.txt", "binary.bin", "broken.png", "not-a-picture.jpg", "paper.pdf", "pipe.txt"
    }  # fmt: skip
    assert "empty" in failed["empty.txt"]
    assert "white space" in failed["blank.txt"]
    assert "UTF-8" in failed["binary.bin"]
    assert "picture" in failed["not-a-picture.jpg"]
    assert "PDF" in failed["paper.pdf"]
    skipped = {Path(f["path"]).name: f["reason"] for f in report["skipped"]}
    assert set(skipped) == {"way-out.txt", "nowhere.txt"}
    assert (report["stored"], report["unchanged"]) == (4, 0)
    again = ingest(spoiled, code=Exit.FAILURE)
    assert (again["stored"], again["unchanged"], len(again["failed"])) == (0, 4, len(failed))


def test_documents(ingest: Ingest, tmp_path: Path, fresh_database_url: str) -> None:
    folder = tmp_path / "documents"
    folder.mkdir()
    (folder / "paper").write_bytes(documents.pdf("On analytical engines", "and their notes", info="/Title(Engines)"))
    (folder / "letter.txt").write_bytes(documents.docx("<w:p><w:r><w:t>Dear Ada</w:t></w:r></w:p>"))
    (folder / "locked.odt").write_bytes(documents.odt("x", **{"META-INF__manifest": "<m><encryption-data/></m>"}))
    report = ingest(folder, "--base", folder, code=Exit.FAILURE)
    assert [(Path(f["path"]).name, f["reason"]) for f in report["failed"]] == [
        ("locked.odt", "the file is encrypted: save it without a password")
    ]
    assert ids(fresh_database_url) == ["letter.txt#0", "paper#0"]
    with package.connect(fresh_database_url) as store:
        paper = store.collection("mine").get("paper#0")
        letter = store.collection("mine").get("letter.txt#0")
    assert paper.content == "On analytical engines\n\nand their notes"
    assert (paper.metadata["title"], paper.metadata["media_type"]) == ("Engines", "application/pdf")
    assert (letter.content, letter.metadata["author"]) == ("Dear Ada", "Ada")
    assert letter.metadata["keywords"] == ["one", "two", "three"]
    assert ingest(folder, "--base", folder, code=Exit.FAILURE)["unchanged"] == 2


def test_a_missing_extra_is_a_failure_of_the_file(
    ingest: Ingest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "paper.pdf").write_bytes(documents.pdf("On engines"))
    (tmp_path / "files" / "text.txt").write_text("text")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "pypdfium2.py").write_text("raise ImportError('not here')")
    monkeypatch.syspath_prepend(tmp_path / "empty")
    report = ingest(tmp_path / "files", code=Exit.FAILURE)
    assert report["stored"] == 1
    assert "pip install 'likewise[ingest]'" in report["failed"][0]["reason"]


def test_a_report_for_people(likewise: Likewise, spoiled: Path) -> None:
    done = likewise("ingest", spoiled, "-c", "mine")
    assert done.code == Exit.FAILURE
    assert "4 files stored" in done.out
    assert f"failed: {spoiled.resolve() / 'empty.txt'}: the file is empty" in done.out
    assert done.err == ""


def test_a_path_that_is_not_there_creates_nothing(likewise: Likewise, tmp_path: Path) -> None:
    done = likewise("ingest", tmp_path / "nope", "-c", "mine", "--json")
    assert (done.code, done.error["type"]) == (Exit.NOT_FOUND, "NotFound")
    assert likewise("collections", "--json").json == {"collections": []}


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_odd_names(ingest: Ingest, tmp_path: Path, fresh_database_url: str) -> None:
    folder = tmp_path / "odd"
    folder.mkdir()
    for n, name in enumerate(
        (b"caf\xe9.txt", b"line\nbreak.txt", b"-c.txt", b"'; drop table mine; --.txt", b"n" * 250)
    ):
        (Path(os.fsdecode(os.fsencode(folder) + b"/" + name))).write_text(f"text {n}")
    deep = folder / ("d" * 200) / ("e" * 200) / ("f" * 200)
    deep.mkdir(parents=True)
    (deep / "a.txt").write_text("text a")
    (deep / "b.txt").write_text("text b")
    report = ingest(folder, "--base", folder)
    assert (report["stored"], report["failed"]) == (7, [])
    stored = ids(fresh_database_url)
    assert len(set(stored)) == 7
    assert "caf\\xe9.txt#0" in stored
    assert ingest(folder, "--base", folder)["unchanged"] == 7


def test_a_collection_without_a_model(likewise: Likewise, files: Path) -> None:
    likewise("collections", "create", "mine", "--dimension", 3)
    done = likewise("ingest", files, "-c", "mine", "--json")
    assert (done.code, done.error["type"]) == (Exit.INVALID, "InvalidArgument")


class TestLoad:
    @pytest.mark.parametrize(
        ("data", "text"),
        [
            (b"plain", "plain"),
            ("é".encode(), "é"),
            (b"\xef\xbb\xbfmarked", "marked"),
            ("wide".encode("utf-16"), "wide"),
            (b"BM is no picture here", "BM is no picture here"),
        ],
    )
    def test_texts(self, tmp_path: Path, data: bytes, text: str) -> None:
        (tmp_path / "file").write_bytes(data)
        assert load(tmp_path / "file").text == text

    def test_too_large(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(b"x" * 11)
        with pytest.raises(Unreadable, match="too large: 11 bytes, at most 10"):
            load(tmp_path / "file", max_bytes=10)

    def test_gone(self, tmp_path: Path) -> None:
        with pytest.raises(Unreadable, match="cannot be read"):
            load(tmp_path / "file")


class TestChunks:
    def test_paragraphs_share_a_chunk_while_they_fit(self) -> None:
        assert chunk_text("one\n\ntwo\r\n\r\nthree", max_characters=9) == ["one\n\ntwo", "three"]

    def test_a_heading_begins_a_chunk(self) -> None:
        assert chunk_text("intro\n\n# A\n\ntext\n\n## B\n\ntext") == ["intro", "# A\n\ntext", "## B\n\ntext"]

    def test_long_paragraphs_are_cut_at_sentences_then_words_then_anywhere(self) -> None:
        assert chunk_text("First one. Second one.", max_characters=12) == ["First one.", "Second one."]
        assert chunk_text("several words here", max_characters=9) == ["several", "words", "here"]
        assert chunk_text("x" * 25, max_characters=10) == ["x" * 10, "x" * 10, "x" * 5]

    @given(st.text("ab .\n!?# \t漢", max_size=400), st.integers(8, 60))
    def test_nothing_is_lost_and_nothing_too_long(self, text: str, size: int) -> None:
        chunks = chunk_text(text, max_characters=size)
        assert all(0 < len(chunk) <= size for chunk in chunks)
        assert "".join("".join(chunks).split()) == "".join(text.split())
        assert chunk_text(text, max_characters=size) == chunks

    @pytest.mark.slow
    def test_one_line_of_megabytes_takes_time_that_grows_with_its_length_alone(self) -> None:
        begun = time.process_time()
        # A second; a time that grew with the square of the length was a minute, in which nothing else went on.
        assert len(chunk_text("wörd " * 4_000_000)) == 22_223
        assert time.process_time() - begun < 15
