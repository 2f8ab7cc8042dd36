"""HTML and XHTML: what a reader sees, and what the head says. Nothing that a page refers to is fetched."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

from likewise.ingest.parsing.openxml import split_keywords
from likewise.ingest.parsing.parsed import Limits, Parsed, Unreadable, Writer

__all__ = ["parse_html"]

_UNSEEN = frozenset({"script", "style", "template", "noscript", "svg", "math", "iframe", "object", "head"})
_VOID = frozenset(
    {"br", "hr", "img", "meta", "link", "input", "base", "area", "col", "embed", "source", "track", "wbr"}
)
_BLOCKS = frozenset(
    [
        "address",
        "article",
        "aside",
        "blockquote",
        "body",
        "caption",
        "dd",
        "details",
        "dialog",
        "div",
        "dl",
        "dt",
        "fieldset",
        "figcaption",
        "figure",
        "footer",
        "form",
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "header",
        "hr",
        "legend",
        "li",
        "main",
        "nav",
        "ol",
        "option",
        "p",
        "pre",
        "section",
        "summary",
        "table",
        "tbody",
        "tfoot",
        "thead",
        "title",
        "tr",
        "ul",
    ]
)
_PARAGRAPHS = frozenset(
    ["p", "h1", "h2", "h3", "h4", "h5", "h6", "blockquote", "table", "ul", "ol", "dl", "section", "article", "figure"]
)
_KEYWORDS, _MOST_KEYWORDS = (
    frozenset({"keywords", "news_keywords", "article:tag", "dcterms.subject", "dc.subject"}),
    1_000,
)
_HEADINGS = {f"h{level}": "#" * level + " " for level in range(1, 7)}


class _Reader(HTMLParser):
    """Collects the text; elements that are never closed are what HTML is full of, so only those that hide text are counted."""

    def __init__(self, limits: Limits) -> None:
        super().__init__(convert_charrefs=True)
        self.out = Writer(limits)
        self.said: dict[str, str] = {}
        self.keywords: list[str] = []
        self.language: str | None = None
        self._limits = limits
        self._hidden: list[str] = []
        self._title = False
        self._pre = 0
        self._at_start = True
        self._space = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        if tag == "meta":
            name = (attributes.get("name") or attributes.get("property") or "").lower()
            content = attributes.get("content", "").strip()
            self.said.setdefault(name, content)
            if name in _KEYWORDS and len(self.keywords) < _MOST_KEYWORDS:
                # A tag has an element of its own, and may have commas in it.
                self.keywords.extend([content] if name == "article:tag" else split_keywords(content))
        elif tag == "html":
            self.language = attributes.get("lang") or attributes.get("xml:lang") or None
        elif tag == "title" and "title" not in self.said:
            self._title = True
            self.said["title"] = ""
        elif tag == "body":
            self._hidden.clear()  # a head that was not closed
        if tag in _UNSEEN and tag not in _VOID:
            self._hidden.append(tag)
            if len(self._hidden) > self._limits.depth:
                raise Unreadable(f"its elements are nested more than {self._limits.depth} deep", stage="parsing")
        if self._hidden:
            return
        if tag == "pre":
            self._pre += 1
        if tag == "br":
            self._break("\n")
        elif tag in ("td", "th"):
            self._break("\t")
        elif tag in _BLOCKS:
            self._break("\n\n" if tag in _PARAGRAPHS else "\n")
            if heading := _HEADINGS.get(tag):
                self._write(heading)
        elif tag == "img" and (words := attributes.get("alt", "").strip()):
            self._write(f" {words} ")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        # <script/> and <title/>, as XHTML has them, hold nothing; to HTML they would be open to the end.
        if tag not in _UNSEEN and tag != "title":
            self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        if tag == "title":
            self._title = False
        if tag in self._hidden:
            del self._hidden[self._hidden.index(tag) :]
        elif not self._hidden and tag in _BLOCKS:
            if tag == "pre":
                self._pre = max(0, self._pre - 1)
            self._break("\n\n" if tag in _PARAGRAPHS else "\n")

    def handle_data(self, data: str) -> None:
        if self._title:
            self.said["title"] += data[:1_000]
        elif not self._hidden:
            self._write(data if self._pre else re.sub(r"\s+", " ", data))

    def _write(self, text: str) -> None:
        if not text.strip():
            self._space = self._space or bool(text and not self._at_start)
            return
        if self._space and not text[0].isspace():
            text = " " + text
        self._space = False
        self.out.write(text.lstrip(" ") if self._at_start else text)
        self._at_start = False

    def _break(self, how: str) -> None:
        self._space = False
        self.out.write(how)
        self._at_start = True


def parse_html(text: str, limits: Limits, *, media_type: str = "text/html") -> Parsed:
    """A page's visible text, headings as in Markdown, and the title, author, language, dates and keywords of its head."""
    reader = _Reader(limits)
    try:
        reader.feed(text)
        reader.close()
    except (AssertionError, ValueError) as error:
        raise Unreadable(f"its HTML cannot be understood ({error})", stage="parsing") from error
    lines = re.sub(r"\n{3,}", "\n\n", _drop_empty(reader.out.text())).strip()
    said = reader.said
    created = next(
        (said[k] for k in ("article:published_time", "dcterms.created", "dc.date", "date") if said.get(k)), None
    )
    modified = next(
        (said[k] for k in ("article:modified_time", "dcterms.modified", "last-modified") if said.get(k)), None
    )
    return replace(
        Parsed(text=lines, media_type=media_type),
        title=" ".join(said.get("title", "").split()) or None,
        author=said.get("author") or said.get("dc.creator") or None,
        language=reader.language,
        created=created,
        modified=modified,
        keywords=tuple(dict.fromkeys(word for word in reader.keywords if word)),
    )


def _drop_empty(text: str) -> str:
    """The text without spaces at the ends of its lines; headings of nothing go."""
    kept = (line.rstrip() for line in text.split("\n"))
    return "\n".join("" if line and not line.strip("# \t") else line.lstrip("\t") for line in kept)
