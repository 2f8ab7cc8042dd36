"""Books (EPUB): a page for each chapter, in the order in which they are to be read."""

from __future__ import annotations

import posixpath
from dataclasses import replace
from urllib.parse import unquote

from likewise.ingest.parsing.archives import Archive, Element, read_xml
from likewise.ingest.parsing.html import parse_html
from likewise.ingest.parsing.parsed import Limits, Parsed, Unreadable, Writer
from likewise.ingest.parsing.texts import decode

__all__ = ["MEDIA_TYPE", "parse_epub"]

MEDIA_TYPE = "application/epub+zip"
_CONTAINER = "META-INF/container.xml"


def _package(archive: Archive, limits: Limits) -> str:
    """The name of the book's package document."""
    found: list[str] = []

    def start(element: Element) -> None:
        if element.name == "rootfile":
            found.append(element.get("full-path"))

    read_xml(archive.read(_CONTAINER), limits, start=start, end=lambda _: None, text=lambda _: None)
    for target in found:
        if entry := archive.find(target):
            return entry
    raise Unreadable("the book's package is missing: the file is damaged", stage="unpacking")


def parse_epub(archive: Archive, limits: Limits) -> Parsed:
    """A book. ``Unreadable`` if its chapters are encrypted (DRM)."""
    if "META-INF/rights.xml" in archive:
        raise Unreadable("the book is encrypted (DRM) and cannot be read", stage="unpacking")
    package = _package(archive, limits)
    folder = posixpath.dirname(package)
    items: dict[str, tuple[str, str]] = {}
    spine: list[str] = []
    said: dict[str, list[str]] = {}
    current = ""

    def start(element: Element) -> None:
        nonlocal current
        current = "modified" if element.get("property") == "dcterms:modified" else element.name
        if element.name == "item":
            items[element.get("id")] = (unquote(element.get("href")), element.get("media-type"))
        elif element.name == "itemref":
            spine.append(element.get("idref"))
        said.setdefault(current, []).append("")

    def text(text: str) -> None:
        if current:
            said[current][-1] += text

    def end(_: str) -> None:
        nonlocal current
        current = ""

    read_xml(archive.read(package), limits, start=start, end=end, text=text)
    out = Writer(limits)
    for reference in spine:
        href, media_type = items.get(reference, ("", ""))
        entry = archive.find(href, folder=folder)
        if entry is None or media_type not in ("application/xhtml+xml", "text/html"):
            continue
        chapter = parse_html(decode(archive.read(entry), markup=True)[0], limits)
        out.page(chapter.text)
    modified = [value.strip() for value in said.get("modified", ())]
    words = {name: [" ".join(value.split()) for value in values] for name, values in said.items()}
    return replace(
        Parsed(text=out.text(), pages=tuple(out.pages), media_type=MEDIA_TYPE),
        title=_first(words, "title"),
        author=", ".join(name for name in words.get("creator", ()) if name) or None,
        language=_first(words, "language"),
        created=_first(words, "date"),
        modified=modified[0] if modified else None,
        keywords=tuple(word for word in words.get("subject", ()) if word),
    )


def _first(words: dict[str, list[str]], name: str) -> str | None:
    return next((value for value in words.get(name, ()) if value), None)
