"""Chunks along headings: what is a heading and what only looks like one, what stays whole, and where a chunk says it stands."""

from __future__ import annotations

import pytest

from likewise.errors import InvalidArgument
from likewise.ingest.chunking import Chunk, HeadingChunker


def words(text: str) -> int:
    return len(text.split())


def chunks(text: str, size: int = 1_000, *, prefix: bool = False) -> list[Chunk]:
    return HeadingChunker(size, prefix=prefix, count=words).chunk(text)


def paths(text: str) -> list[tuple[str, ...]]:
    return [chunk.headings for chunk in chunks(text)]


def test_headings_begin_chunks_and_are_their_path() -> None:
    text = (
        "Before.\n\n# Birds\n\nAll.\n\n## Storks\n\nTwo.\n\n### Black\n\nOne.\n\n## Herons\nMany.\n\n# Fish\n\nNone.\n"
    )
    found = chunks(text)
    assert [chunk.headings for chunk in found] == [
        (),
        ("Birds",),
        ("Birds", "Storks"),
        ("Birds", "Storks", "Black"),
        ("Birds", "Herons"),
        ("Fish",),
    ]
    assert [chunk.text for chunk in found][3:5] == ["### Black\n\nOne.", "## Herons\nMany."]


def test_a_heading_with_nothing_but_a_deeper_one_shares_its_chunk() -> None:
    found = chunks("# Birds\n\n## Storks\n\nTwo.\n\n# Empty\n# Fish\n\nNone.")
    assert [(chunk.text, chunk.headings) for chunk in found] == [
        ("# Birds\n\n## Storks\n\nTwo.", ("Birds", "Storks")),
        ("# Empty", ("Empty",)),
        ("# Fish\n\nNone.", ("Fish",)),
    ]


@pytest.mark.parametrize(
    ("line", "title"),
    [
        ("# One", "One"),
        ("   ###### Six ######  ", "Six"),
        ("#\tTab", "Tab"),
        ("## C# ", "C#"),
        ("## C #", "C"),
        ("# a \\#b", "a \\#b"),
        ("Under\n=", "Under"),
        ("Two\nlines\n---", "Two lines"),
        ("Under\r\n-----\r", "Under"),
    ],
)
def test_what_is_a_heading(line: str, title: str) -> None:
    assert paths(f"{line}\ntext") == [(title,)]


@pytest.mark.parametrize(
    "text",
    [
        "####### seven\ntext",
        "#hashtag\ntext",
        "    # code\ntext",
        "```\n# comment\n```\ntext",
        "~~~ sh\n# comment\n```\n# comment\n~~~~\ntext",
        "``` sh\n# never closed\n\n# to the end",
        "- item\n\n  ```sh\n  # comment\n  ```\n\n  # inside an item",
        "- ```sh\n  # comment\n  ```\n- next",
        "1. item\n   # inside an item",
        "<!--\n# hidden\n-->\ntext",
        "---\ntitle: settings\n---\ntext",
        "| a | b |\n|---|---|\n| 1 | 2 |",
        "> quoted\n---\ntext",
        "text\n\n---\n\ntext",
        "> # quoted",
        "- item\n---\n",
    ],
)
def test_what_only_looks_like_a_heading(text: str) -> None:
    (chunk,) = chunks(text)
    assert chunk.headings == ()
    assert chunk.text == text.strip()


@pytest.mark.parametrize(
    "text",
    [
        "```\ncode\n```\n# After\ntext",
        "- item\n\n  more\n\n# After\ntext",
        "- item\n# After\ntext",
        "- ```sh\n  # never closed\n\n# After\ntext",
        "| a |\n|---|\n| 1 |\n# After\ntext",
        "<!-- note -->\n# After\ntext",
        "text ``` x\n# After\ntext",
        "```a`b\n# After\ntext",
        "---\n\n# After\ntext",
    ],
)
def test_a_heading_after_something_else(text: str) -> None:
    assert paths(text) == [(), ("After",)]


TABLE = "| bird | legs |\n| --- | --- |\n| stork | two |\n| heron | two |"
LIST = "- one item here\n- two items here\n  1. nested deep\n\n- three items here"
CODE = "```python\nfirst = 1\n\nsecond = 2\n```"


@pytest.mark.parametrize("block", [TABLE, LIST, CODE])
def test_a_block_is_whole_while_it_fits(block: str) -> None:
    text = f"Some words stand before it, and fill the chunk.\n\n{block}\n\nSome words stand after it."
    found = [chunk.text for chunk in chunks(text, words(block))]
    assert block in found
    # Together with what is before it where there is room.
    assert f"fill the chunk.\n\n{block}" in chunks(text, words(block) + 10)[0].text


@pytest.mark.parametrize("block", [TABLE, LIST, CODE])
def test_a_block_that_does_not_fit_is_cut_between_lines(block: str) -> None:
    found = chunks(block, words(block) - 1)
    assert len(found) > 1
    for chunk in found:
        assert block[: chunk.start].rstrip(" ")[-1:] in ("", "\n")
        assert block[chunk.end : chunk.end + 1] in ("", "\n")


def test_a_long_paragraph_is_cut_between_sentences() -> None:
    text = "# Birds\n\nStorks stand here. Herons wait there."
    assert [chunk.text for chunk in chunks(text, 5)] == ["# Birds\n\nStorks stand here.", "Herons wait there."]


def test_the_prefix_says_the_titles_that_the_text_does_not() -> None:
    text = "# Birds\n\nAll.\n\n## Storks\n\nOne two three four.\n\nFive six seven eight."
    found = chunks(text, 10, prefix=True)
    assert [(chunk.prefix, chunk.text) for chunk in found] == [
        ("", "# Birds\n\nAll."),
        ("Birds\n\n", "## Storks\n\nOne two three four."),
        ("Birds > Storks\n\n", "Five six seven eight."),
    ]
    assert [chunk.tokens for chunk in found] == [3, 7, 7]
    assert found[2].embedded == "Birds > Storks\n\nFive six seven eight."


def test_a_prefix_takes_no_more_than_half() -> None:
    text = "# A very long title of birds\n\nAll.\n\n## Storks\n\nOne two three. Four five six. Seven eight nine."
    found = chunks(text, 8, prefix=True)
    assert found[0].headings == ("A very long title of birds",)
    assert {chunk.prefix for chunk in found[1:]} == {"", "Storks\n\n"}
    assert all(chunk.tokens <= 8 for chunk in found)


def test_a_prefix_that_fits_alone_and_not_before_a_text_is_left_away() -> None:
    """Tokens of two texts need not add up."""

    def count(text: str) -> int:
        return words(text) + (5 if text.startswith("Birds") and words(text) > 1 else 0)

    found = HeadingChunker(6, prefix=True, count=count).chunk("# Birds\n\nOne two three four. Five six seven eight.")
    assert [(chunk.prefix, chunk.text, chunk.tokens) for chunk in found] == [
        ("", "# Birds\n\nOne two three four.", 6),
        ("", "Five six seven eight.", 4),
    ]


def test_prefix_is_yes_or_no() -> None:
    with pytest.raises(InvalidArgument, match="prefix is 'yes'"):
        HeadingChunker(10, prefix="yes", count=words)  # type: ignore[arg-type]
