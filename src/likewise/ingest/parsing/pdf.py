"""PDF, by PDFium (the extra ``ingest``): the text of each page, in the order in which the document draws it.

What is only drawn is for others to read: rendering.py makes pictures of pages, ocr.py reads them.
"""

from __future__ import annotations

import contextlib
import ctypes
import re
from collections.abc import Callable, Iterator
from typing import Any

from likewise.errors import OptionalDependencyError
from likewise.ingest.parsing.openxml import split_keywords
from likewise.ingest.parsing.parsed import Limits, Parsed, Unreadable, Writer

__all__ = ["is_pdf", "open_page", "open_pdf", "parse_pdf"]

_DATE = re.compile(r"(?:D:)?(\d{4})(\d\d)?(\d\d)?(?:(\d\d)(\d\d)(\d\d)?)?(?:(Z)|([+-])(\d\d)'?(\d\d)?)?")


def is_pdf(data: bytes) -> bool:
    """Whether the bytes are a PDF: its mark may stand behind a kibibyte of something else."""
    return b"%PDF-" in data[:1024]


@contextlib.contextmanager
def open_pdf(data: bytes, limits: Limits) -> Iterator[Any]:
    """The document of ``pypdfium2``, closed in the end. ``Unreadable`` if it is encrypted, damaged, or has too many pages."""
    try:
        import pypdfium2
    except ImportError as error:
        raise OptionalDependencyError("pypdfium2", extra="ingest") from error
    try:
        document = pypdfium2.PdfDocument(data)
    except pypdfium2.PdfiumError as error:
        if "password" in str(error).lower():
            raise Unreadable("the PDF is encrypted: save it without a password", stage="parsing") from error
        raise Unreadable(f"the PDF is damaged or cut off ({error})", stage="parsing") from error
    with contextlib.closing(document):
        count = len(document)
        if count > limits.pages:
            raise Unreadable(
                f"the PDF has {count:,} pages, at most {limits.pages:,} are read: split it", stage="parsing"
            )
        yield document


@contextlib.contextmanager
def open_page(document: Any, number: int) -> Iterator[Any]:
    """A page by its number from 0, closed in the end. ``Unreadable``, with the number from 1, for whatever PDFium finds wrong with it."""
    import pypdfium2

    try:
        with contextlib.closing(document[number]) as page:
            yield page
    except pypdfium2.PdfiumError as error:
        raise Unreadable(f"page {number + 1} of the PDF is damaged ({error})", stage="parsing") from error


def parse_pdf(data: bytes, limits: Limits, read_scan: Callable[[Any], str] | None = None) -> Parsed:
    """A PDF's text, without what lies outside its pages. ``Unreadable`` if it is encrypted, damaged, or has too many pages.

    A page that has no text, but shows something, is given to ``read_scan``, if there is one, which says what is read there; else it is empty.
    """
    out = Writer(limits)
    with open_pdf(data, limits) as document:
        texts: list[str | None] = []  # None where there is something to be recognised
        for number in range(len(document)):
            with open_page(document, number) as page:
                text = _page(page)
                shows = not text.strip() and _shows(page)
                texts.append(None if read_scan is not None and shows else text)
        if (scans := texts.count(None)) > limits.scans:
            raise Unreadable(
                f"{scans:,} pages of the PDF are scans, at most {limits.scans:,} are read: split it", stage="parsing"
            )
        for number, known in enumerate(texts):
            if known is not None or read_scan is None:
                out.page(known or "")
            else:
                with open_page(document, number) as page:
                    out.page(read_scan(page))
        said: dict[str, str] = document.get_metadata_dict(skip_empty=True)
        language = _language(document)
    return Parsed(
        text=out.text(),
        pages=tuple(out.pages),
        media_type="application/pdf",
        title=_clean(said.get("Title", "")).strip() or None,
        author=_clean(said.get("Author", "")).strip() or None,
        language=language,
        created=_date(said.get("CreationDate", "")),
        modified=_date(said.get("ModDate", "")),
        keywords=split_keywords(_clean(said.get("Keywords", ""))),
    )


def _language(document: Any) -> str | None:
    """The document's language, as its catalog states it (``/Lang``); None where PDFium is too old to say."""
    from pypdfium2 import raw

    ask = getattr(raw, "FPDFCatalog_GetLanguage", None)
    size = 0 if ask is None else int(ask(document.raw, None, 0))  # in bytes, with a zero at the end
    if ask is None or not 2 < size <= 200:
        return None
    buffer = ctypes.create_string_buffer(size)
    ask(document.raw, ctypes.cast(buffer, ctypes.POINTER(raw.FPDF_WCHAR)), size)
    return buffer.raw[: size - 2].decode("utf-16-le", "replace")


def _shows(page: Any) -> bool:
    """Whether anything is drawn on a page."""
    return next(iter(page.get_objects(max_depth=1)), None) is not None


def _page(page: Any) -> str:
    with contextlib.closing(page.get_textpage()) as text:
        return _clean(text.get_text_bounded())


def _clean(text: str) -> str:
    """PDFium's line ends as line feeds; its mark for a hyphen at the end of a line joins the word; no database stores the rest."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\ufffe\n", "").replace("\x02\n", "")
    text = re.sub(r"[\x00-\x08\x0b\x0e-\x1f\ufffe\uffff]", "", text)
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _date(text: str) -> str | None:
    """``D:20260131120000+01'00'`` as ISO 8601, as far as it goes; None for what is no such date."""
    match = _DATE.match(text)
    if match is None:
        return None
    year, month, day, hour, minute, second, zulu, sign, hours, minutes = match.groups()
    date = "-".join(part for part in (year, month, day) if part)
    if not (day and hour):
        return date
    zone = "Z" if zulu else f"{sign}{hours}:{minutes or '00'}" if sign else ""
    return f"{date}T{hour}:{minute}:{second or '00'}{zone}"
