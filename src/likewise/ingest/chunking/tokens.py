"""Chunks of a fixed size."""

from __future__ import annotations

import json
from collections.abc import Iterator

from likewise._graphemes import boundary_after
from likewise.errors import InvalidArgument
from likewise.ingest.chunking._spans import Ruler
from likewise.ingest.chunking.chunk import Chunker, Count, Cut, check_number

__all__ = ["TokenChunker", "check_overlap"]


class TokenChunker(Chunker):
    """Chunks of as many tokens as fit into ``size``, whatever the text says. The next one begins with the last ``overlap`` tokens of a chunk.

    A cut is at white space, where there is any in the second half of what fits, else between two characters, as in Chinese. An overlap is
    made of whole words (of characters where there are none), so it may be shorter than ``overlap``; special tokens do not count in it.
    ``InvalidArgument`` if ``overlap`` is more than half of ``size``, for then most of the text would be stored twice or more.
    """

    def __init__(self, size: int, overlap: int = 0, *, count: Count) -> None:
        super().__init__(size, count=count)
        check_overlap(overlap, size)
        self._overlap = overlap

    @property
    def settings(self) -> str:
        return json.dumps({"kind": "tokens", "size": self._size, "overlap": self._overlap})

    def _cuts(self, ruler: Ruler) -> Iterator[Cut]:
        whole = ruler.trimmed(0, len(ruler.text))
        if whole is None:
            return
        start, stop = whole
        end = ruler.reach(start, stop)
        while (span := ruler.trimmed(start, end)) is not None:
            yield Cut(span)
            rest = ruler.trimmed(end, stop)
            if rest is None:
                return
            again = self._again(ruler, *span) if self._overlap else None
            reached = ruler.reach(again, stop) if again is not None else 0
            # What is said again must leave room for something new.
            if again is not None and reached > rest[0]:
                start, end = again, reached
            else:
                start, end = rest[0], ruler.reach(*rest)

    def _again(self, ruler: Ruler, start: int, end: int) -> int | None:
        """Where the overlap at the end of a span begins: the first place from which it is short enough; None if there is none."""
        text = ruler.text
        words = [place for place in range(start + 1, end) if text[place - 1].isspace() and not text[place].isspace()]
        found = self._first(ruler, words, end)
        if found is None:
            graphemes, place = [], start
            while (place := boundary_after(text, place, end)) < end:
                if not text[place].isspace():
                    graphemes.append(place)
            found = self._first(ruler, graphemes, end)
        return found

    def _first(self, ruler: Ruler, places: list[int], end: int) -> int | None:
        low, high = 0, len(places)
        while low < high:
            middle = (low + high) // 2
            if ruler.net(places[middle], end) <= self._overlap:
                high = middle
            else:
                low = middle + 1
        return places[low] if low < len(places) else None


def check_overlap(overlap: object, size: int) -> None:
    """``InvalidArgument`` unless the overlap is a whole number from 0 to half of the size."""
    check_number("overlap", overlap, least=0)
    if isinstance(overlap, int) and overlap > size // 2:
        raise InvalidArgument(f"overlap is {overlap}, and size {size}: it may be half of it, {size // 2}, at most")
