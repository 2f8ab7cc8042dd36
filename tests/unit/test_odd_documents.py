"""A collection of odd documents, where it is at hand: each gives its text, or one error that names the file and what was being done."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from likewise.ingest import Parsed, ParserPool, Unreadable
from likewise.ingest.parsing import ParseOptions

CORPUS = Path(__file__).resolve().parents[3] / "shared" / "data" / "docs"
pytestmark = pytest.mark.skipif(not CORPUS.is_dir(), reason="the collection of odd documents is not here")


def files() -> list[Path]:
    return sorted(path for path in CORPUS.rglob("*") if path.is_file())


def stages(error: Unreadable, path: Path) -> str:
    assert error.path == path
    assert "its parser failed" not in error.reason, str(error)
    return error.stage


def test_every_document_is_read_or_refused() -> None:
    read: dict[Path, Parsed] = {}
    refused: dict[Path, str] = {}
    with ParserPool(seconds=20) as pool:
        for path in files():
            try:
                read[path] = pool.parse(path.read_bytes(), path=path)
            except Unreadable as error:
                refused[path] = stages(error, path)
    assert set(refused.values()) <= {"reading", "detecting", "unpacking", "parsing"}
    for path, parsed in read.items():
        spans = [0, *(place for span in parsed.pages for place in span), len(parsed.text)]
        assert spans == sorted(spans), path
        assert parsed.language is not None or not parsed.language_detected
    empty = [path for path, parsed in read.items() if not parsed.text.strip()]
    assert len(read) - len(empty) >= 220
    assert len(refused) <= 80  # encrypted, cut off, or of before 2007
    assert len(empty) <= 60  # scans, and documents of pictures
    detected = [parsed.language for parsed in read.values() if parsed.language_detected]
    assert len(detected) >= 30
    assert detected.count("en") > len(detected) // 2


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("rapidocr") is None, reason="the extra ocr is not installed")
def test_scans_among_them_are_read_and_what_is_no_scan_is_not() -> None:
    scan = CORPUS / "apache-tika" / "pdf" / "testOCR.pdf"
    pictures = [path for path in files() if path.parent.name in ("019-grayscale-image", "023-cmyk-image")]
    with ParserPool(options=ParseOptions(ocr=True)) as pool:
        assert pool.parse(scan.read_bytes(), path=scan).text == "Happy New Year 2003!"
        for path in pictures:
            assert pool.parse(path.read_bytes(), path=path).text == "", path
    assert len(pictures) == 2


def test_the_pages_of_every_pdf_are_drawn_or_refused() -> None:
    drawn = 0
    refused: list[str] = []
    with ParserPool(seconds=20) as pool:
        for path in files():
            if path.suffix == ".pdf":
                try:
                    drawn += sum(
                        picture.startswith(b"\x89PNG")
                        for _, picture in pool.pages(path.read_bytes(), path=path, dpi=40)
                    )
                except Unreadable as error:
                    refused.append(stages(error, path))
    assert drawn >= 200
    assert set(refused) == {"parsing"}
    assert len(refused) <= 10  # encrypted, or cut off
