"""Text in pictures and in scanned pages is read where that is asked for, within limits, and nowhere else."""

from __future__ import annotations

import importlib.util
import random
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw

from likewise.errors import OptionalDependencyError
from likewise.ingest import Limits, Parsed, ParserPool, Unreadable, parse, parse_isolated
from likewise.ingest.parsing import ParseOptions, formats, is_plain

from . import documents

OCR = ParseOptions(ocr=True)
SENTENCE = "The quick brown fox jumps over the lazy dog."
needs_ocr = pytest.mark.skipif(
    importlib.util.find_spec("rapidocr") is None, reason="the extra ocr is not installed; the extra test brings it"
)


@pytest.fixture(scope="module")
def pool() -> Iterator[ParserPool]:
    with ParserPool(options=OCR) as pool:
        yield pool


def read(pool: ParserPool, picture: Image.Image) -> Parsed:
    return pool.parse(documents.saved(picture), path=Path("picture.png"))


def words(parsed: Parsed) -> str:
    """Where a model sees a space is not what is tested here."""
    return parsed.text.replace(" ", "")


@needs_ocr
def test_the_text_of_a_picture_in_lines(pool: ParserPool) -> None:
    parsed = read(pool, documents.drawn(SENTENCE, "It was seen on 31 May 2026, twice."))
    assert words(parsed) == SENTENCE.replace(" ", "") + "\nItwasseenon31May2026,twice."
    assert (parsed.media_type, parsed.pages, parsed.width) == ("image/png", (), parsed.width)
    assert parsed.width


@needs_ocr
@pytest.mark.parametrize("angle", [90, 180, 270])
def test_a_picture_that_lies_on_its_side_or_stands_on_its_head(angle: int, pool: ParserPool) -> None:
    lines = ["First we read this line of text", "then this one, which is longer", "and at last the third of them"]
    parsed = read(pool, documents.drawn(*lines).rotate(angle, expand=True))
    assert words(parsed).split("\n") == [line.replace(" ", "") for line in lines]


@pytest.mark.slow
@needs_ocr
def test_white_on_black_black_on_nothing_and_a_narrow_strip(pool: ParserPool) -> None:
    assert words(read(pool, documents.drawn("White on black", paper="black", ink="white"))) == "Whiteonblack"
    letters = documents.drawn("Black on nothing").convert("L")
    clear = Image.new("RGBA", letters.size, (0, 0, 0, 0))
    clear.putalpha(letters.point(lambda value: 255 - value))
    assert words(read(pool, clear)) == "Blackonnothing"
    strip = read(pool, documents.drawn("words in a strip, " * 8))
    assert words(strip).count("wordsinastrip") >= 7
    assert read(pool, Image.new("RGB", (20_000, 3), "white")).text == ""


@needs_ocr
def test_a_picture_without_text_has_none(pool: ParserPool) -> None:
    assert read(pool, Image.new("RGB", (400, 300), "white")).text == ""
    assert read(pool, Image.new("1", (1, 1))).text == ""
    ball = Image.new("RGB", (90, 90), "white")
    ImageDraw.Draw(ball).ellipse((20, 20, 70, 70), outline="black", width=9)
    assert read(pool, ball).text == ""
    assert read(pool, Image.linear_gradient("L").resize((300, 300))).text == ""


@needs_ocr
def test_the_pages_of_a_scan(pool: ParserPool) -> None:
    data = documents.saved(documents.drawn(SENTENCE), documents.drawn("The second page"), form="PDF")
    assert parse(data).text == ""
    parsed = pool.parse(data, path=Path("scan.pdf"))
    pages = [parsed.text[start:end].replace(" ", "") for start, end in parsed.pages]
    assert pages == [SENTENCE.replace(" ", ""), "Thesecondpage"]
    fax = documents.saved(documents.drawn("Page one of it"), documents.drawn("Page two of it"), form="TIFF")
    parsed = pool.parse(fax, path=Path("fax.tif"))
    assert [parsed.text[a:b].replace(" ", "") for a, b in parsed.pages] == ["Pageoneofit", "Pagetwoofit"]


def test_a_page_that_has_text_is_not_read_and_neither_is_an_empty_one(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Any] = []
    counted: list[int] = []

    def read_page(page: Any) -> str:
        read.append(page)
        return "what was read"

    monkeypatch.setattr(formats, "read_page", read_page)
    data = documents.pdf("It has text", "")  # shows text that is none
    assert parse(data, options=OCR, on_scan=lambda: counted.append(1)).text == "It has text"
    assert (read, counted) == ([], [])
    scan = documents.saved(Image.new("RGB", (50, 50)), Image.new("RGB", (50, 50)), form="PDF")
    parsed = parse(scan, options=OCR, on_scan=lambda: counted.append(1))
    assert parsed.text == "what was read\n\nwhat was read"
    assert (len(read), len(counted)) == (2, 2)
    assert parse(scan).text == ""


def test_nothing_is_read_unless_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> str:
        raise AssertionError("it was read")

    monkeypatch.setattr(formats, "read_page", refuse)
    monkeypatch.setattr(formats, "read_picture", refuse)
    data = documents.picture(SENTENCE)
    assert (parse(data).text, is_plain(data), is_plain(data, options=OCR)) == ("", True, False)
    assert parse(documents.picture(SENTENCE, form="PDF")).text == ""
    with pytest.raises(AssertionError, match="it was read"):
        parse(data, options=OCR)


def test_limits() -> None:
    scan = documents.picture("One", "Two", "Three", form="PDF")
    with pytest.raises(Unreadable, match="3 pages of the PDF are scans, at most 2 are read: split it"):
        parse(scan, options=OCR, limits=Limits(scans=2))
    with pytest.raises(Unreadable, match="the picture has 3 pages, at most 2 are read: split it"):
        parse(documents.picture("One", "Two", "Three", form="TIFF"), options=OCR, limits=Limits(scans=2))
    with pytest.raises(Unreadable, match=r"400 x 300 pixels, at most 100,000 in all .*: scale it down"):
        parse(documents.saved(Image.new("L", (400, 300))), options=OCR, limits=Limits(pixels=100_000))
    with pytest.raises(Unreadable, match="decompression bomb"):
        parse(documents.saved(Image.new("1", (20_000, 20_000))), options=OCR)


@needs_ocr
def test_a_picture_is_decoded_and_read_within_the_pool_s_memory(pool: ParserPool) -> None:
    # 9,900 x 9,900 pixels are 294 MB when decoded, and are scaled down before they are read.
    large = documents.saved(Image.new("1", (9_900, 9_900), 1))
    assert pool.parse(large, path=Path("large.png")).text == ""


@needs_ocr
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only there the address space is bounded")
def test_too_little_memory_for_the_models_is_an_error_of_the_file() -> None:
    with ParserPool(options=OCR, memory=250 * 1024 * 1024) as small:
        for _ in range(2):
            with pytest.raises(Unreadable) as caught:
                small.parse(documents.picture(SENTENCE), path=Path("picture.png"))
            assert caught.value.stage in {"parsing", "isolating"}
        assert small.parse(b"text", path=Path("x.txt")).text == "text"


@needs_ocr
def test_a_scan_that_takes_too_long_and_one_that_does_not(tmp_path: Path) -> None:
    path = tmp_path / "scan.pdf"
    path.write_bytes(documents.picture("One", form="PDF"))
    with pytest.raises(Unreadable, match=r"longer than 0\.05 seconds"):
        parse_isolated(path, seconds=0.05, options=OCR)
    assert parse_isolated(path, options=OCR).text == "One"


@needs_ocr
@pytest.mark.parametrize("form", ["PNG", "JPEG", "TIFF", "PDF"])
def test_whatever_is_flipped_or_cut_gives_a_text_or_one_error(form: str, pool: ParserPool) -> None:
    chance = random.Random(form)
    whole = documents.picture("Some", form=form)
    for round_ in range(12):
        data = bytearray(whole)
        if round_ % 3 == 0:
            del data[chance.randrange(len(data)) :]
        for _ in range(round_):
            if data:
                data[chance.randrange(len(data))] = chance.randrange(256)
        error = None
        try:
            assert isinstance(pool.parse(bytes(data), path=Path("some/file")), Parsed)
        except Unreadable as raised:
            error = raised
        if error is not None:
            assert (error.path, error.stage in {"reading", "detecting", "parsing"}) == (Path("some/file"), True), error
            assert "its parser failed" not in error.reason, error


@needs_ocr
def test_nothing_is_downloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    from likewise.ingest.parsing import ocr

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    ocr._engine.cache_clear()
    assert "offline" in ocr.read_image(documents.drawn("It works offline"))


def test_a_missing_extra_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    original = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "rapidocr" else original(name, *more)
    )
    with pytest.raises(OptionalDependencyError, match=r"pip install 'likewise\[ocr\]'") as caught:
        ParserPool(options=OCR)
    assert (caught.value.package, caught.value.extra) == ("rapidocr", "ocr")
    with ParserPool() as pool:
        assert pool.parse(b"text", path=Path("x.txt")).text == "text"
