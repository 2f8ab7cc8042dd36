"""What a chunk is, and what every chunker keeps to. How a text is cut does not enter here."""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

from likewise.errors import InvalidArgument
from likewise.ingest.chunking._spans import Ruler, Span

__all__ = ["Chunk", "Chunker", "Count", "check_number"]

#: The tokens of a text. Whatever it counts besides (special tokens: what it says of an empty text) is taken off where parts are added up.
Count: TypeAlias = Callable[[str], int]


@dataclass(frozen=True, slots=True)
class Chunk:
    """A part of a document that is embedded and found as one.

    ``text`` is ``document[start:end]``, in characters, without white space around it; ``ordinal`` is its place among the chunks, from 0.
    ``page`` is the page on which it begins, from 1, None where the document has none. ``headings`` are the titles above it, the outermost
    first. ``prefix`` is what is embedded before the text and is not in the document at this place; usually empty. ``tokens`` are those of
    prefix and text together, special ones included if the count includes them.
    """

    text: str
    ordinal: int
    start: int
    end: int
    tokens: int
    page: int | None = None
    headings: tuple[str, ...] = ()
    prefix: str = ""

    @property
    def embedded(self) -> str:
        """What is to be embedded: the prefix, then the text."""
        return self.prefix + self.text


@dataclass(frozen=True, slots=True)
class Cut:
    """What a chunker says of a chunk: where it is, and what is known of it there."""

    span: Span
    prefix: str = ""
    headings: tuple[str, ...] = ()


class Chunker(ABC):
    """Cuts the text of a document into chunks. Chunkers keep nothing between calls, so that threads may share one.

    The same text gives the same chunks, in the order of the text. Every character that is no white space is in a chunk, in exactly one unless
    the chunker has an overlap. No chunk has more than ``size`` tokens, but for a single character that alone has more (a character as
    readers see it: a grapheme of Unicode's UAX #29, which is never cut), nor more than 32 characters for each of these tokens.
    """

    def __init__(self, size: int, *, count: Count) -> None:
        check_number("size", size, least=1)
        self._size = size
        self._count = count

    @property
    def size(self) -> int:
        """The most tokens that a chunk has."""
        return self._size

    @property
    @abstractmethod
    def settings(self) -> str:
        """What tells this chunker's cuts from those of others, as JSON. What counts and embeds is no part of it."""

    @abstractmethod
    def _cuts(self, ruler: Ruler) -> Iterable[Cut]:
        """Where the text is cut, in order."""

    def chunk(self, text: str, *, page_starts: Sequence[int] = ()) -> list[Chunk]:
        """The chunks of a text, in order; none if it is empty or white space.

        ``page_starts`` are the characters at which the pages 1, 2, … begin, in increasing order. ``InvalidArgument`` if they are not, or if
        ``size`` leaves no room for a token beside those that ``count`` finds in an empty text.
        """
        if any(a > b for a, b in pairwise(page_starts)):
            raise InvalidArgument(
                "page_starts is not in increasing order: give the characters at which the pages begin"
            )
        ruler = Ruler(text, self._size, self._count)
        return [
            Chunk(
                text[cut.span[0] : cut.span[1]],
                ordinal,
                *cut.span,
                tokens=ruler.tokens(*cut.span, cut.prefix),
                page=(bisect_right(page_starts, cut.span[0]) or None) if page_starts else None,
                headings=cut.headings,
                prefix=cut.prefix,
            )
            for ordinal, cut in enumerate(self._cuts(ruler))
        ]


def check_number(name: str, value: object, *, least: float, most: float | None = None, whole: bool = True) -> None:
    """``InvalidArgument`` unless the value is a number, a whole one if so asked, within the bounds."""
    kinds = (int,) if whole else (int, float)
    right = isinstance(value, kinds) and not isinstance(value, bool)
    if right and least <= value and (most is None or value <= most):  # type: ignore[operator]
        return
    wanted = "a whole number" if whole else "a number"
    bound = f"of at least {least:,}" if most is None else f"from {least:,} to {most:,}"
    raise InvalidArgument(f"{name} is {value!r}; it must be {wanted} {bound}")
