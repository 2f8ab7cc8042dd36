"""Reads the pages: their fences with the marks before them, their headings, their links. Nothing is run here."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

#: A fence that cannot be run: the comment stands on the line before it and says why.
NOT_RUN = re.compile(r"<!-- not run: (\S.*) -->")
#: A fence that shows what the one before it prints.
OUTPUT = "<!-- output -->"


@dataclass
class Fence:
    """A fenced block: where its first line of code stands (from 1), its language, its code."""

    page: str
    line: int
    language: str
    code: str
    #: Why it is not run, where it says so.
    not_run: str | None = None
    #: What it prints, where the page shows it.
    output: str | None = None

    def __str__(self) -> str:
        return f"{self.page}:{self.line} ({self.language})"


@dataclass
class Page:
    """A page: its fences, and its prose with the fences and comments blanked out, line for line."""

    name: str
    fences: list[Fence] = field(default_factory=list[Fence])
    prose: list[str] = field(default_factory=list[str])

    @property
    def headings(self) -> list[str]:
        """The texts of the headings."""
        return [m[1] for line in self.prose if (m := re.match(r"#{1,6} +(.+?)(?: +#+)?$", line))]

    @property
    def anchors(self) -> set[str]:
        """What a link may name after ``#``: the headings as GitHub names them."""
        seen: Counter[str] = Counter()
        found: set[str] = set()
        for heading in self.headings:
            slug = slug_of(heading)
            found.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
            seen[slug] += 1
        return found

    def links(self) -> Iterator[tuple[int, str]]:
        """(line, target) of each link and picture."""
        text = re.sub(r"`[^`\n]*`", lambda m: "`" * len(m[0]), "\n".join(self.prose))
        for match in re.finditer(r"\]\(([^)\s]+)(?: \"[^\"]*\")?\)", text):
            yield text.count("\n", 0, match.start()) + 1, match[1]

    def code_spans(self) -> Iterator[tuple[int, str]]:
        """(line, text) of each inline code."""
        for number, line in enumerate(self.prose, 1):
            for match in re.finditer(r"`([^`]+)`", line):
                yield number, match[1]


def slug_of(heading: str) -> str:
    """A heading's anchor as GitHub makes it."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").strip().lower()
    return re.sub(r"[^\w\- ]", "", text).replace(" ", "-")


def read(name: str) -> Page:
    """A page, by its path below the checkout."""
    return parse(name, (ROOT / name).read_text(encoding="utf-8"))


def parse(name: str, text: str) -> Page:
    """A page's text, taken apart. ``ValueError`` for a fence that a reader would not see as one, or a mark out of place."""
    page = Page(name)
    inside: list[str] | None = None
    start, language, before = 0, "", ""
    for number, line in enumerate(text.splitlines(), 1):
        if inside is not None:
            page.prose.append("")
            if line == "```":
                _add(page, Fence(name, start, language, "\n".join(inside) + "\n"), before)
                inside, before = None, ""
            else:
                inside.append(line)
        elif match := re.fullmatch(r"```(\w+)", line):
            page.prose.append("")
            inside, start, language = [], number + 1, match[1]
        elif "```" in line or "~~~" in line:
            raise ValueError(f"{name}:{number}: a fence begins a line, with ``` and a language: {line!r}")
        else:
            if (OUTPUT in before or NOT_RUN.match(before)) and inside is None:
                raise ValueError(f"{name}:{number - 1}: the mark {before!r} stands on the line before a fence")
            before = line
            page.prose.append("" if line.startswith("<!--") else line)
    if inside is not None:
        raise ValueError(f"{name}:{start}: the fence is not closed")
    return page


def _add(page: Page, fence: Fence, before: str) -> None:
    if before == OUTPUT:
        if fence.language != "text" or not page.fences or page.fences[-1].output is not None:
            raise ValueError(f"{fence}: output is a text fence after the one that prints it")
        page.fences[-1].output = fence.code
        return
    if match := NOT_RUN.fullmatch(before):
        fence.not_run = match[1]
    page.fences.append(fence)


#: Every page of the documentation, and the pages at the top whose links are checked too.
DOCUMENTATION = ["README.md", *sorted(p.relative_to(ROOT).as_posix() for p in (ROOT / "docs").rglob("*.md"))]
EVERY_PAGE = [*DOCUMENTATION, "ARCHITECTURE.md", "CHANGELOG.md", "AGENTS.md"]
