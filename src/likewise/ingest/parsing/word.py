"""Word documents (DOCX): paragraphs, headings, tables, foot- and endnotes, in the order in which they are written."""

from __future__ import annotations

import re

from likewise.ingest.parsing.archives import Archive, Element, read_xml
from likewise.ingest.parsing.openxml import MAIN_PARTS, main_part, properties
from likewise.ingest.parsing.parsed import Limits, Parsed, Writer, tidy

__all__ = ["parse_docx"]

_HEADING = re.compile(r"heading ([1-6])", re.IGNORECASE)
#: Deleted text, the codes of fields, and what older programs are shown instead of the same thing.
_LEFT_OUT = frozenset({"delText", "instrText", "Fallback", "del", "moveFrom"})


class _Body:
    """The text of one part of a document, a line for each paragraph; cells of a row are parted by tabs."""

    def __init__(self, out: Writer, headings: dict[str, int]) -> None:
        self._out = out
        self._headings = headings
        self._skipped = 0
        self._in_text = 0
        self._cell: list[bool] = []
        self._level = 0
        self._line: list[str] = []
        self._outer: list[tuple[list[str], int]] = []

    def start(self, element: Element) -> None:
        name = element.name
        if name in _LEFT_OUT:
            self._skipped += 1
        elif name == "t":
            self._in_text += 1
        elif name == "p":
            self._outer.append((self._line, self._level))  # a text box is a paragraph inside another
            self._line, self._level = [], 0
        elif name == "tab" and self._line:
            self._line.append("\t")
        elif name in ("br", "cr"):
            self._line.append("\n")
        elif name == "pStyle":
            self._level = self._headings.get(element.get("val"), 0)
        elif name == "tc":
            self._cell.append(True)

    def end(self, name: str) -> None:
        if name in _LEFT_OUT:
            self._skipped -= 1
        elif name == "t":
            self._in_text -= 1
        elif name == "p":
            self._paragraph()
        elif name == "tc" and self._cell:
            self._cell.pop()
            self._out.write("\t")
        elif name == "tr":
            self._out.write("\n")

    def text(self, text: str) -> None:
        if self._in_text and not self._skipped:
            self._line.append(text)

    def _paragraph(self) -> None:
        line = "".join(self._line).strip()
        level = self._level
        if self._outer:
            self._line, self._level = self._outer.pop()
        if line and self._cell:
            self._out.write(line + " ")
        elif line:
            self._out.write(f"{'#' * level} {line}\n\n" if level else f"{line}\n\n")


def _headings(archive: Archive, limits: Limits) -> dict[str, int]:
    """The level of each style that is a heading, by the style's id, which depends on the language of the program."""
    found: dict[str, int] = {}
    current = ""

    def start(element: Element) -> None:
        nonlocal current
        if element.name == "style":
            current = element.get("styleId")
        elif element.name == "name" and current and (match := _HEADING.fullmatch(element.get("val"))):
            found[current] = int(match[1])

    if "word/styles.xml" in archive:
        read_xml(archive.read("word/styles.xml"), limits, start=start, end=lambda _: None, text=lambda _: None)
    return found


def parse_docx(archive: Archive, limits: Limits) -> Parsed:
    """A Word document; its pages are not known, for it has none until it is printed."""
    out = Writer(limits)
    main = main_part(archive, limits, "docx")
    headings = _headings(archive, limits)
    folder = main.rpartition("/")[0]
    for name in (main, f"{folder}/footnotes.xml", f"{folder}/endnotes.xml"):
        if name == main or name in archive:
            body = _Body(out, headings)
            read_xml(archive.read(name), limits, start=body.start, end=body.end, text=body.text)
    text = tidy(out.text())
    return properties(archive, limits, Parsed(text=text, media_type=MAIN_PARTS["docx"][0]))
