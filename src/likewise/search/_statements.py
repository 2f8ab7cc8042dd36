"""The statements of a passage: its sentences without headings, questions and marks of layout. Pure; no model is asked here.

Layout is that of Markdown, which plain texts have by accident: headings, lists, tables, fenced code.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Literal

from likewise._sentences import sentences

__all__ = ["statements"]

_HEADING = re.compile(r"\s{0,3}#{1,6}(\s|$)")
_UNDERLINE = re.compile(r"\s{0,3}(=+|-+)\s*$")
_RULE = re.compile(r"[\s|:*_=+-]*$")
_FENCE = re.compile(r"\s{0,3}(```|~~~)")
_ITEM = re.compile(r"\s*([-*+•]|\d{1,4}[.)])\s+")
_ROW = re.compile(r"\s*\|.*\|\s*$")
_QUOTED = re.compile(r"\s{0,3}>\s?")
#: What ends a sentence, with what may close after it.
_ENDED = re.compile(r"[.!…。！｡؟?？۔।॥:;]+[\"'”’»)\]」』】*_`]*$")
#: A question, or what leads to a list.
_NO_STATEMENT = re.compile(r"[?？؟:：][\"'”’»)\]」』】*_`]*$")
#: Marks within a line: pictures, links, emphasis. What a reader sees of them stays.
_PICTURE = re.compile(r"!\[([^\[\]]*)\]\([^()\s]*\)")
_LINK = re.compile(r"\[([^\[\]]*)\]\([^()\s]*\)")
_STRONG = re.compile(r"\*\*|(?<!\w)__|__(?!\w)")
#: What would be taken for a citation.
_NUMBER = re.compile(r"\[(\d+)\]")
#: A line of its own without an end mark and with no more characters than this is a title, unless it is an item of a list.
_LONGEST_TITLE = 80


def statements(text: str, *, titles: Sequence[str] = ()) -> list[str]:
    """The sentences of a passage, in order, each on one line; ``titles`` are the headings that it is known to stand under.

    Headings, questions, what only leads to a list, tables, rules and fenced code are no statements. Where a passage has nothing else, its lines are, but
    for Markdown's own headings: a product's name, a table of prices.
    """
    known = {_plain(title).casefold() for title in titles}
    found: list[str] = []
    left: list[str] = []
    for block, kind in _blocks(text):
        line = _plain(block)
        if not any(c.isalnum() for c in line) or line.casefold() in known:
            continue
        if kind == "row" or (kind == "text" and len(line) <= _LONGEST_TITLE and not _ENDED.search(line)):
            left.append(line)
            continue
        for start, end in sentences(line, 0, len(line)):
            sentence = line[start:end].strip()
            if any(c.isalnum() for c in sentence) and not _NO_STATEMENT.search(sentence):
                found.append(sentence)
    return found or left


def _plain(text: str) -> str:
    """One line, as a reader sees it."""
    for mark in (_PICTURE, _LINK):
        text = mark.sub(r"\1", text)
    return " ".join(_NUMBER.sub(r"(\1)", _STRONG.sub("", text)).split())


def _blocks(text: str) -> Iterator[tuple[str, Literal["text", "item", "row"]]]:
    """The parts of a passage that a sentence does not reach over: paragraphs, items of lists, rows of tables."""
    lines: list[str] = []
    kind: Literal["text", "item"] = "text"
    fenced = False
    for raw in [*text.splitlines(), ""]:
        if _FENCE.match(raw):
            fenced = not fenced
            raw = ""
        elif fenced:
            continue
        line = _QUOTED.sub("", raw, count=1)
        if len(lines) == 1 and kind == "text" and _UNDERLINE.match(line):
            lines = []
            continue
        item, row, apart = _ITEM.match(line), _ROW.match(line), _HEADING.match(line) or _RULE.match(line)
        if not (item or row or apart):
            lines.append(line)
            continue
        if lines:
            yield "\n".join(lines), kind
        lines, kind = [], "text"
        if row and not apart:
            yield " | ".join(cell.strip() for cell in line.strip().strip("|").split("|")), "row"
        elif item and not apart:
            lines, kind = [line[item.end() :]], "item"
