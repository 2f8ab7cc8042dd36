"""Spans of a text measured in tokens: the longest one that fits, and neighbours put together while they fit.

What a span means (a sentence, a table) does not enter here. Counting is the caller's, and costs time that grows with the text; so a span is
counted a few times and never the whole rest of the text, and a text is cut in time that grows with its length alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import TypeAlias

from likewise._graphemes import boundary_after, boundary_before
from likewise.errors import InvalidArgument

__all__ = ["MOST_CHARACTERS", "Ruler", "Span"]

#: From this character of the text up to that one; not empty, and without white space at its ends.
Span: TypeAlias = tuple[int, int]

#: Characters of a span for each token. Some vocabularies make one token ("unknown") of any word that is too long, and would let it pass.
MOST_CHARACTERS = 32
#: Characters that a token has, until it is known better.
_EXPECTED = 4.0

_BLACK = re.compile(r"\S")


class Ruler:
    """Measures spans of one text, for one call of a chunker: ``size`` tokens are the most that a span may have.

    ``InvalidArgument`` if ``count`` finds ``size`` tokens or more in an empty text, so that nothing fits.
    """

    def __init__(self, text: str, size: int, count: Callable[[str], int]) -> None:
        self.text = text
        self.size = size
        self._count = count
        #: Tokens that every text has: the special ones.
        self.base = count("")
        if self.base >= size:
            raise InvalidArgument(
                f"size is {size}, and an empty text has {self.base} tokens already (special ones): make it at least {self.base + 1}"
            )
        self._expected = _EXPECTED

    def tokens(self, start: int, end: int, prefix: str = "") -> int:
        """The tokens of prefix and span together, special ones included."""
        return self._count(prefix + self.text[start:end])

    def net(self, start: int, end: int, prefix: str = "") -> int:
        """The same without what an empty text has."""
        return self.tokens(start, end, prefix) - self.base

    def fits(self, start: int, end: int, prefix: str = "", *, size: int | None = None) -> bool:
        """Whether prefix and span have at most ``size`` tokens, the ruler's unless given; the characters of the span are bounded too."""
        size = self.size if size is None else size
        return end - start <= size * MOST_CHARACTERS and self.tokens(start, end, prefix) <= size

    def trimmed(self, start: int, end: int) -> Span | None:
        """The span without white space at its ends; None if nothing else is in it."""
        first = _BLACK.search(self.text, start, end)
        if first is None:
            return None
        while self.text[end - 1].isspace():
            end -= 1
        return first.start(), end

    def pieces(self, start: int, end: int, size: int | None = None) -> Iterator[Span]:
        """The span in as few pieces as fit into ``size`` tokens, its own unless given, cut at white space where it is near, else between graphemes."""
        while (rest := self.trimmed(start, end)) is not None:
            start, stop = rest
            cut = self.reach(start, stop, size)
            yield start, self._black_end(start, cut)
            start = cut

    def reach(self, start: int, stop: int, size: int | None = None) -> int:
        """The end of the longest piece from ``start`` that fits: at ``stop``, after the last word in its second half, or after a grapheme.

        At least one grapheme, whether it fits or not. Neither ``start`` nor the character before ``stop`` is white space.
        """
        size = self.size if size is None else size
        least = boundary_after(self.text, start, stop)
        low, low_tokens, high, high_tokens = self._bounds(start, least, stop, size)
        even = False
        while low < high and not (self._word_end(start, low) and not _has_space(self.text, low, high)):
            # Where the tokens are spread evenly, the place is found at once; where not, halving finds it in any case.
            part = 0.5 if even else (size - low_tokens + 0.5) / max(1, high_tokens - low_tokens)
            even = not even
            wanted = min(max(low + 1, low + int((high - low) * part)), high - 1)
            place = boundary_before(self.text, wanted, start)
            if place <= low:
                place = boundary_after(self.text, low, high)
            if place >= high:
                break
            tokens = self._piece_tokens(start, place)
            if tokens <= size:
                low, low_tokens = place, tokens
            else:
                high, high_tokens = place, tokens
        if low > start + 1:
            self._expected = max(1.0, (low - start) / max(1, low_tokens - self.base))
        if low == stop or self.text[low].isspace():
            return low
        word = self._word_end(start, low)
        return word if word and self._piece_tokens(start, word) <= size else low

    def _bounds(self, start: int, least: int, stop: int, size: int) -> tuple[int, int, int, int]:
        """A place that fits (or ``least``) and a later one that does not, with their tokens; the same place twice if there is none such."""
        cap = min(stop, max(least, boundary_before(self.text, min(stop, start + size * MOST_CHARACTERS), start)))
        low, low_tokens = least, self.base
        step = int((size - self.base) * self._expected * 1.1) + 1
        while True:
            place = max(least, boundary_before(self.text, min(cap, start + step), start))
            tokens = self._piece_tokens(start, place)
            if tokens > size:
                return low, low_tokens, place, tokens
            low, low_tokens = place, tokens
            if place >= cap:
                return low, low_tokens, low, low_tokens
            step = max(step + 1, (place - start) * min(4, 1 + size // max(1, tokens)))

    def _piece_tokens(self, start: int, end: int) -> int:
        return self.tokens(start, self._black_end(start, end))

    def _black_end(self, start: int, end: int) -> int:
        return start + len(self.text[start:end].rstrip())

    def _word_end(self, start: int, end: int) -> int:
        """Where the last word ends that white space follows in the second half of the piece; 0 if there is none."""
        for place in range(end, start + (end - start) // 2, -1):
            if place < len(self.text) and self.text[place].isspace():
                return place
        return 0

    # --- neighbours -------------------------------------------------------------------------------------------------------------

    def packed(
        self, units: Sequence[Span], *, overlap: int = 0, prefix: Callable[[int], str] | None = None
    ) -> Iterator[tuple[int, int, str]]:
        """Neighbouring units put together while they fit: the first unit of each pack, the one after its last, and its prefix.

        Each unit is one that fits alone, or cannot be cut. ``overlap`` units of a pack begin the next one too, as many of them as leave
        room for another. ``prefix`` says what is put before a span that begins at a place; it is left away where there is no room.
        """
        # With the white space after it, which is between it and the next.
        nets = [self.net(a, b) for (a, _), (b, _) in pairwise(units)] + [self.net(*unit) for unit in units[-1:]]
        first, done = 0, 0
        while done < len(units):
            before = prefix(units[first][0]) if prefix else ""
            room = self.size - self.base - (self._count(before) - self.base if before else 0)
            last, used = first, 0
            # What units have alone adds up to what they have together, or nearly; so one is tried, and taken back where it does not.
            while last < len(units) and (last == first or used + nets[last] <= room):
                used += nets[last]
                last += 1
            while last - first > 1 and last > done and not self.fits(units[first][0], units[last - 1][1], before):
                last -= 1
            if last <= done:
                # The units that are there already leave no room for another: begin with fewer of them.
                first += 1
                continue
            if before and not self.fits(units[first][0], units[last - 1][1], before):
                before = ""
            yield first, last, before
            done, first = last, max(first + 1, last - overlap) if last < len(units) else last


def _has_space(text: str, start: int, end: int) -> bool:
    return any(map(str.isspace, text[start:end]))
