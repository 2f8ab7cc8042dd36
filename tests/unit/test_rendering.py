"""Pages of a PDF become pictures, one at a time, within a number of pixels, whatever size they claim."""

from __future__ import annotations

import contextlib
import io
import re
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image, ImageChops

from likewise import InvalidArgument
from likewise.ingest import Limits, ParserPool, Unreadable
from likewise.ingest.parsing import render_pages

from . import documents

Pages = Callable[..., Iterator[tuple[int, bytes]]]


@pytest.fixture(scope="module")
def pool() -> Iterator[ParserPool]:
    with ParserPool(seconds=30) as pool:
        yield pool


@pytest.fixture(params=["here", "isolated"])
def pages(request: pytest.FixtureRequest, pool: ParserPool) -> Pages:
    return render_pages if request.param == "here" else pool.pages


def sized(width: str, height: str) -> bytes:
    return documents.pdf("Some words").replace(b"[0 0 612 792]", f"[0 0 {width} {height}]".encode())


def opened(picture: bytes) -> Image.Image:
    return Image.open(io.BytesIO(picture))


def test_each_page_in_order(pages: Pages) -> None:
    found = list(pages(documents.pdf("One", "Two", "Three"), path=Path("x.pdf"), dpi=72))
    assert [number for number, _ in found] == [1, 2, 3]
    pictures = [opened(picture) for _, picture in found]
    assert {(p.format, p.mode, p.size) for p in pictures} == {("PNG", "RGB", (612, 792))}
    for picture in pictures:
        box = ImageChops.invert(picture.convert("L")).getbbox()
        assert box is not None
        assert 70 <= box[0] <= 75  # where the text begins, in points
    assert len({picture.tobytes() for picture in pictures}) == 3


@pytest.mark.parametrize(
    ("width", "height", "size"),
    [
        ("28346", "28346", (1_000, 1_000)),  # ten metres, by ten
        ("612", "792", (879, 1_138)),
        ("1", "14400", (2, 16_384)),
        ("100", "200", (209, 417)),  # small enough at 150 dots an inch
    ],
)
def test_as_many_pixels_as_are_allowed(width: str, height: str, size: tuple[int, int], pages: Pages) -> None:
    ((_, picture),) = pages(sized(width, height), path=Path("x.pdf"), most_pixels=1_000_000)
    assert opened(picture).size == pytest.approx(size, abs=2)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is read from /proc")
def test_a_page_of_ten_metres_takes_the_memory_of_a_small_one() -> None:
    with ParserPool() as pool:
        assert len(list(pool.pages(sized("612", "792"), path=Path("x.pdf")))) == 1
        before = peak(pool)
        assert len(list(pool.pages(sized("28346", "28346"), path=Path("x.pdf")))) == 1
        assert peak(pool) - before < 32 * 1024 * 1024


def peak(pool: ParserPool) -> int:
    """The most bytes that the pool's one process has had in memory."""
    (worker,) = pool._idle
    status = Path(f"/proc/{worker._process.pid}/status").read_text()
    match = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert match is not None
    return int(match[1]) * 1024


def bomb(side: int) -> bytes:
    """A page with a picture of side by side black pixels, in RGB, which deflate packs a thousandfold."""
    packer = zlib.compressobj(9)
    row = bytes(3 * side)
    packed = b"".join([*(packer.compress(row) for _ in range(side)), packer.flush()])
    head = f"/Type/XObject/Subtype/Image/Width {side}/Height {side}/ColorSpace/DeviceRGB/BitsPerComponent 8/Filter/FlateDecode"
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Count 1/Kids[3 0 R]>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 612 792]/Resources<</XObject<</I 4 0 R>>>>/Contents 5 0 R>>",
        f"<<{head}/Length {len(packed)}>>stream\n".encode() + packed + b"\nendstream",
        b"<</Length 23>>stream\nq 612 0 0 792 0 0 cm /I Do Q\nendstream",
    ]
    body = b"".join(f"{n} 0 obj\n".encode() + content + b"\nendobj\n" for n, content in enumerate(objects, start=1))
    return b"%PDF-1.4\n" + body + b"trailer\n<</Root 1 0 R/Size 6>>\n%%EOF\n"


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only there the address space is bounded")
def test_a_picture_in_a_page_that_decodes_to_gigabytes() -> None:
    with ParserPool(memory=256 * 1024 * 1024, seconds=30) as pool:
        assert len(list(pool.pages(bomb(1_000), path=Path("x.pdf")))) == 1
        started = time.monotonic()
        drawn: list[tuple[int, bytes]] = []
        with contextlib.suppress(Unreadable):  # or the page without its picture, which PDFium leaves out
            drawn.extend(pool.pages(bomb(20_000), path=Path("bomb.pdf")))
        assert [opened(picture).getextrema() for _, picture in drawn] in ([], [((0, 0),) * 3], [((255, 255),) * 3])
        assert time.monotonic() - started < 30
        assert pool.parse(documents.pdf("Still here"), path=Path("x.pdf")).text == "Still here"


def test_a_page_is_drawn_as_it_is_asked_for(pool: ParserPool) -> None:
    pages = pool.pages(documents.pdf(*["words"] * 1_000), path=Path("long.pdf"), dpi=20)
    started = time.monotonic()
    assert [next(pages)[0], next(pages)[0]] == [1, 2]
    assert time.monotonic() - started < 15
    del pages
    assert pool.parse(b"text", path=Path("x.txt")).text == "text"


def test_a_reader_who_takes_his_time_is_not_the_document_s_fault() -> None:
    with ParserPool(seconds=2.5) as pool:
        pages = pool.pages(documents.pdf("One", "Two", "Three"), path=Path("x.pdf"), dpi=20)
        assert next(pages)[0] == 1
        time.sleep(3)
        assert [number for number, _ in pages] == [2, 3]
        assert len(pool._idle) == 1


def test_what_cannot_be_drawn(pages: Pages, pool: ParserPool) -> None:
    for data, words in (
        (b"text", "only the pages of a PDF can be drawn"),
        (b"%PDF-1.7 and so on", "damaged or cut off"),
        (documents.pdf("x", encrypt="/Encrypt<</Filter/Standard/V 1/R 2/P -4/O(x)/U(y)>>"), "PDF is"),
    ):
        with pytest.raises(Unreadable, match=words) as caught:
            list(pages(data, path=Path("some/file")))
        assert caught.value.path == Path("some/file")
    with ParserPool(limits=Limits(pages=2)) as small:
        with pytest.raises(Unreadable, match="3 pages, at most 2"):
            list(small.pages(documents.pdf("a", "b", "c"), path=Path("x.pdf")))
    for wrong in ({"dpi": 0}, {"dpi": 1e9}, {"most_pixels": 0}, {"most_pixels": 10**12}):
        with pytest.raises(InvalidArgument, match="must be from 1 to"):
            list(pages(b"", path=Path("x.pdf"), **wrong))
