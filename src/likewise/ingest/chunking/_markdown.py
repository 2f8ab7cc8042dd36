"""A Markdown text as blocks: headings, fenced code, tables, lists, and the rest.

Only what matters for cutting is read, by the rules of CommonMark 0.31 (https://spec.commonmark.org/0.31.2/) and, for tables, of GitHub's
(https://github.github.com/gfm/#tables-extension-). Any text is Markdown; nothing is refused, and the time is linear.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["Block", "blocks", "lines"]

_LINE = re.compile(r"[^\r\n]*+(?:\r\n|\n|\r|\Z)")
_ATX = re.compile(r" {0,3}(#{1,6})(?=[ \t]|$)")
_UNDERLINE = re.compile(r" {0,3}(?:(=+)|-+)[ \t]*$")
_FENCE = re.compile(r"( *)(`{3,}|~{3,})(.*)$")
_ITEM = re.compile(r"( {0,3}(?:[-+*]|\d{1,9}[.)]))( {1,4}(?! )|[ \t]|$)")
_DELIMITERS = frozenset("|:- \t")
#: A heading longer than this is no heading; lines longer than this are not looked into.
_LONGEST_LINE = 1_000


@dataclass(frozen=True, slots=True)
class Block:
    """Neighbouring lines that belong together, from the character ``start`` to ``end``; blank lines after them are no part of it.

    ``level`` is that of a heading, 1 to 6, and 0 for every other block. ``by_line`` says that a block that has to be cut is cut between
    lines: rows, items, code.
    """

    start: int
    end: int
    level: int = 0
    title: str = ""
    by_line: bool = False


def lines(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """The lines between two places, their ends included."""
    while start < end:
        match = _LINE.match(text, start, end)
        assert match is not None
        yield match.span()
        start = match.end()


def blocks(text: str) -> Iterator[Block]:
    """The blocks of a text, in order; together they hold every character that is no white space."""
    return _Reader(text).read()


class _Reader:
    def __init__(self, text: str) -> None:
        self._text = text
        self._spans = list(lines(text, 0, len(text)))
        # What is compared with patterns; the end of a very long line decides nothing.
        self._lines = [text[start : min(end, start + _LONGEST_LINE)].rstrip("\r\n") for start, end in self._spans]

    def read(self) -> Iterator[Block]:
        at = self._front_matter()
        if at:
            yield self._block(0, at, by_line=True)
        begun = at
        while at < len(self._lines):
            line = self._lines[at]
            underline = _UNDERLINE.fullmatch(line) if begun < at else None
            if underline and self._may_be_title(begun, at):
                yield self._heading(begun, at + 1, 1 if underline[1] else 2, self._title(begun, at))
                at = begun = at + 1
                continue
            kind_end = self._special(at)
            if kind_end is None and line.strip():
                at += 1
                continue
            if begun < at:
                yield self._block(begun, at)
            if kind_end is None:
                at += 1
            elif atx := _ATX.match(line):
                yield self._heading(at, at + 1, len(atx[1]), _without_closing(line[atx.end() :]))
                at = kind_end
            else:
                yield self._block(at, kind_end, by_line=True)
                at = kind_end
            begun = at
        if begun < at:
            yield self._block(begun, at)

    def _special(self, at: int) -> int | None:
        """The line after the heading, code, comment, table or list that begins at a line; None if none does."""
        line = self._lines[at]
        if self._is_atx(at):
            return at + 1
        if fence := _fence(line, 3):
            return self._closing(at, fence)
        if line.lstrip(" ").startswith("<!--"):
            return self._comment(at)
        if "|" in line and at + 1 < len(self._lines) and _is_delimiter(self._lines[at + 1]):
            return self._table(at)
        if _ITEM.match(line):
            return self._list(at)
        return None

    def _is_atx(self, at: int) -> bool:
        start, end = self._spans[at]
        return end - start <= _LONGEST_LINE and _ATX.match(self._lines[at]) is not None

    def _front_matter(self) -> int:
        """The lines of settings between two lines of dashes at the very beginning, which would pass for an underlined heading."""
        if not self._lines or self._lines[0].rstrip() != "---":
            return 0
        for at, line in enumerate(self._lines[1:], 2):
            if line.rstrip() in ("---", "..."):
                return at
            if not line.strip():
                return 0
        return 0

    def _closing(self, at: int, fence: str, inside: int = 0) -> int:
        """The line after the one that closes a fence: as many of the same character, or more, and nothing else.

        Else the first line that is indented by less than ``inside``, or the end.
        """
        for place in range(at + 1, len(self._lines)):
            line = self._lines[place].strip(" \t")
            if line and _indent(self._lines[place]) < inside:
                return place
            if len(line) >= len(fence) and not line.strip(fence[0]):
                return place + 1
        return len(self._lines)

    def _comment(self, at: int) -> int:
        closed = self._text.find("-->", self._spans[at][0])
        if closed < 0:
            return len(self._lines)
        while self._spans[at][1] <= closed:
            at += 1
        return at + 1

    def _table(self, at: int) -> int:
        at += 2
        while at < len(self._lines) and self._lines[at].strip() and not self._is_atx(at):
            at += 1
        return at

    def _list(self, at: int) -> int:
        """The line after the last of the items, what is indented below them included."""
        inside = 0
        blank = False
        end = at
        while at < len(self._lines):
            line = self._lines[at]
            indent = _indent(line)
            if not line.strip():
                blank = True
                at += 1
                continue
            if item := _ITEM.match(line):
                inside = len(item[1]) + len(item[2] or " ")
                line = line[item.end() :]
            elif indent < inside and (blank or self._is_atx(at) or _fence(line, 3)):
                break
            fence = _fence(line.lstrip(" \t"), 3)
            at = self._closing(at, fence, inside) if fence else at + 1
            end, blank = at, False
        return end

    def _may_be_title(self, first: int, last: int) -> bool:
        """Whether lines are a paragraph, and neither code nor a quotation, which dashes below do not make a heading."""
        ends = self._lines[first], self._lines[last - 1]
        return _indent(ends[0]) < 4 and not any(line.lstrip().startswith(">") for line in ends)

    def _title(self, first: int, last: int) -> str:
        """The text of lines, with one space between them, and no longer than a heading may be."""
        return " ".join(line.strip() for line in self._lines[first:last])[:_LONGEST_LINE]

    def _heading(self, first: int, after: int, level: int, title: str) -> Block:
        return Block(self._spans[first][0], self._spans[after - 1][1], level, title)

    def _block(self, first: int, after: int, *, by_line: bool = False) -> Block:
        return Block(self._spans[first][0], self._spans[after - 1][1], by_line=by_line)


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip(" \t"))


def _without_closing(title: str) -> str:
    """A heading's text without the number signs that may close it."""
    title = title.strip(" \t")
    bare = title.rstrip("#")
    return bare.rstrip(" \t") if not bare or bare[-1] in " \t" else title


def _fence(line: str, most_indent: int) -> str:
    """The characters that open a fence on a line; empty if none do. What follows backticks has no backtick."""
    match = _FENCE.match(line)
    if match is None or len(match[1]) > most_indent or (match[2][0] == "`" and "`" in match[3]):
        return ""
    return match[2]


def _is_delimiter(line: str) -> bool:
    """Whether a line is that below a table's header: dashes, colons and at least one bar."""
    return "|" in line and "-" in line and len(line) < _LONGEST_LINE and _DELIMITERS.issuperset(line)
