"""Rich Text Format: its text, without tables of fonts, styles, pictures and whatever a reader may pass over."""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass, replace

from likewise.ingest.parsing.openxml import split_keywords
from likewise.ingest.parsing.parsed import Limits, Parsed, Unreadable, Writer, tidy

__all__ = ["parse_rtf"]

_TOKEN = re.compile(
    rb"\\([A-Za-z]{1,32})(-?\d{1,10})? ?|\\'([0-9A-Fa-f]{2})|\\([^A-Za-z])|([{}])|[\r\n]+|([^\\{}\r\n]+)", re.DOTALL
)
#: Groups whose text is not the document's.
_HIDDEN = frozenset(
    b"fonttbl colortbl stylesheet listtable listoverridetable revtbl rsidtbl generator pict object objdata themedata colorschememapping "
    b"datastore latentstyles xmlnstbl fldinst bkmkstart bkmkend pntext "
    b"filetbl info annotation atnid atnauthor nonshppict sp listtext".split()
)
_SAID = frozenset(b"title author keywords".split())
_SIGNS = {
    b"par": "\n\n", b"sect": "\n\n", b"page": "\n\n", b"line": "\n", b"row": "\n", b"nestrow": "\n", b"cell": "\t", b"nestcell": "\t", b"tab": "\t",
    b"emdash": "—", b"endash": "–", b"bullet": "•", b"lquote": "‘", b"rquote": "’", b"ldblquote": "“", b"rdblquote": "”", b"emspace": " ", b"enspace": " ",
}  # fmt: skip
#: Windows' numbers of character sets, as fonts have them, and the code pages that they mean.
_CHARSETS = {
    0: "cp1252", 77: "mac_roman", 128: "cp932", 129: "cp949", 134: "gbk", 136: "cp950", 161: "cp1253", 162: "cp1254", 163: "cp1258",
    177: "cp1255", 178: "cp1256", 186: "cp1257", 204: "cp1251", 222: "cp874", 238: "cp1250", 254: "cp437", 255: "cp850",
}  # fmt: skip


@dataclass(slots=True)
class _Group:
    """What holds until the next closing brace."""

    hidden: bool = False
    veiled: bool = False
    skip: int = 1
    encoding: str = ""
    said: bytes = b""


class _Reader:
    """The state of reading: groups, the fonts' encodings, and bytes that wait to be decoded."""

    def __init__(self, limits: Limits) -> None:
        self.out = Writer(limits)
        self.said: dict[bytes, str] = {}
        self._limits = limits
        self._group = _Group()
        self._stack: list[_Group] = []
        self._page = "cp1252"
        self._fonts: dict[int, str] = {}
        self._font = -1
        self._in_fonts = 0
        self._bytes = bytearray()
        self._pass = 0  # characters after \u that old readers show in its place
        self._fresh = False  # directly behind an opening brace or \*
        self._high = 0

    def brace(self, which: bytes) -> None:
        self.flush()
        self._pass = 0
        if which == b"{":
            if len(self._stack) >= self._limits.depth:
                raise Unreadable(f"its groups are nested more than {self._limits.depth} deep", stage="parsing")
            self._stack.append(self._group)
            self._group = replace(self._group)
            self._fresh = True
        elif self._stack:
            if self._in_fonts == len(self._stack):
                self._in_fonts = 0
            self._group = self._stack.pop()

    def word(self, word: bytes, number: int | None) -> None:
        group, fresh = self._group, self._fresh
        self._fresh = False
        if word == b"u" and number is not None:
            self.flush()
            self._unicode(number & 0xFFFF)
            self._pass = group.skip
            return
        if self._pass and word not in (b"uc", b"u"):
            self._pass -= 1
            return
        if word in _SIGNS and not (fresh and word == b"page"):
            self.flush()
            self.text(_SIGNS[word])
        elif word == b"uc":
            group.skip = max(0, min(number if number is not None else 1, 16))
        elif word == b"ansicpg" and number:
            self._page = _known(f"cp{number}", self._page)
        elif word == b"mac":
            self._page = "mac_roman"
        elif word == b"f" and number is not None:
            self.flush()
            self._font = number
            if not self._in_fonts:
                group.encoding = self._fonts.get(number, "")
        elif word == b"fcharset" and self._in_fonts and number is not None:
            self._fonts[self._font] = _CHARSETS.get(number, "")
        elif fresh and word == b"fonttbl":
            self._in_fonts, group.hidden = len(self._stack), True
        elif fresh and word in _SAID:
            group.said, group.hidden = word, True
        elif fresh and word in _HIDDEN:
            group.hidden = True
        elif word in (b"v", b"plain"):
            group.veiled = word == b"v" and number != 0  # hidden characters

    def symbol(self, sign: bytes) -> None:
        if sign == b"*":  # the group is one that a reader may pass over, and we do
            self._group.hidden = True
            return
        self._fresh = False
        if self._pass:
            self._pass -= 1
        elif sign in (b"\\", b"{", b"}"):
            self._bytes += sign
        else:
            self.flush()
            self.text({b"~": "\u00a0", b"_": "-", b"\n": "\n\n", b"\r": "\n\n", b"\t": "\t"}.get(sign, ""))

    def raw(self, data: bytes) -> None:
        self._fresh = False
        passed = min(self._pass, len(data))
        self._pass -= passed
        self._bytes += data[passed:]

    def flush(self) -> None:
        """Decode what waits, together: a character of an East Asian code page is two bytes."""
        if self._bytes:
            data = bytes(self._bytes)
            self._bytes.clear()
            self.text(data.decode(self._group.encoding or self._page, "replace"))

    def text(self, text: str) -> None:
        said = self._group.said
        if said:
            self.said[said] = (self.said.get(said, "") + text)[:10_000]
        elif not self._group.hidden and not self._group.veiled:
            self.out.write(text)

    def _unicode(self, code: int) -> None:
        if 0xD800 <= code < 0xDC00:
            self._high = code
            return
        if 0xDC00 <= code < 0xE000:
            code, self._high = (0x10000 + ((self._high - 0xD800) << 10) + code - 0xDC00 if self._high else 0xFFFD), 0
        self.text(chr(code) if code else "")


def _known(encoding: str, otherwise: str) -> str:
    try:
        return codecs.lookup(encoding).name
    except LookupError:
        return otherwise


def parse_rtf(data: bytes, limits: Limits) -> Parsed:
    """A document in RTF. What follows an error in it is read as far as it goes; ``Unreadable`` where groups nest without end."""
    reader = _Reader(limits)
    position = 0
    while match := _TOKEN.search(data, position):
        position = match.end()
        word, number, code, sign, brace, raw = match.groups()
        if word == b"bin":
            position += max(0, int(number or 0))  # so many bytes of a picture or object, which are no text
        elif word is not None:
            if word != b"u":
                reader.flush()
            reader.word(word, int(number) if number else None)
        elif code is not None:
            reader.raw(bytes([int(code, 16)]))
        elif sign is not None:
            reader.symbol(sign)
        elif brace is not None:
            reader.brace(brace)
        elif raw is not None:
            reader.raw(raw)
    reader.flush()
    said = {name: value.strip() for name, value in reader.said.items()}
    return Parsed(
        text=tidy(reader.out.text()),
        media_type="application/rtf",
        title=said.get(b"title") or None,
        author=said.get(b"author") or None,
        keywords=split_keywords(said.get(b"keywords", "")),
    )
