"""Every fence of README.md and docs/ runs, and prints what the page says it prints."""

from __future__ import annotations

import os
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from .markdown import DOCUMENTATION, Fence, parse, read
from .running import AFTER_THE_DEMO, FOLDERS, GIVEN, NOT_HERE, WITH_DBLINK, database, world

PAGES = {name: read(name) for name in DOCUMENTATION}
RUN = frozenset({"python", "sql", "sh", "json"})
#: Pages that a tool writes have signatures in them, which are no programs.
GENERATED = "docs/reference/"
#: Fences may say of themselves that they are not run. This many do, and a new one is thought about twice.
MOST_NOT_RUN = 2


@pytest.fixture(scope="module")
def demo_database(postgres_server: str) -> Iterator[str]:
    """The name of a database in which ``likewise demo`` has run."""
    with database(postgres_server) as url:
        with world(url) as place:
            place.shell("likewise demo --no-open", "the demo")
        yield urlsplit(url).path.lstrip("/")


def runnable(name: str) -> list[Fence]:
    return [fence for fence in PAGES[name].fences if fence.language in RUN and fence.not_run is None]


#: Pages whose programs take more than a few seconds.
SLOW = {"README.md", "docs/howto/command-line.md", "docs/howto/documents.md"}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in PAGES if runnable(name)]
)
def test_the_fences_of_a_page_run(name: str, postgres_server: str, request: pytest.FixtureRequest) -> None:
    if name in WITH_DBLINK:
        postgres_server = request.getfixturevalue("dblink_server")
    template = request.getfixturevalue("demo_database") if name in AFTER_THE_DEMO else "template0"
    before = dict(os.environ)
    with database(postgres_server, template=template) as url, world(url) as place:
        if name in GIVEN:
            GIVEN[name](place)
        for fence in runnable(name):
            printed = place.run(fence)
            if fence.output is not None:
                assert stripped(printed) == stripped(fence.output), f"{fence} prints something else"
    assert dict(os.environ) == before


def stripped(text: str) -> list[str]:
    return [line.rstrip() for line in text.strip().splitlines()]


@pytest.mark.parametrize("name", PAGES)
def test_every_fence_has_a_language_that_is_known(name: str) -> None:
    quiet = {"text", "py"} if name.startswith(GENERATED) else {"text"}
    for fence in PAGES[name].fences:
        assert fence.language in RUN | quiet, f"{fence}: no test would run this"
        assert fence.output is None or fence.language in RUN, f"{fence}: this prints nothing"


def test_little_is_left_out() -> None:
    opted_out = [f"{fence}: {fence.not_run}" for page in PAGES.values() for fence in page.fences if fence.not_run]
    assert len(opted_out) <= MOST_NOT_RUN, opted_out
    shells = "\n".join(f.code for page in PAGES.values() for f in page.fences if f.language == "sh")
    assert [part for part in NOT_HERE if part not in shells] == [], "these are in no page any more"
    programs = "\n".join(f.code for page in PAGES.values() for f in page.fences if f.language == "python")
    assert [folder for folder in FOLDERS if folder not in programs] == [], "these are in no page any more"
    assert GIVEN.keys() | AFTER_THE_DEMO <= PAGES.keys()


# The reader of pages itself.


def test_marks_belong_to_the_fence_after_them() -> None:
    page = parse(
        "x.md",
        "# A\n\n```python\nprint(1)\n```\n\nIt prints:\n\n<!-- output -->\n```text\n1\n```\n\n"
        "<!-- not run: no server -->\n```sh\nssh x\n```\n",
    )
    assert [(f.line, f.language, f.output, f.not_run) for f in page.fences] == [
        (4, "python", "1\n", None),
        (16, "sh", None, "no server"),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "```\nx\n```\n",
        "  ```sh\n  x\n  ```\n",
        "~~~sh\nx\n~~~\n",
        "```sh\nx\n",
        "<!-- output -->\n```text\n1\n```\n",
        "<!-- not run: later -->\n\n```sh\nx\n```\n",
        "```python\n1\n```\n<!-- output -->\n```json\n1\n```\n",
    ],
)
def test_what_would_escape_the_tests_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"x\.md:\d+"):
        parse("x.md", text)
