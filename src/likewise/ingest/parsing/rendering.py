"""Pages of a PDF as pictures, by PDFium (the extra ``ingest``): within a number of pixels, however large a page says it is."""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from likewise.errors import InvalidArgument
from likewise.ingest.parsing.parsed import DEFAULT_LIMITS, Limits, Unreadable
from likewise.ingest.parsing.pdf import is_pdf, open_page, open_pdf

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["DPI", "MOST_PIXELS", "check_rendering", "draw_page", "render_pages"]

#: Dots an inch, and the pixels that a page may have: A4 at 200 dots an inch has 3.9 million.
DPI, MOST_PIXELS = 150, 4_000_000
_POINTS = 72  # an inch
#: The longest side of a picture: what every reader of PNG and JPEG takes.
_LONGEST = 16_384


def check_rendering(dpi: float, most_pixels: int) -> None:
    """``InvalidArgument`` for what no page can be drawn with."""
    if not 1 <= dpi <= 2_400:
        raise InvalidArgument(f"dpi must be from 1 to 2400, not {dpi!r}: it is in dots an inch")
    if not 1 <= most_pixels <= 100_000_000:
        raise InvalidArgument(f"most_pixels must be from 1 to 100000000, not {most_pixels!r}: it is for one page")


def draw_page(page: Any, *, dpi: float, most_pixels: int) -> Image.Image:
    """A page of ``pypdfium2`` as a picture in RGB, at ``dpi`` or as many as the pixels allow; ``Unreadable`` for a page without extent."""
    width, height = page.get_size()
    if not (0 < width < math.inf and 0 < height < math.inf):
        raise Unreadable("a page of the PDF has no extent", stage="parsing")
    scale = min(dpi / _POINTS, math.sqrt(most_pixels / (width * height)), _LONGEST / max(width, height))
    bitmap = page.render(scale=scale)
    with contextlib.closing(bitmap):
        picture: Image.Image = bitmap.to_pil().convert("RGB")
        return picture


def render_pages(
    data: bytes,
    *,
    path: Path | None = None,
    dpi: float = DPI,
    most_pixels: int = MOST_PIXELS,
    limits: Limits = DEFAULT_LIMITS,
) -> Iterator[tuple[int, bytes]]:
    """Each page of a PDF, in order, as its number from 1 and a picture in PNG; one is drawn at a time, as it is asked for.

    A page that would have more than ``most_pixels`` at ``dpi`` dots an inch is drawn with fewer. ``Unreadable`` for whatever is no PDF, is
    encrypted or damaged, or has too many pages; ``OptionalDependencyError`` without the extra ``ingest``. It does not guard against
    a library that hangs or crashes: ``ParserPool.pages`` does.
    """
    check_rendering(dpi, most_pixels)
    try:
        if not is_pdf(data):
            raise Unreadable("only the pages of a PDF can be drawn: save it as PDF", stage="detecting")
        with open_pdf(data, limits) as document:
            for number in range(len(document)):
                with open_page(document, number) as page:
                    out = io.BytesIO()
                    draw_page(page, dpi=dpi, most_pixels=most_pixels).save(out, "PNG", compress_level=1)
                yield number + 1, out.getvalue()
    except Unreadable as error:
        raise Unreadable(error.reason, stage=error.stage, path=path) from error.__cause__
