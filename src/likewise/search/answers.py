"""What an answer is: its text, and the passages that it rests on. Values only; nothing is searched or asked here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from likewise.records import SearchResult

__all__ = ["NOTHING_FOUND", "Answer", "Citation", "Passage", "citation_of"]

#: The text of an answer that was not found.
NOTHING_FOUND = "Nothing was found that answers this."


@dataclass(frozen=True, slots=True)
class Citation:
    """A passage that an answer rests on; ``[number]`` stands in the answer's text where it does.

    ``quote`` is the passage, as much of it as was used; ``similarity`` (0 to 1) is that of its record to the question. ``source``, ``title``, ``page`` (from 1), ``headings``, and
    ``start`` and ``end`` (characters of the document) are what the record's metadata say, as ingestion writes them; None or empty where
    they do not.
    """

    number: int
    record_id: str
    quote: str
    similarity: float
    source: str | None = None
    title: str | None = None
    page: int | None = None
    headings: tuple[str, ...] = ()
    start: int | None = None
    end: int | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a question, out of the records of a collection.

    ``found`` says whether the text rests on a passage at all: then ``citations`` are those passages, numbered from 1 in the order in which the
    text names them. ``by`` is ``"extract"`` for sentences taken from passages, else the name of the chat model that wrote the text.
    ``unknown_citations`` are numbers in the model's reply that were no passage's; they were taken out of the text.
    """

    text: str
    citations: tuple[Citation, ...]
    found: bool
    by: str
    question: str
    unknown_citations: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Passage:
    """What was found, and how much of its text may be used."""

    result: SearchResult
    text: str


def citation_of(passage: Passage, number: int) -> Citation:
    """The citation of a passage. Metadata of other types than ingestion writes are left out: anybody may have written them."""
    metadata = passage.result.record.metadata
    return Citation(
        number=number,
        record_id=passage.result.id,
        quote=passage.text,
        similarity=passage.result.similarity,
        source=_text(metadata, "source") or _text(metadata, "path"),
        title=_text(metadata, "title"),
        page=_count(metadata, "page"),
        headings=headings_of(metadata),
        start=_count(metadata, "start"),
        end=_count(metadata, "end"),
    )


def headings_of(metadata: Mapping[str, Any]) -> tuple[str, ...]:
    """The titles that a passage stands under, outermost first."""
    value = metadata.get("headings")
    if not isinstance(value, Sequence) or isinstance(value, str):
        return ()
    return tuple(one for one in value if isinstance(one, str))


def _text(metadata: Mapping[str, Any], key: str) -> str | None:
    value = metadata.get(key)
    return value if isinstance(value, str) and value else None


def _count(metadata: Mapping[str, Any], key: str) -> int | None:
    value = metadata.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
