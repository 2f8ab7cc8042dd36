"""The front matter of Markdown says what the document is; what only looks like one is text."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from likewise.ingest import Parsed, parse


def read(text: str) -> Parsed:
    return parse(text.encode(), path=Path("notes.md"))


def test_what_front_matter_says() -> None:
    parsed = read(
        "---\n"
        'title: "On engines: a \\"sketch\\""\n'
        "author: Ada   # Countess\n"
        "date: 2026-01-31\n"
        "updated: 2026-02-01T10:00:00Z\n"
        "lang: en_GB\n"
        "draft: null\n"
        "# a remark: to be passed over\n"
        "tags:\n"
        "  - engines\n"
        "  - 'Ada''s notes'\n"
        "keywords: looms, engines; cards\n"
        "layout:\n"
        "  nested: deeper\n"
        "---\n"
        "\n"
        "# A heading\n\nThe text.\n"
    )
    assert parsed.text == "# A heading\n\nThe text.\n"
    assert (parsed.title, parsed.author, parsed.language) == ('On engines: a "sketch"', "Ada", "en-GB")
    assert (parsed.created, parsed.modified) == ("2026-01-31", "2026-02-01T10:00:00Z")
    assert parsed.keywords == ("engines", "Ada's notes", "looms", "cards")
    assert (parsed.media_type, parsed.language_detected) == ("text/markdown", False)


@pytest.mark.parametrize(
    ("written", "tags"),
    [
        ("[a, 'b c', \"d, e\", f]", ("a", "b c", "d", "e", "f")),
        ("[]", ()),
        ("one", ("one",)),
        ("null", ()),
        ("C#, .NET", ("C#", ".NET")),
        ("one  # a remark", ("one",)),
        ("|\n  a block\n  of lines", ()),
        ("[a, b", ("[a", "b")),
        ("\n- a\n- b", ("a", "b")),
    ],
)
def test_tags_however_they_are_written(written: str, tags: tuple[str, ...]) -> None:
    assert read(f"---\ntags: {written}\n---\nText").keywords == tags


def test_several_authors() -> None:
    assert read("---\nauthors: [Ada, Charles]\n---\nText").author == "Ada, Charles"


@pytest.mark.parametrize(
    "text",
    [
        "---\n\nA rule, and prose below it\n\n---\nand more",
        "---\ntitle: never closed\n\nText",
        "Text\n---\ntitle: a table?\n---\n",
        "---\n---\nText",
        "----\ntitle: four\n----\nText",
    ],
)
def test_what_is_no_front_matter_is_text(text: str) -> None:
    parsed = read(text)
    assert (parsed.text, parsed.title) == (text, None)


def test_only_markdown_has_it_and_the_first_heading_is_a_title_without_it() -> None:
    text = "---\ntitle: T\n---\n# Head #\n"
    assert parse(text.encode(), path=Path("notes.txt")).text == text
    assert read("# Head #\n\nText").title == "Head"
    assert read("---\ntags: x\n---\n# Head\n").title == "Head"


@given(st.text(alphabet="a:-#[]\"'\\ ,|\n\t~", max_size=80))
def test_whatever_stands_there_is_no_error_and_text_is_not_invented(head: str) -> None:
    text = f"---\n{head}\n---\nThe end"
    parsed = read(text)
    assert text.endswith(parsed.text)
    assert parsed.text.endswith("The end")
