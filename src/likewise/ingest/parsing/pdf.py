"""PDF, by PDFium (the extra ``ingest``): the text of each page, in the order in which the document draws it."""

from __future__ import annotations

import contextlib
import re
from typing import Any

from likewise.errors import OptionalDependencyError
from likewise.ingest.parsing.openxml import split_keywords
from likewise.ingest.parsing.parsed import Limits, Parsed, Unreadable, Writer

__all__ = ["parse_pdf"]

_DATE = re.compile(r"(?:D:)?(\d{4})(\d\d)?(\d\d)?(?:(\d\d)(\d\d)(\d\d)?)?(?:(Z)|([+-])(\d\d)'?(\d\d)?)?")


def parse_pdf(data: bytes, limits: Limits) -> Parsed:
    """A PDF's text, without what lies outside its pages; empty for pages that are pictures. ``Unreadable`` if it is encrypted, damaged, or has too many pages."""
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
        out = Writer(limits)
        for number in range(count):
            try:
                out.page(_page(document, number))
            except pypdfium2.PdfiumError as error:
                raise Unreadable(f"page {number + 1} of the PDF is damaged ({error})", stage="parsing") from error
        said: dict[str, str] = document.get_metadata_dict(skip_empty=True)
    return Parsed(
        text=out.text(),
        pages=tuple(out.pages),
        media_type="application/pdf",
        title=_clean(said.get("Title", "")).strip() or None,
        author=_clean(said.get("Author", "")).strip() or None,
        created=_date(said.get("CreationDate", "")),
        modified=_date(said.get("ModDate", "")),
        keywords=split_keywords(_clean(said.get("Keywords", ""))),
    )


def _page(document: Any, number: int) -> str:
    page = document[number]
    with contextlib.closing(page), contextlib.closing(page.get_textpage()) as text:
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
