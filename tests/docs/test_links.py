"""Every link leads somewhere, every file that is named is there, and every page is found from the index."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache

import pytest

from .markdown import DOCUMENTATION, EVERY_PAGE, ROOT, parse, read, slug_of

#: A path below the checkout as pages write it; `<name>` and `*` stand for any name.
PATH = re.compile(r"(?:src|docs|tests|tools|scripts|examples|benchmarks|\.ci)/[\w./*<>-]*")
INDEX = "docs/README.md"


def problems(name: str) -> Iterator[str]:
    """The links of a page that lead nowhere."""
    page = read(name)
    for line, target in page.links():
        if re.match(r"(?:https?|mailto):", target):
            continue
        path, _, anchor = target.partition("#")
        found = (ROOT / name).parent.joinpath(path).resolve() if path else ROOT / name
        if not found.is_relative_to(ROOT):
            yield f"{name}:{line}: {target} leads out of the checkout"
        elif not found.exists():
            yield f"{name}:{line}: {target} is not there"
        elif anchor and (found.suffix != ".md" or anchor not in anchors(found.relative_to(ROOT).as_posix())):
            yield f"{name}:{line}: {target} has no such heading"


@cache
def anchors(name: str) -> set[str]:
    return read(name).anchors


@pytest.mark.parametrize("name", EVERY_PAGE)
def test_links_lead_somewhere(name: str) -> None:
    assert list(problems(name)) == []


@pytest.mark.parametrize("name", EVERY_PAGE)
def test_files_that_are_named_are_there(name: str) -> None:
    absent: list[str] = []
    for line, text in read(name).code_spans():
        for path in PATH.findall(text) if PATH.match(text) else ():
            pattern = re.sub(r"<[^>]*>", "*", path).rstrip("/.")
            if not any(ROOT.glob(pattern)):
                absent.append(f"{name}:{line}: {path}")
    assert absent == []


def test_the_index_lists_every_page() -> None:
    base = (ROOT / INDEX).parent
    linked = {base.joinpath(target.partition("#")[0]).resolve() for _, target in read(INDEX).links()}
    # Decisions are listed by their own index.
    wanted = [n for n in DOCUMENTATION if n != INDEX and not re.match(r"docs/decisions/(?!README)", n)]
    assert [name for name in wanted if (ROOT / name).resolve() not in linked] == []


def test_the_index_of_decisions_lists_every_decision() -> None:
    linked = {target.partition("#")[0] for _, target in read("docs/decisions/README.md").links()}
    here = {p.name for p in (ROOT / "docs" / "decisions").glob("*.md")} - {"README.md"}
    assert here <= linked


@pytest.mark.parametrize(
    ("heading", "anchor"),
    [
        ("From Python", "from-python"),
        ("`likewise sql` and psql", "likewise-sql-and-psql"),
        ("What works, and what does not yet", "what-works-and-what-does-not-yet"),
        ("Who uses it (and [when](x.md))", "who-uses-it-and-when"),
        ("Collection.search_many", "collectionsearch_many"),
    ],
)
def test_anchors_are_github_s(heading: str, anchor: str) -> None:
    assert slug_of(heading) == anchor


def test_links_in_code_are_no_links() -> None:
    page = parse("x.md", "see [a](b.md) and `x[1](2)`\n\n```text\n[c](d.md)\n```\n")
    assert list(page.links()) == [(1, "b.md")]
