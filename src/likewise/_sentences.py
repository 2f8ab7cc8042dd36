"""Where the sentences of a text end, by rules that need no model and no language.

They follow Unicode's UAX #29 (https://www.unicode.org/reports/tr29/#Sentence_Boundaries) where it matters: a full stop before a small letter ends
nothing, an ideographic one needs no space after it. Titles and initials before a full stop are added.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from likewise._graphemes import boundary_after

__all__ = ["sentences"]

_CLOSING = "\"'”’»)\\]」』）】〉》"
#: A run of marks that may end a sentence, with what closes after it; or an empty line. Each run is matched once, so that the time is linear.
_END = re.compile(
    rf"(?P<wide>[。！？｡]++[{_CLOSING}]*+)|(?P<mark>[.!?…؟۔।॥]++[{_CLOSING}]*+)|(?P<gap>(?:\r\n|\n|\r)[ \t\f\v]*+(?:\r\n|\n|\r))"
)
#: What stands before a full stop that ends no sentence: titles, a few that point, and initials.
_SHORT = re.compile(
    r"(?:^|[\s(\"'“‘«])(?:Mr|Mrs|Ms|Dr|Prof|Sr|Jr|St|Mt|Lt|Col|Gen|Rev|Hon|vs|cf|ca|e\.g|i\.e|Fig|No|Nr|Vol|pp|bzw|z\.B|d\.h|[^\W\d_])$"
)
#: So many characters before a full stop are looked at.
_BACK = 8


def sentences(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """The sentences between two places, in order; together they are all that is between them, white space included.

    An empty line ends a sentence, with or without a mark.
    """
    begun = start
    for match in _END.finditer(text, start, end):
        stop = match.end()
        if stop <= begun:
            continue
        if match["mark"] and not _ends(text, match.start(), stop, end):
            continue
        # A mark may have marks of its own, as an exclamation mark that is drawn as a picture.
        stop = boundary_after(text, stop - 1, end)
        yield begun, stop
        begun = stop
    if begun < end:
        yield begun, end


def _ends(text: str, mark: int, stop: int, end: int) -> bool:
    if stop < end and not text[stop].isspace():
        return False
    if text[mark] != "." or text[mark + 1 : mark + 2] == ".":
        return True
    following = stop
    while following < min(end, stop + _BACK) and text[following].isspace():
        following += 1
    if following < end and text[following].islower():
        return False
    return _SHORT.search(text[max(0, mark - _BACK) : mark]) is None
