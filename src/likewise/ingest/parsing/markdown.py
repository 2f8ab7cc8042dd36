"""Markdown: the text as it is, and what its front matter says of it: title, author, dates, tags and language.

Front matter is lines between ``---`` at the top, in YAML. A subset is read, in which such heads are written: keys with a word, a quoted
text, or a list, in brackets or in lines that begin with ``-``. What is not understood is passed over, and never an error.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace

from likewise.ingest.parsing.openxml import split_keywords
from likewise.ingest.parsing.parsed import Limits, Parsed, Writer

__all__ = ["parse_markdown"]

_MOST_LINES, _LONGEST = 200, 20_000
_KEY = re.compile(r"([A-Za-z][\w-]{0,60})[ \t]*:(?:[ \t]+(.*))?")
_ITEM = re.compile(r"[ \t]*-[ \t]+(.*)")
#: The values of a list in brackets: quoted, or up to the comma.
_VALUE = re.compile(r'\s*("(?:[^"\\]|\\.)*"|\'(?:[^\']|\'\')*\'|[^,]*)\s*(?:,|$)')
_TITLES, _AUTHORS = ("title",), ("author", "authors")
_CREATED, _MODIFIED = ("date", "created", "published"), ("modified", "updated", "lastmod", "last_modified_at")
_TAGS, _LANGUAGES = ("tags", "keywords", "categories"), ("lang", "language", "locale")


def parse_markdown(text: str, limits: Limits) -> Parsed:
    """The text without its front matter, and what that says; else the title is the first heading of the first level."""
    said, body = _front_matter(text)
    out = Writer(limits)
    out.write(body)
    heads = (line[2:].strip().rstrip("#").strip() for line in body[:_LONGEST].splitlines() if line.startswith("# "))
    tags = [tag for name in _TAGS for tag in said.get(name, ())]
    return replace(
        Parsed(text=body, media_type="text/markdown"),
        title=_first(said, _TITLES) or next((head for head in heads if head), None),
        author=", ".join(name for key in _AUTHORS for name in said.get(key, ())) or None,
        created=_first(said, _CREATED),
        modified=_first(said, _MODIFIED),
        language=_first(said, _LANGUAGES),
        # One text of several words, parted by commas, is what some write for a list.
        keywords=tuple(dict.fromkeys(word for tag in tags for word in split_keywords(tag))),
    )


def _front_matter(text: str) -> tuple[dict[str, list[str]], str]:
    """The keys with their values, in lower case, and the text behind them; nothing, and all of it, where there is no front matter."""
    lines = text[:_LONGEST].splitlines(keepends=True)[:_MOST_LINES]
    if not lines or lines[0].rstrip() != "---":
        return {}, text
    end = next((n for n, line in enumerate(lines[1:], start=1) if line.rstrip() in ("---", "...")), None)
    if end is None:
        return {}, text  # a rule
    said: dict[str, list[str]] = {}
    key = ""
    for line in lines[1:end]:
        line = line.rstrip()
        if (match := _KEY.fullmatch(line)) is not None:
            key = match[1].lower()
            said.setdefault(key, []).extend(_values(match[2] or ""))
        elif key and (item := _ITEM.fullmatch(line)) is not None:
            said[key].append(_value(item[1]))
        elif line.strip() and not line.lstrip().startswith("#") and not line[0].isspace():
            return {}, text  # prose between two rules
    if not said:
        return {}, text
    rest = text[sum(map(len, lines[: end + 1])) :]
    return {name: [value for value in values if value] for name, values in said.items()}, rest.lstrip("\r\n")


def _values(text: str) -> list[str]:
    """What stands behind a key: a list in brackets, or one value; nothing for the beginning of what spans lines."""
    text = text.strip()
    if text.startswith("[") and text.endswith("]"):
        return [_value(match[1]) for match in _VALUE.finditer(text[1:-1])]
    return [] if text[:1] in ("|", ">", "{", "&", "*", "!") else [_value(text)]


def _value(text: str) -> str:
    """A word or text without its quotes, and without the remark behind it; nothing for null."""
    text = text.strip()
    if text.startswith('"'):
        try:
            value, _ = json.JSONDecoder().raw_decode(text)  # of YAML's escapes those that are common
            return str(value).strip()
        except ValueError:
            return text.strip('"')
    if text.startswith("'"):
        match = re.match(r"'((?:[^']|'')*)'", text)
        return match[1].replace("''", "'").strip() if match else text.strip("'")
    text = re.split(r"(?:^|\s)#", text, maxsplit=1)[0].strip()
    return "" if text in ("null", "~") else text


def _first(said: dict[str, list[str]], names: tuple[str, ...]) -> str | None:
    return next((value for name in names for value in said.get(name, ())), None)
