"""OpenDocument files (ODT, and with it ODS and ODP): paragraphs, headings and cells, in the order in which they are written."""

from __future__ import annotations

import re
from dataclasses import replace

from likewise.ingest.parsing.archives import Archive, Element, read_xml
from likewise.ingest.parsing.parsed import Limits, Parsed, Unreadable, Writer, tidy

__all__ = ["MEDIA_TYPE_PREFIX", "parse_opendocument"]

MEDIA_TYPE_PREFIX = "application/vnd.oasis.opendocument."
#: What was deleted, what somebody remarked, and alternatives to a picture of which the picture is shown.
_LEFT_OUT = frozenset({"tracked-changes", "annotation", "forms", "scripts", "ruby-text"})
_MOST_SPACES = 100


class _Content:
    """The text of ``content.xml``: a paragraph a line, a heading as Markdown has it, the cells of a row parted by tabs."""

    def __init__(self, out: Writer) -> None:
        self._out = out
        self._skipped = 0
        self._depth = 0
        self._cells = 0
        self._heading = 0
        self._line: list[str] = []

    def start(self, element: Element) -> None:
        match element.name:
            case name if name in _LEFT_OUT:
                self._skipped += 1
            case "p" | "h":
                self._depth += 1
                level = element.get("outline-level", "1")
                self._heading = min(int(level), 6) if element.name == "h" and level in set("123456789") else 0
            case "s" if self._depth:
                count = element.get("c", "1")
                self._line.append(" " * (min(int(count), _MOST_SPACES) if re.fullmatch("[0-9]{1,6}", count) else 1))
            case "tab" if self._depth:
                self._line.append("\t")
            case "line-break" if self._depth:
                self._line.append("\n")
            case "table-cell":
                self._cells += 1
            case _:
                pass

    def end(self, name: str) -> None:
        match name:
            case _ if name in _LEFT_OUT:
                self._skipped -= 1
            case "p" | "h":
                self._depth -= 1
                self._paragraph()
            case "table-cell":
                self._cells -= 1
                self._out.write("\t")
            case "table-row":
                self._out.write("\n")
            case _:
                pass

    def text(self, text: str) -> None:
        if self._depth and not self._skipped:
            self._line.append(re.sub(r"\s+", " ", text))

    def _paragraph(self) -> None:
        line = "".join(self._line).strip()
        self._line.clear()
        if line:
            mark = "#" * self._heading + " " if self._heading else ""
            self._out.write(line + " " if self._cells else f"{mark}{line}\n\n")


def parse_opendocument(archive: Archive, limits: Limits, media_type: str) -> Parsed:
    """An OpenDocument file. ``Unreadable`` if it is encrypted; its pages are not known."""
    manifest = archive.read("META-INF/manifest.xml") if "META-INF/manifest.xml" in archive else b""
    if b"encryption-data" in manifest:
        raise Unreadable("the file is encrypted: save it without a password", stage="unpacking")
    out = Writer(limits)
    content = _Content(out)
    read_xml(archive.read("content.xml"), limits, start=content.start, end=content.end, text=content.text)
    text = tidy(out.text())
    return _described(archive, limits, Parsed(text=text, media_type=media_type))


def _described(archive: Archive, limits: Limits, parsed: Parsed) -> Parsed:
    said: dict[str, list[str]] = {}
    current = ""

    def start(element: Element) -> None:
        nonlocal current
        current = element.name
        said.setdefault(current, []).append("")

    def text(text: str) -> None:
        if current:
            said[current][-1] += text.strip()

    def end(_: str) -> None:
        nonlocal current
        current = ""

    if "meta.xml" in archive:
        read_xml(archive.read("meta.xml"), limits, start=start, end=end, text=text)
    first = {name: values[0] for name, values in said.items() if values[0]}
    return replace(
        parsed,
        title=first.get("title"),
        author=first.get("initial-creator") or first.get("creator"),
        language=first.get("language"),
        created=first.get("creation-date"),
        modified=first.get("date"),
        keywords=tuple(word for word in said.get("keyword", ()) if word),
    )
