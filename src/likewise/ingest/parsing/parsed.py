"""What parsing gives and what it refuses with: ``Parsed``, ``Unreadable`` and the limits. Nothing here reads a byte."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["DEFAULT_LIMITS", "DEFAULT_OPTIONS", "Limits", "ParseOptions", "Parsed", "Unreadable", "Writer", "tidy"]


class Unreadable(Exception):
    """A file that gives no record. Reported, not raised, by the pipeline.

    ``path`` is the file, where it is known; ``stage`` what was being done: ``reading`` (the file), ``detecting`` (its format or
    encoding), ``unpacking`` (an archive), ``parsing``, or ``isolating`` (the process that parses); ``reason`` says why, and the cure.
    """

    def __init__(self, reason: str, *, stage: str, path: Path | None = None) -> None:
        super().__init__(reason if path is None else f"{path}: {reason} (while {stage})")
        self.reason = reason
        self.stage = stage
        self.path = path


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much a document may hold. More is refused, never cut: what is missing from an index is found by nobody.

    ``characters`` of text; ``pages`` of a PDF; ``entries`` of an archive; ``unpacked`` bytes read from it in all; ``ratio`` of unpacked
    to packed bytes of one entry (entries below a mebibyte may have any); ``depth`` of nested elements, groups or messages; ``scans``,
    the pages of one document that are read by character recognition; ``pixels`` of a picture that is decoded for it.
    """

    characters: int = 20_000_000
    pages: int = 5_000
    entries: int = 20_000
    unpacked: int = 256 * 1024 * 1024
    ratio: int = 200
    depth: int = 256
    scans: int = 500
    pixels: int = 100_000_000


DEFAULT_LIMITS = Limits()


@dataclass(frozen=True, slots=True, kw_only=True)
class ParseOptions:
    """What else is to be done with a document, beside reading the text that it has.

    ``ocr``: read the text in pictures, and in the pages of a PDF that have none of their own (the extra ``ocr``; seconds for each page).
    ``detect_language``: tell the language of a text whose document does not state it, where ``py3langid`` (the extra ``ingest``) is there.
    """

    ocr: bool = False
    detect_language: bool = True


DEFAULT_OPTIONS = ParseOptions()


@dataclass(frozen=True, slots=True, kw_only=True)
class Parsed:
    """A document's text and what it says of itself.

    ``pages`` are spans (start, end) of ``text`` in reading order, in characters: a PDF's pages, slides, sheets, chapters; empty where
    a format has none. ``created`` and ``modified`` are ISO 8601, as far as the document states them; ``language`` is the tag (BCP 47)
    that the document states, or, where ``language_detected``, the one of the language that its text was told to be in. ``width`` and
    ``height`` are a picture's pixels, as it is to be shown; ``exif`` its tags by name.
    """

    text: str
    media_type: str
    pages: tuple[tuple[int, int], ...] = ()
    title: str | None = None
    author: str | None = None
    language: str | None = None
    language_detected: bool = False
    created: str | None = None
    modified: str | None = None
    keywords: tuple[str, ...] = ()
    encoding: str | None = None
    width: int | None = None
    height: int | None = None
    exif: dict[str, str] = field(default_factory=dict)


def tidy(text: str) -> str:
    """The text without white space at its ends and the ends of its lines, and without more than one empty line in a row."""
    # Not by a pattern: one for spaces at the end of a line takes quadratic time where there are many elsewhere.
    return re.sub(r"\n{3,}", "\n\n", "\n".join(line.rstrip(" \t") for line in text.split("\n"))).strip()


class Writer:
    """Text that grows up to a limit, with the spans of its pages."""

    def __init__(self, limits: Limits) -> None:
        self.pages: list[tuple[int, int]] = []
        self._limits = limits
        self._parts: list[str] = []
        self._length = 0
        self._start = 0

    @property
    def length(self) -> int:
        """The characters so far."""
        return self._length

    def write(self, text: str) -> None:
        """Add a piece; ``Unreadable`` beyond the limit."""
        self._length += len(text)
        if self._length > self._limits.characters:
            raise Unreadable(
                f"its text is longer than {self._limits.characters:,} characters: split the document", stage="parsing"
            )
        self._parts.append(text)

    def page(self, text: str) -> None:
        """Add a page's text, stripped, as a page of its own; a blank line parts it from the one before."""
        text = text.strip()
        if self._length and text:
            self.write("\n\n")
        start = self._length
        self.write(text)
        self.pages.append((start, self._length))

    def text(self) -> str:
        """All of it."""
        return "".join(self._parts)
