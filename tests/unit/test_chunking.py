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
from likewise.ingest.chunking._graphemes import LONGEST, boundary_after
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
