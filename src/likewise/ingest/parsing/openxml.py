"""What the formats of Office Open XML share: their main part, their relationships, and what they say of themselves."""

from __future__ import annotations

import re
from dataclasses import replace

from likewise.ingest.parsing.archives import Archive, Element, read_xml
from likewise.ingest.parsing.parsed import Limits, Parsed, Unreadable

__all__ = ["MAIN_PARTS", "kind_of", "main_part", "properties", "relationships", "split_keywords"]

_OFFICE = "application/vnd.openxmlformats-officedocument."
#: By kind: the media type, and what the content type of the main part begins with.
MAIN_PARTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "docx": (
        _OFFICE + "wordprocessingml.document",
        (
            _OFFICE + "wordprocessingml.document.main",
            _OFFICE + "wordprocessingml.template.main",
            "application/vnd.ms-word.document.macroEnabled.main",
            "application/vnd.ms-word.template.macroEnabledTemplate.main",
        ),
    ),
    "pptx": (
        _OFFICE + "presentationml.presentation",
        (
            _OFFICE + "presentationml.presentation.main",
            _OFFICE + "presentationml.slideshow.main",
            _OFFICE + "presentationml.template.main",
            "application/vnd.ms-powerpoint.",
        ),
    ),
    "xlsx": (
        _OFFICE + "spreadsheetml.sheet",
        (
            _OFFICE + "spreadsheetml.sheet.main",
            _OFFICE + "spreadsheetml.template.main",
            "application/vnd.ms-excel.sheet.macroEnabled.main",
            "application/vnd.ms-excel.template.macroEnabled.main",
        ),
    ),
}


def _parts(archive: Archive, limits: Limits) -> dict[str, str]:
    """The content type of each part that has one of its own, by name."""
    found: dict[str, str] = {}

    def start(element: Element) -> None:
        if element.name == "Override":
            found[element.get("PartName").lstrip("/")] = element.get("ContentType")

    if "[Content_Types].xml" in archive:
        read_xml(archive.read("[Content_Types].xml"), limits, start=start, end=lambda _: None, text=lambda _: None)
    return found


def kind_of(archive: Archive, limits: Limits) -> str | None:
    """``docx``, ``pptx`` or ``xlsx`` by the content types of its parts, or None if it is none of them."""
    types = _parts(archive, limits).values()
    for kind, (_, mains) in MAIN_PARTS.items():
        if any(content_type.startswith(mains) for content_type in types):
            return kind
    return None


def main_part(archive: Archive, limits: Limits, kind: str) -> str:
    """The name of the part that the document begins with."""
    mains = MAIN_PARTS[kind][1]
    for name, content_type in _parts(archive, limits).items():
        if content_type.startswith(mains) and name in archive:
            return name
    raise Unreadable("the document's main part is missing: the file is damaged", stage="unpacking")


def relationships(archive: Archive, limits: Limits, part: str) -> dict[str, tuple[str, str]]:
    """What a part refers to inside the archive, as (kind, entry) by the reference's id. External targets are left out."""
    folder, _, name = part.rpartition("/")
    rels = f"{folder}/_rels/{name}.rels" if folder else f"_rels/{name}.rels"
    found: dict[str, tuple[str, str]] = {}

    def start(element: Element) -> None:
        if element.name == "Relationship" and element.get("TargetMode").lower() != "external":
            entry = archive.find(element.get("Target"), folder=folder)
            if entry is not None:
                found[element.get("Id")] = (element.get("Type").rpartition("/")[2], entry)

    if rels in archive:
        read_xml(archive.read(rels), limits, start=start, end=lambda _: None, text=lambda _: None)
    return found


def split_keywords(text: str) -> tuple[str, ...]:
    """Keywords that are written as one text, parted by commas or semicolons."""
    return tuple(word.strip() for word in re.split(r"[,;]", text) if word.strip())


def properties(archive: Archive, limits: Limits, parsed: Parsed) -> Parsed:
    """The same document with the title, author, dates, keywords and language of its ``docProps/core.xml``."""
    said: dict[str, str] = {}
    current = ""

    def start(element: Element) -> None:
        nonlocal current
        current = element.name

    def text(text: str) -> None:
        said[current] = said.get(current, "") + text

    def end(_: str) -> None:
        nonlocal current
        current = ""

    if "docProps/core.xml" in archive:
        read_xml(archive.read("docProps/core.xml"), limits, start=start, end=end, text=text)
    said = {name: value.strip() for name, value in said.items()}
    return replace(
        parsed,
        title=said.get("title") or None,
        author=said.get("creator") or None,
        language=said.get("language") or None,
        created=said.get("created") or None,
        modified=said.get("modified") or None,
        keywords=split_keywords(said.get("keywords", "")),
    )
