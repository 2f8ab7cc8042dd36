"""What of a passage is a statement: sentences, without headings, questions and marks of layout."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from likewise.search._prompting import read_reply
from likewise.search._statements import statements

PAGE = """\
# Storks

Storks nest on roofs. Do they sing? They clatter
with their bills, e.g. in May.

Feeding
-------

They eat these:

- frogs and mice
- **fish**, mostly [small ones](https://example.org/fish)

| name | nest |
| --- | --- |
| white | chimneys |

```sh
rm storks. Not a statement.
```
Opening hours

1. Open the door. Go in.
> Quoted text is here [7].
***
"""


def test_sentences_are_found_and_nothing_else() -> None:
    assert statements(PAGE) == [
        "Storks nest on roofs.",
        "They clatter with their bills, e.g. in May.",
        "frogs and mice",
        "fish, mostly small ones",
        "Open the door.",
        "Go in.",
        "Quoted text is here (7).",
    ]


@pytest.mark.parametrize(
    ("text", "titles", "expected"),
    [
        ("Red lamp", (), ["Red lamp"]),
        ("| white | chimneys |\n| black | forests |", (), ["white | chimneys", "black | forests"]),
        ("# Only a heading", (), []),
        ("How do I pay?\n\nBy card.", (), ["By card."]),
        ("How do I pay?", (), []),
        ("Yes, we do! And no.\n\nYes, we do!", ("And more",), ["Yes, we do!", "And no.", "Yes, we do!"]),
        ("A title.\n\nA sentence.", ("A title.",), ["A sentence."]),
        ("鸛鳥在屋頂築巢。牠們吃魚。", (), ["鸛鳥在屋頂築巢。", "牠們吃魚。"]),
        ("Setext\n===\nText follows.", (), ["Text follows."]),
        ("", (), []),
        (" \n\n\t", (), []),
    ],
)
def test_what_is_a_statement(text: str, titles: tuple[str, ...], expected: list[str]) -> None:
    assert statements(text, titles=titles) == expected


LONG = 200_000


@pytest.mark.parametrize(
    "part",
    [".", "?", " ", "\n", "*", "[", "[a](", "![", "|", "| ", "> ", "# ", "- ", "`", "_", "a?*", "=\n", "1. ", "a\n"],
)
@pytest.mark.parametrize("end", ["", "x", "x."])
def test_the_time_grows_with_the_length_alone(part: str, end: str) -> None:
    text = part * (LONG // len(part)) + end
    began = time.perf_counter()
    statements(text)
    read_reply(text, 3)
    # Quadratic time is minutes here; linear time is a tenth of a second.
    assert time.perf_counter() - began < 5


@given(st.text(alphabet="ab .?!:#|-*`>[]()1\n=é。", max_size=200))
def test_a_statement_is_one_line_that_says_something_and_looks_like_no_citation(text: str) -> None:
    for statement in statements(text):
        assert statement == " ".join(statement.split())
        assert any(character.isalnum() for character in statement)
        assert "[1]" not in statement
        assert set(statement) <= set(text) | set(" |()")
