"""From bytes to ``Parsed``: the format is told by the content, and its parser is called. Names decide only between kinds of text."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from likewise.ingest.parsing.archives import Archive
from likewise.ingest.parsing.epub import MEDIA_TYPE as EPUB
from likewise.ingest.parsing.epub import parse_epub
from likewise.ingest.parsing.html import parse_html
from likewise.ingest.parsing.languages import detect_language, language_tag
from likewise.ingest.parsing.mail import is_mail, parse_mail
from likewise.ingest.parsing.markdown import parse_markdown
from likewise.ingest.parsing.ocr import read_page, read_picture
from likewise.ingest.parsing.old_office import is_old_office, parse_old_office
from likewise.ingest.parsing.opendocument import MEDIA_TYPE_PREFIX, parse_opendocument
from likewise.ingest.parsing.openxml import kind_of
from likewise.ingest.parsing.parsed import (
    DEFAULT_LIMITS,
    DEFAULT_OPTIONS,
    Limits,
    Parsed,
    ParseOptions,
    Unreadable,
    Writer,
)
from likewise.ingest.parsing.pdf import is_pdf, parse_pdf
from likewise.ingest.parsing.pictures import NAMES, parse_picture, picture_type
from likewise.ingest.parsing.rtf import parse_rtf
from likewise.ingest.parsing.sheets import parse_xlsx
from likewise.ingest.parsing.slides import parse_pptx
from likewise.ingest.parsing.texts import decode, parse_csv, parse_json, parse_text, sniff_csv, sniff_json
from likewise.ingest.parsing.word import parse_docx

__all__ = ["is_plain", "parse"]

_ARCHIVES: tuple[tuple[bytes, str], ...] = (
    (b"\x1f\x8b", "a gzip archive"),
    (b"BZh", "a bzip2 archive"),
    (b"\xfd7zXZ\x00", "an xz archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (b"Rar!\x1a\x07", "a RAR archive"),
    (b"\x28\xb5\x2f\xfd", "a Zstandard archive"),
)
#: Atomic, for comments can be read as one or as many: without, a page of nothing else would take for ever.
_HTML = re.compile(
    rb"(?>(?:\xef\xbb\xbf)?(?>\s+|<\?xml[^>]*>|<!--.*?-->)*)<(?:!doctype\s+html|html|head|body)\b",
    re.IGNORECASE | re.DOTALL,
)


def is_plain(data: bytes, *, options: ParseOptions = DEFAULT_OPTIONS) -> bool:
    """Whether these bytes are a picture that is not read, or UTF-8 text that no parser but the simplest sees: what needs no process of its own."""
    if picture_type(data) is not None:
        return not options.ocr
    if (
        data.lstrip()[:1] in (b"{", b"[")  # RTF too
        or data.startswith(b"PK")
        or is_pdf(data)
        or _HTML.match(data[:4096])
        or is_mail(data)
    ):
        return False
    try:
        return "\x00" not in data.decode("utf-8")
    except UnicodeDecodeError:
        return False


def parse(
    data: bytes,
    *,
    path: Path | None = None,
    limits: Limits = DEFAULT_LIMITS,
    options: ParseOptions = DEFAULT_OPTIONS,
    on_scan: Callable[[], None] | None = None,
) -> Parsed:
    """Read a document of any known format. ``path`` is for messages, and its suffix tells Markdown and CSV from plain text.

    ``on_scan`` is called after each page or picture that was read by character recognition, where ``options`` ask for it.
    ``Unreadable``, with the path and the stage, for whatever gives no text, and ``OptionalDependencyError`` where the format needs the
    extra ``ingest``, or recognition the extra ``ocr``. It does not guard against a library that hangs or crashes: ``parse_isolated`` does.
    """
    try:
        parsed = _parse(data, path, limits, options, on_scan or _nothing)
    except Unreadable as error:
        raise Unreadable(error.reason, stage=error.stage, path=path) from error.__cause__
    except (RecursionError, MemoryError) as error:
        what = "nested too deep" if isinstance(error, RecursionError) else "too large for the memory there is"
        raise Unreadable(f"the document is {what}", stage="parsing", path=path) from error
    parsed = replace(parsed, language=language_tag(parsed.language))
    if parsed.text:
        # Half of a pair of UTF-16, and zero, are characters that no database stores.
        text = parsed.text.translate({0: " "}).encode("utf-8", "replace").decode("utf-8")
        parsed = replace(parsed, text=text)
        if options.detect_language and parsed.language is None and (language := detect_language(text)) is not None:
            parsed = replace(parsed, language=language, language_detected=True)
    return parsed


def _nothing() -> None:
    """What is done after a page, unless somebody wants to know."""


def _parse(
    data: bytes, path: Path | None, limits: Limits, options: ParseOptions, on_scan: Callable[[], None]
) -> Parsed:
    if not data:
        raise Unreadable("the file is empty", stage="reading")
    media_type = picture_type(data)
    if media_type is not None:
        parsed = parse_picture(data, media_type)
        return _recognised(parsed, data, limits, on_scan) if options.ocr else parsed
    if is_pdf(data):

        def read_scan(page: Any) -> str:
            text = read_page(page)
            on_scan()
            return text

        return parse_pdf(data, limits, read_scan if options.ocr else None)
    if data.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _parse_zip(data, limits)
    if is_old_office(data):
        return parse_old_office(data, limits)
    for magic, what in _ARCHIVES:
        if data.startswith(magic):
            raise Unreadable(f"{what}: unpack it first", stage="detecting")
    if data.startswith(b"{\\rtf"):
        return parse_rtf(data, limits)
    return _parse_text(data, "" if path is None else path.suffix.lower(), limits)


def _recognised(parsed: Parsed, data: bytes, limits: Limits, on_scan: Callable[[], None]) -> Parsed:
    """A picture with the text that is read in it; a TIFF of several pages has them as pages."""
    out = Writer(limits)
    for text in read_picture(data, limits):
        out.page(text)
        on_scan()
    return replace(parsed, text=out.text(), pages=tuple(out.pages) if len(out.pages) > 1 else ())


def _parse_zip(data: bytes, limits: Limits) -> Parsed:
    archive = Archive(data, limits)
    media_type = _stated(archive)
    if media_type == EPUB:
        return parse_epub(archive, limits)
    if media_type.startswith(MEDIA_TYPE_PREFIX):
        return parse_opendocument(archive, limits, media_type)
    match kind_of(archive, limits):
        case "docx":
            return parse_docx(archive, limits)
        case "pptx":
            return parse_pptx(archive, limits)
        case "xlsx":
            return parse_xlsx(archive, limits)
        case _:
            raise Unreadable("a ZIP archive, and no document of a known format: unpack it first", stage="detecting")


def _stated(archive: Archive) -> str:
    """What the entry ``mimetype`` says, of EPUB and OpenDocument."""
    return archive.read("mimetype")[:200].decode("ascii", "replace").strip() if "mimetype" in archive else ""


def _parse_text(data: bytes, suffix: str, limits: Limits) -> Parsed:
    if is_mail(data):
        return parse_mail(data, limits)
    html = _HTML.match(data[:4096]) is not None
    try:
        text, encoding = decode(data, markup=html)
    except Unreadable:
        if suffix not in NAMES:
            raise
        text, encoding = "", ""
    if suffix in NAMES and not encoding.startswith("utf-"):
        raise Unreadable("its name is a picture's, but its content is not", stage="detecting")
    if not text.strip():
        raise Unreadable("the file holds only white space", stage="reading")
    if html or _HTML.match(text[:4096].encode("utf-8", "replace")):
        parsed = parse_html(text, limits)
    elif json_type := sniff_json(text):
        parsed = parse_json(text, json_type, limits)
    elif suffix in (".md", ".markdown"):
        parsed = parse_markdown(text, limits)
    elif delimiter := _delimiter(text, suffix):
        parsed = parse_csv(text, delimiter, limits)
    else:
        parsed = parse_text(text, limits)
    return replace(parsed, encoding=encoding)


def _delimiter(text: str, suffix: str) -> str | None:
    """By the content; a name that ends in .csv or .tsv vouches for tables that are too small to be told."""
    found = sniff_csv(text)
    if found is None and suffix in (".csv", ".tsv"):
        first = text.lstrip().partition("\n")[0]
        found = max("\t;,|", key=first.count)
        return found if found in first else None
    return found
