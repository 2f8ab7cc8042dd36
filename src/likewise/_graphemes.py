"""Where a text may be cut without cutting what a reader sees as one character.

The rules are those of extended grapheme clusters in Unicode's UAX #29 (https://www.unicode.org/reports/tr29/), on the properties that Python's
``unicodedata`` has. Where these say less than the standard, nothing is cut: after any zero-width joiner, and after any virama.
"""

from __future__ import annotations

import unicodedata

__all__ = ["LONGEST", "boundary_after", "boundary_before"]

#: A grapheme of more code points than these is no writing, and is cut. UAX #15 takes 30 combining marks for more than any language has.
LONGEST = 64

_JOINER = "\u200d"
_VIRAMA = 9  # canonical combining class
_MARKS = frozenset({"Mn", "Me", "Mc"})
#: Extend or SpacingMark in spite of their categories: the non-joiner, the joiner, Thai and Lao am, half-width voice marks.
_EXTENDING = frozenset("\u200c\u200d\u0e33\u0eb3\uff9e\uff9f")
#: Prepend: number signs of Arabic, Syriac and Kaithi, and letters that join the one after them in scripts of India.
_PREPENDED = frozenset(
    "\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\u0d4e\U000110bd\U000110cd\U000111c2\U000111c3\U0001193f"
    "\U00011941\U00011a3a\U00011a84\U00011a85\U00011a86\U00011a87\U00011a88\U00011a89\U00011d46\U00011f02"
)


def boundary_before(text: str, at: int, start: int) -> int:
    """The last boundary in ``start`` < boundary ≤ ``at``, or ``start`` if there is none; ``start`` is a boundary itself."""
    for place in range(at, max(start, at - LONGEST), -1):
        if _is_boundary(text, place, start):
            return place
    return start if at - start <= LONGEST else at


def boundary_after(text: str, at: int, stop: int) -> int:
    """The first boundary after ``at``, which is a boundary itself, and at most ``stop``."""
    for place in range(at + 1, min(stop, at + LONGEST)):
        if _is_boundary(text, place, at):
            return place
    return min(stop, at + LONGEST)


def _is_boundary(text: str, at: int, start: int) -> bool:
    """Whether a grapheme ends before ``at``; what is before ``start`` is not looked at."""
    if at <= start or at >= len(text):
        return True
    before, after = text[at - 1], text[at]
    if before < "\u0300" and after < "\u0300":
        return not (before == "\r" and after == "\n")
    if before in "\r\n":
        return True
    if _extends(after) or before == _JOINER or before in _PREPENDED:
        return False
    if _is_regional(before) and _is_regional(after):
        run = at - 1
        while run > start and _is_regional(text[run - 1]):
            run -= 1
        return (at - run) % 2 == 0
    if unicodedata.combining(before) == _VIRAMA and unicodedata.category(after) == "Lo":
        return False
    return not _in_one_syllable(ord(before), ord(after))


def _extends(character: str) -> bool:
    code = ord(character)
    return (
        unicodedata.category(character) in _MARKS
        or character in _EXTENDING
        or 0x1F3FB <= code <= 0x1F3FF  # skin tones
        or 0xE0020 <= code <= 0xE007F  # tags, of flags
    )


def _is_regional(character: str) -> bool:
    return "\U0001f1e6" <= character <= "\U0001f1ff"


def _in_one_syllable(before: int, after: int) -> bool:
    """GB6 to GB8: Hangul written as its letters."""
    leading = 0x1100 <= before <= 0x115F or 0xA960 <= before <= 0xA97C
    vowel_after = 0x1160 <= after <= 0x11A7 or 0xD7B0 <= after <= 0xD7C6
    trailing_after = 0x11A8 <= after <= 0x11FF or 0xD7CB <= after <= 0xD7FB
    if leading:
        return 0x1100 <= after <= 0x115F or 0xA960 <= after <= 0xA97C or vowel_after or 0xAC00 <= after <= 0xD7A3
    if 0xAC00 <= before <= 0xD7A3:
        return trailing_after or (vowel_after and (before - 0xAC00) % 28 == 0)
    if 0x1160 <= before <= 0x11A7 or 0xD7B0 <= before <= 0xD7C6:
        return vowel_after or trailing_after
    return (0x11A8 <= before <= 0x11FF or 0xD7CB <= before <= 0xD7FB) and trailing_after
