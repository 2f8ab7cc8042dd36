"""Presentations (PPTX): a page for each slide, in the order of the show, with the speaker's notes."""

from __future__ import annotations

from likewise.ingest.parsing.archives import Archive, Element, read_xml
from likewise.ingest.parsing.openxml import MAIN_PARTS, main_part, properties, relationships
from likewise.ingest.parsing.parsed import Limits, Parsed, Unreadable, Writer

__all__ = ["parse_pptx"]


def _lines(archive: Archive, limits: Limits, part: str) -> str:
    """The text of a slide or of its notes, a line for each paragraph. Slide numbers and other fields are left out."""
    lines: list[str] = []
    line: list[str] = []
    inside = field = skipped = 0

    def start(element: Element) -> None:
        nonlocal inside, field, skipped
        match element.name:
            case "t":
                inside += 1
            case "fld":
                field += 1
            case "Fallback":
                skipped += 1
            case "br":
                line.append("\n")
            case _:
                pass

    def end(name: str) -> None:
        nonlocal inside, field, skipped
        match name:
            case "t":
                inside -= 1
            case "fld":
                field -= 1
            case "Fallback":
                skipped -= 1
            case "p":
                if whole := "".join(line).strip():
                    lines.append(whole)
                line.clear()
            case _:
                pass

    def text(text: str) -> None:
        if inside and not field and not skipped:
            line.append(text)

    read_xml(archive.read(part), limits, start=start, end=end, text=text)
    return "\n".join(lines)


def parse_pptx(archive: Archive, limits: Limits) -> Parsed:
    """A presentation. ``Unreadable`` where it has more slides than the limit on pages."""
    main = main_part(archive, limits, "pptx")
    order: list[str] = []

    def start(element: Element) -> None:
        if element.name == "sldId":
            order.append(element.get("r:id"))

    read_xml(archive.read(main), limits, start=start, end=lambda _: None, text=lambda _: None)
    if len(order) > limits.pages:
        raise Unreadable(f"it has {len(order):,} slides, at most {limits.pages:,} are read", stage="parsing")
    parts = relationships(archive, limits, main)
    out = Writer(limits)
    for reference in order:
        kind, slide = parts.get(reference, ("", ""))
        if kind != "slide":
            continue
        text = _lines(archive, limits, slide)
        for kind, entry in relationships(archive, limits, slide).values():
            if kind == "notesSlide" and (notes := _lines(archive, limits, entry)):
                text = f"{text}\n\n{notes}"
        out.page(text)
    parsed = Parsed(text=out.text(), pages=tuple(out.pages), media_type=MAIN_PARTS["pptx"][0])
    return properties(archive, limits, parsed)
