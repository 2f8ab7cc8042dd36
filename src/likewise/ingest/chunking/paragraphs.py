"""Cuts a text into chunks at its paragraphs. Pure functions; no file, model or collection enters here."""

from __future__ import annotations

import re
from collections.abc import Iterator

__all__ = ["MAX_CHARACTERS", "chunk_text"]

#: About 200 tokens of English: what small embedding models read before they cut.
MAX_CHARACTERS = 900

_PARAGRAPH_BREAK = re.compile(r"\n[ \t\f\v]*\n\s*")
_SENTENCE_END = re.compile(r"(?<=[.!?…。！？])\s+")
_HEADING = re.compile(r"#{1,6} ")


def chunk_text(text: str, *, max_characters: int = MAX_CHARACTERS) -> list[str]:
    """The text's chunks, in order, each at most ``max_characters`` long and none empty.

    Neighbouring paragraphs share a chunk while they fit; a Markdown heading begins a new one. A paragraph that is too long is cut
    between sentences, then between words, then anywhere. The same text always gives the same chunks.
    """
    chunks: list[str] = []
    current = ""
    for paragraph in _pieces(text.replace("\r\n", "\n").replace("\r", "\n"), max_characters):
        joined = f"{current}\n\n{paragraph}" if current else paragraph
        if current and (len(joined) > max_characters or _HEADING.match(paragraph)):
            chunks.append(current)
            current = paragraph
        else:
            current = joined
    if current:
        chunks.append(current)
    return chunks


def _pieces(text: str, size: int) -> Iterator[str]:
    for paragraph in _PARAGRAPH_BREAK.split(text):
        stripped = paragraph.strip()
        if len(stripped) <= size:
            if stripped:
                yield stripped
            continue
        current = ""
        for sentence in _SENTENCE_END.split(stripped):
            for part in _cut(sentence, size):
                if current and len(current) + 1 + len(part) > size:
                    yield current
                    current = part
                else:
                    current = f"{current} {part}" if current else part
        if current:
            yield current


def _cut(sentence: str, size: int) -> Iterator[str]:
    # By places: to cut off what is done would copy the rest each time, which of one line of megabytes takes minutes.
    start, end = 0, len(sentence)
    while end - start > size:
        at = sentence.rfind(" ", start + size // 2, start + size + 1)
        at = at if at > start else start + size
        if part := sentence[start:at].strip():
            yield part
        start = at
        while start < end and sentence[start].isspace():
            start += 1
    if start < end:
        yield sentence[start:].strip()
