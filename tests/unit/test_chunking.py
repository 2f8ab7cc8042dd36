"""What every chunker keeps to, on random texts and on unkind ones: nothing is lost, invented or too long."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from likewise import _sentences
from likewise._graphemes import LONGEST, boundary_after
from likewise.embedding import mini
from likewise.embedding.hashing import HashingEmbedder
from likewise.errors import InvalidArgument
from likewise.ingest.chunking import (
    Chunk,
    Chunker,
    Count,
    HeadingChunker,
    SemanticChunker,
    SentenceChunker,
    TokenChunker,
)
from likewise.ingest.chunking._spans import MOST_CHARACTERS

_VOCABULARY = Tokenizer.from_file(str(Path(mini.__file__).parent / "models" / "mini" / "tokenizer.json"))
_VOCABULARY.no_truncation()
_VOCABULARY.no_padding()


def wordpieces(text: str) -> int:
    return len(_VOCABULARY.encode(text).ids)


def words(text: str) -> int:
    return len(text.split())


COUNTS: dict[str, Count] = {
    "wordpieces": wordpieces,
    "words": words,
    "characters": len,
    "bytes and two": lambda text: len(text.encode()) + 2,
}
MAKERS: dict[str, Callable[[int, Count], Chunker]] = {
    "tokens": lambda size, count: TokenChunker(size, count=count),
    "sentences": lambda size, count: SentenceChunker(size, count=count),
    "headings": lambda size, count: HeadingChunker(size, count=count),
    "headings, prefix": lambda size, count: HeadingChunker(size, prefix=True, count=count),
    "semantic": lambda size, count: SemanticChunker(size, embedder=HashingEmbedder(), percentile=60, count=count),
}
OVERLAPPING: dict[str, Callable[[int, Count], Chunker]] = {
    "tokens": lambda size, count: TokenChunker(size, size // 3, count=count),
    "sentences": lambda size, count: SentenceChunker(size, 2, count=count),
}

_PARTS = st.sampled_from(
    [
        *"aZ.!? \t\n\r-=#|`:>",
        "word ",
        "A sentence. ",
        "\r\n",
        "\n\n",
        "# Title\n",
        "## Sub ##\n",
        "Under\n=====\n",
        "```\n",
        "| a | b |\n",
        "|---|---|\n",
        "- item\n",
        "  1. deep\n",
        "<!--",
        "-->",
        "日本語の文。",
        "！\ufe0f",
        "。\u200d。",
        "।\u200d\u200d",
        "e\u0301",
        "\u0301",
        "👩‍👩‍👧",
        "🇩🇪",
        "🇫",
        "👍🏽",
        "שָׁלוֹם ",
        "नमस्ते। ",
        "\u1112\u1161\u11ab",
        "\u00a0",
        "\u2028",
        "\x1c",
        "x" * 40,
    ]
)
TEXTS = st.one_of(
    st.lists(_PARTS, max_size=40).map("".join),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=60),
)


def is_one_grapheme(text: str) -> bool:
    return boundary_after(text, 0, len(text)) == len(text)


def boundaries(text: str) -> set[int]:
    found, place = set(), 0
    while place < len(text):
        place = boundary_after(text, place, len(text))
        found.add(place)
    return found


def check(text: str, chunks: list[Chunk], size: int, count: Count) -> None:
    """What holds with an overlap and without."""
    for ordinal, chunk in enumerate(chunks):
        assert chunk.ordinal == ordinal
        assert chunk.text == text[chunk.start : chunk.end]
        assert chunk.text
        assert chunk.text == chunk.text.strip()
        assert chunk.embedded == chunk.prefix + chunk.text
        assert chunk.tokens == count(chunk.embedded)
        assert chunk.tokens <= size or (is_one_grapheme(chunk.text) and not chunk.prefix)
        assert len(chunk.text) <= max(size * MOST_CHARACTERS, LONGEST)
    for one, other in pairwise(chunks):
        assert one.start < other.start
        assert one.end < other.end
        assert not text[one.end : other.start].strip()
    covered = set().union(*(range(chunk.start, chunk.end) for chunk in chunks))
    assert all(place in covered for place, character in enumerate(text) if not character.isspace())


@pytest.mark.parametrize("counting", COUNTS)
@pytest.mark.parametrize("maker", MAKERS)
def test_nothing_is_lost_invented_or_too_long(maker: str, counting: str) -> None:
    count = COUNTS[counting]

    @given(TEXTS, st.integers(3, 30))
    def holds(text: str, size: int) -> None:
        chunks = MAKERS[maker](size, count).chunk(text)
        check(text, chunks, size, count)
        assert all(one.end <= other.start for one, other in pairwise(chunks))
        assert {one.end for one, other in pairwise(chunks) if one.end == other.start} <= boundaries(text)
        assert MAKERS[maker](size, count).chunk(text) == chunks

    holds()


@pytest.mark.parametrize("counting", COUNTS)
@pytest.mark.parametrize("maker", OVERLAPPING)
def test_nothing_is_lost_or_too_long_with_an_overlap(maker: str, counting: str) -> None:
    count = COUNTS[counting]

    @given(TEXTS, st.integers(3, 30))
    def holds(text: str, size: int) -> None:
        chunks = OVERLAPPING[maker](size, count).chunk(text)
        check(text, chunks, size, count)
        assert OVERLAPPING[maker](size, count).chunk(text) == chunks

    holds()


# Unkind texts.

HUGE = {
    "one word": "x" * 1_000_000,
    "Chinese": "日本語の文章" * 170_000,
    "words": "a heron waits in shallow water " * 32_000,
    "one mark": "." * 1_000_000,
    "white space": "a" + " " * 1_000_000 + "b",
    "empty lines": "a\n" * 300_000,
    "marks on one letter": "e" + "\u0301" * 200_000,
    "flags": "🇩🇪" * 100_000,
    "number signs": "# " * 300_000,
    "bars": "|-" * 300_000 + "\n" + "|-" * 300_000,
    "open fences": "```\n" * 200_000,
    "open comments": "<!-- \n\n" * 100_000,
}


@pytest.mark.slow
@pytest.mark.parametrize("text", HUGE)
@pytest.mark.parametrize("maker", ["tokens", "sentences", "headings, prefix"])
def test_a_megabyte_takes_time_that_grows_with_its_length_alone(maker: str, text: str) -> None:
    counted = 0

    def count(part: str) -> int:
        nonlocal counted
        counted += len(part)
        return len(part) // 4 + part.count("\n")

    chunker = MAKERS[maker](200, count)
    begun = time.process_time()
    chunks = chunker.chunk(HUGE[text])
    # It takes less than a second; a time that grew with the square of the length would be hours.
    assert time.process_time() - begun < 30
    assert counted < 40 * len(HUGE[text])
    assert "".join("".join(chunk.text.split()) for chunk in chunks) == "".join(HUGE[text].split())


def test_a_word_that_the_vocabulary_does_not_know_is_cut_all_the_same() -> None:
    """WordPiece makes one unknown token of a word of more than a hundred letters, however many."""
    chunks = TokenChunker(10, count=wordpieces).chunk("x" * 5_000)
    assert len(chunks) >= 5_000 // (10 * MOST_CHARACTERS)
    assert all(len(chunk.text) <= 10 * MOST_CHARACTERS for chunk in chunks)


@pytest.mark.parametrize(
    "grapheme",
    [
        "e\u0301\u0323",
        "👩‍👩‍👧‍👦",
        "👍🏽",
        "🇩🇪",
        "\u1112\u1161\u11ab",
        "\u1100\u1161\u11a8",
        "நி",
        "क्षि",
        "שָׁ",
        "1️⃣",
        "กำ",
        "🏴󠁧󠁢󠁥󠁮󠁧󠁿",
        "ｶﾞ",
        "❤️‍🔥",
    ],
)
def test_a_grapheme_is_never_cut(grapheme: str) -> None:
    for maker in MAKERS.values():
        assert [chunk.text for chunk in maker(1, len).chunk(grapheme * 3)] == [grapheme] * 3
    four = TokenChunker(4 * len(grapheme) + 1, count=len).chunk(grapheme * 6)
    assert [chunk.text for chunk in four] == [grapheme * 4, grapheme * 2]


def test_line_ends_of_windows_stay_and_are_not_cut() -> None:
    text = "One.\r\n\r\nTwo.\r\nThree."
    for name, maker in MAKERS.items():
        for size in range(1, 25):
            for chunk in maker(size, len).chunk(text):
                assert text[chunk.start - 1 : chunk.start + 1] != "\r\n", name
                assert text[chunk.end - 1 : chunk.end + 1] != "\r\n", name


@pytest.mark.parametrize("text", ["", " ", "\r\n\t \u2003"])
@pytest.mark.parametrize("maker", MAKERS)
def test_white_space_has_no_chunks(maker: str, text: str) -> None:
    assert MAKERS[maker](5, words).chunk(text) == []


# Each of them.


def test_tokens_fill_what_fits_and_cut_between_words() -> None:
    text = "one two three four five six seven"
    assert [c.text for c in TokenChunker(3, count=words).chunk(text)] == ["one two three", "four five six", "seven"]
    assert [c.text for c in TokenChunker(8, count=len).chunk("a bcdefghijkl mn")] == ["a bcdefg", "hijkl mn"]
    assert [c.text for c in TokenChunker(8, count=len).chunk("abcde fghij klm")] == ["abcde", "fghij", "klm"]


def test_an_overlap_says_the_last_words_again() -> None:
    text = "one two three four five six seven"
    chunks = TokenChunker(4, 2, count=words).chunk(text)
    assert [c.text for c in chunks] == ["one two three four", "three four five six", "five six seven"]
    chinese = TokenChunker(6, 2, count=len).chunk("一二三四五六七八九十")
    assert [c.text for c in chinese] == ["一二三四五六", "五六七八九十"]


def test_special_tokens_are_no_part_of_an_overlap() -> None:
    def count(text: str) -> int:
        return words(text) + 2

    chunks = TokenChunker(6, 2, count=count).chunk("one two three four five six")
    assert [(c.text, c.tokens) for c in chunks] == [("one two three four", 6), ("three four five six", 6)]


def test_real_tokens_fill_a_chunk() -> None:
    """What is left free is less than a word, so that no place is given away."""
    text = " ".join(f"heron{n} waits in shallow water, and watches." for n in range(400))
    chunks = TokenChunker(64, count=wordpieces).chunk(text)
    assert all(chunk.tokens > 60 for chunk in chunks[:-1])


def test_sentences_stay_whole_and_the_last_are_said_again() -> None:
    text = "One is here. Two is here. Three is here. Four is here."
    assert [c.text for c in SentenceChunker(6, count=words).chunk(text)] == [text[:25], text[26:]]
    again = SentenceChunker(6, 1, count=words).chunk(text)
    assert [c.text for c in again] == [text[:25], text[13:40], text[26:]]


def test_fewer_sentences_are_said_again_where_there_is_no_room() -> None:
    text = "One. Two. Three is a long sentence here."
    assert [c.text for c in SentenceChunker(6, 2, count=words).chunk(text)] == [
        "One. Two.",
        "Three is a long sentence here.",
    ]


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("Dr. Smith met J. Doe. He left.", ["Dr. Smith met J. Doe.", "He left."]),
        ("It cost 3.14 euros, e.g. today. Yes!", ["It cost 3.14 euros, e.g. today.", "Yes!"]),
        ('"Stop!" "Why?" (Because.) So', ['"Stop!"', '"Why?"', "(Because.)", "So"]),
        ("Well... perhaps. No.", ["Well...", "perhaps.", "No."]),
        ("寒い。暑い！「何？」はい", ["寒い。", "暑い！", "「何？」", "はい"]),
        ("هل هذا؟ نعم۔ لا", ["هل هذا؟", "نعم۔", "لا"]),
        ("यह है। वह था।", ["यह है।", "वह था।"]),
        ("A title\r\n\r\nThen text", ["A title", "Then text"]),
        ("Version 2.\nnext line. End", ["Version 2.\nnext line.", "End"]),
    ],
)
def test_where_sentences_end(text: str, sentences: list[str]) -> None:
    assert [text[a:b].strip() for a, b in _sentences.sentences(text, 0, len(text))] == sentences


@given(TEXTS)
def test_sentences_are_the_text_and_none_is_empty(text: str) -> None:
    found = list(_sentences.sentences(text, 0, len(text)))
    assert all(start < end for start, end in found)
    assert "".join(text[start:end] for start, end in found) == text


def test_meaning_turns_where_the_subject_does() -> None:
    birds = "The heron waits by the water. The heron waits in the water. The heron waits near the water."
    money = "Interest rates rose at the bank. Interest rates rose at a bank. Interest rates fell at the bank."
    chunks = SemanticChunker(200, embedder=HashingEmbedder(256), percentile=80, count=words).chunk(f"{birds} {money}")
    assert [c.text for c in chunks] == [birds, money]
    whole = SemanticChunker(200, embedder=HashingEmbedder(256), percentile=100, count=words).chunk(f"{birds} {money}")
    assert [c.text for c in whole] == [f"{birds} {money}"]
    small = SemanticChunker(12, embedder=HashingEmbedder(256), percentile=100, count=words).chunk(f"{birds} {money}")
    assert max(c.tokens for c in small) <= 12


def test_a_chunk_has_the_page_on_which_it_begins() -> None:
    text = "one two three four five six"
    chunks = TokenChunker(2, count=words).chunk(text, page_starts=[0, text.index("three"), text.index("six")])
    assert [(c.text, c.page) for c in chunks] == [("one two", 1), ("three four", 2), ("five six", 2)]
    assert {c.page for c in TokenChunker(2, count=words).chunk(text)} == {None}
    with pytest.raises(InvalidArgument, match="not in increasing order"):
        TokenChunker(2, count=words).chunk(text, page_starts=[5, 0])


def test_special_tokens_alone_may_not_fill_a_chunk() -> None:
    with pytest.raises(InvalidArgument, match="make it at least 3"):
        TokenChunker(2, count=wordpieces).chunk("text")
