"""Chunks along the headings of a Markdown text."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

from likewise.errors import InvalidArgument
from likewise.ingest.chunking._markdown import Block, blocks, lines
from likewise.ingest.chunking._spans import Ruler, Span
from likewise.ingest.chunking.chunk import Chunker, Count, Cut
from likewise.ingest.chunking.sentences import sentence_spans

__all__ = ["HeadingChunker"]

#: Between the titles of a prefix, and after the last.
_BETWEEN, _AFTER = " > ", "\n\n"


@dataclass(slots=True)
class _Section:
    """Headings, of which each is below the one before, and the blocks that follow; ``above`` are the titles down to the last, with their places."""

    blocks: list[Block]
    above: tuple[tuple[str, int], ...]


class HeadingChunker(Chunker):
    """Chunks of a Markdown text that say under which headings they stand (``Chunk.headings``, the outermost first).

    A heading begins a new chunk; one with nothing but a deeper heading below it shares that one's. In a section, neighbouring blocks
    are put together while they fit into ``size`` tokens. A paragraph, list, table or block of code is whole if it fits into a chunk; else
    a paragraph is cut between sentences and the others between lines. Headings are those of CommonMark, with ``#`` or underlined; what
    looks like one in fenced code, in a list item, in a comment or in the settings at the top of a file is none.

    With ``prefix=True`` what is embedded begins with the titles above that the chunk's own text lacks, "Birds > Storks", then an empty line. The
    outermost are left out where they would take more than half of ``size``. A text without headings is one section.
    """

    def __init__(self, size: int, *, prefix: bool = False, count: Count) -> None:
        super().__init__(size, count=count)
        if not isinstance(prefix, bool):
            raise InvalidArgument(f"prefix is {prefix!r}; it must be True or False")
        self._prefix = prefix

    @property
    def settings(self) -> str:
        return json.dumps({"kind": "headings", "size": self._size, "prefix": self._prefix})

    def _cuts(self, ruler: Ruler) -> Iterator[Cut]:
        for section in _sections(ruler.text):
            above = section.above

            def prefix(start: int, above: tuple[tuple[str, int], ...] = above) -> str:
                return _prefix(ruler, [title for title, place in above if place < start and title])

            room = self._size
            if self._prefix and above:
                end = section.blocks[-1].end
                whole = prefix(end)
                room -= ruler.tokens(end, end, whole) - ruler.base if whole else 0
            units = [unit for block in section.blocks for unit in _units(ruler, block, room)]
            headings = tuple(title for title, _ in above if title)
            for first, last, before in ruler.packed(units, prefix=prefix if self._prefix else None):
                yield Cut((units[first][0], units[last - 1][1]), before, headings)


def _sections(text: str) -> Iterator[_Section]:
    path: list[tuple[int, str, int]] = []
    section = _Section([], ())
    for block in blocks(text):
        if block.level:
            last = section.blocks[-1].level if section.blocks else 0
            if section.blocks and not 0 < last < block.level:
                yield section
                section = _Section([], ())
            path = [above for above in path if above[0] < block.level]
            path.append((block.level, block.title, block.start))
            section.above = tuple((title, start) for _, title, start in path)
        section.blocks.append(block)
    if section.blocks:
        yield section


def _units(ruler: Ruler, block: Block, room: int) -> Iterator[Span]:
    """A block whole if it fits, else in its lines or sentences; these too in pieces where they do not fit."""
    whole = ruler.trimmed(block.start, block.end)
    if whole is None:
        return
    if ruler.fits(*whole, size=room):
        yield whole
    elif block.by_line:
        for line in lines(ruler.text, *whole):
            yield from ruler.pieces(*line, room)
    else:
        yield from sentence_spans(ruler, *whole, room)


def _prefix(ruler: Ruler, titles: list[str]) -> str:
    """The titles as they stand before a text: as many of the innermost as fit into half of the size."""
    while titles:
        prefix = _BETWEEN.join(titles) + _AFTER
        if 2 * (ruler.tokens(0, 0, prefix) - ruler.base) <= ruler.size - ruler.base:
            return prefix
        titles = titles[1:]
    return ""
