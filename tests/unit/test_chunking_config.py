"""How to cut, as a value that is stored: there and back, strict about what it does not know; and ingestion by it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import likewise
from likewise import CollectionSpec
from likewise.abc.embedder import Embedder, ModelCard
from likewise.embedding.hashing import HashingEmbedder
from likewise.embedding.mini import MiniEmbedder
from likewise.errors import InvalidArgument, UnsupportedFeature
from likewise.ingest import ingest
from likewise.ingest.chunking import (
    Chunker,
    ChunkingConfig,
    HeadingChunker,
    HeadingsConfig,
    SemanticChunker,
    SemanticConfig,
    SentenceChunker,
    SentencesConfig,
    TokenChunker,
    TokensConfig,
    from_json,
    make_chunker,
    to_json,
)

from .documents import pdf

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

WRITTEN: list[tuple[ChunkingConfig, dict[str, Any], type[Chunker]]] = [
    (TokensConfig(100, 20), {"kind": "tokens", "size": 100, "overlap": 20}, TokenChunker),
    (SentencesConfig(100, 1), {"kind": "sentences", "size": 100, "overlap_sentences": 1}, SentenceChunker),
    (HeadingsConfig(100, True), {"kind": "headings", "size": 100, "prefix": True}, HeadingChunker),
    (
        SemanticConfig(100, 90.0, 2),
        {"kind": "semantic", "size": 100, "percentile": 90.0, "window": 2},
        SemanticChunker,
    ),
]


@pytest.mark.parametrize(("config", "written", "chunker"), WRITTEN)
def test_there_and_back(config: ChunkingConfig, written: dict[str, Any], chunker: type[Chunker]) -> None:
    assert to_json(config) == written
    assert next(iter(to_json(config))) == "kind"
    assert from_json(json.loads(json.dumps(written))) == config
    made = make_chunker(config, HashingEmbedder())
    assert type(made) is chunker
    assert made.size == 100
    # What a chunker says of itself is what makes it again.
    assert from_json(json.loads(made.settings)) == config


def test_what_is_left_out_has_its_usual_value() -> None:
    assert from_json({"kind": "semantic", "size": 7}) == SemanticConfig(7, 95.0, 1)
    assert from_json({"kind": "semantic", "size": 7, "percentile": 50}) == SemanticConfig(7, 50)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "is an object with a 'kind', not None"),
        (["tokens"], "is an object with a 'kind'"),
        ({}, "'kind' is None; it is one of 'tokens', 'sentences', 'headings', 'semantic'"),
        ({"kind": ["tokens"]}, "it is one of"),
        ({"kind": "pages", "size": 1}, "'kind' is 'pages'"),
        ({"kind": "tokens"}, "lacks 'size'"),
        (
            {"kind": "tokens", "size": 9, "overlap_sentences": 1},
            "unknown key 'overlap_sentences'; its keys are 'size', 'overlap'",
        ),
        ({"kind": "tokens", "size": 9, 3: 1}, "unknown key 3"),
        ({"kind": "tokens", "size": 0}, "size is 0; it must be a whole number of at least 1"),
        ({"kind": "tokens", "size": True}, "size is True; it must be a whole number"),
        ({"kind": "tokens", "size": "9"}, "size is '9'"),
        ({"kind": "tokens", "size": 9.0}, "size is 9.0"),
        ({"kind": "tokens", "size": 9, "overlap": 5}, "overlap is 5, and size 9: it may be half of it, 4, at most"),
        ({"kind": "tokens", "size": 9, "overlap": -1}, "overlap is -1"),
        ({"kind": "sentences", "size": 9, "overlap_sentences": 101}, "from 0 to 100"),
        ({"kind": "headings", "size": 9, "prefix": 1}, "prefix is 1; it must be true or false"),
        ({"kind": "semantic", "size": 9, "percentile": 101}, "percentile is 101; it must be a number from 0 to 100"),
        ({"kind": "semantic", "size": 9, "percentile": float("nan")}, "percentile is nan"),
        ({"kind": "semantic", "size": 9, "window": 0}, "window is 0"),
    ],
)
def test_what_cannot_be_is_named(value: object, message: str) -> None:
    with pytest.raises(InvalidArgument) as error:
        from_json(value)
    assert message in str(error.value)


def test_a_size_that_the_model_would_cut_is_refused() -> None:
    mini = MiniEmbedder()
    assert make_chunker(TokensConfig(128), mini).size == 128
    with pytest.raises(
        InvalidArgument, match="size is 129, and mini reads 128 tokens of a text: make size 128 at most"
    ):
        make_chunker(TokensConfig(129), mini)


def test_no_chunk_of_mini_is_cut_by_it() -> None:
    mini = MiniEmbedder()
    text = "Storks nest on chimneys; herons, unlike them, do not. " * 60
    chunks = make_chunker(SentencesConfig(128), mini).chunk(text)
    assert [chunk.tokens for chunk in chunks] == mini.count_tokens([chunk.text for chunk in chunks])
    assert 100 < max(chunk.tokens for chunk in chunks) <= 128


class Prompted(Embedder):
    """Wants a prompt of two words before passages, and pools what is long."""

    def __init__(self, modality: str = "text") -> None:
        self._card = ModelCard(
            "prompted",
            2,
            ("text",) if modality == "text" else ("image",),
            max_tokens=5,
            overlong="pooled",
            passage_prompt="this passage: ",
        )

    @property
    def card(self) -> ModelCard:
        return self._card

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return [len(text.split()) for text in texts]

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        raise NotImplementedError


def test_the_prompt_counts() -> None:
    chunks = make_chunker(TokensConfig(4), Prompted()).chunk("one two three four")
    assert [(chunk.text, chunk.tokens) for chunk in chunks] == [("one two", 4), ("three four", 4)]
    assert make_chunker(TokensConfig(500), Prompted()).size == 500


def test_a_model_without_texts_sees_no_meaning() -> None:
    with pytest.raises(UnsupportedFeature, match="embedding texts"):
        make_chunker(SemanticConfig(5), Prompted("image"))


# Ingestion.


def test_files_are_cut_by_a_chunker_and_their_records_say_where(tmp_path: Path) -> None:
    text = "# Birds\r\n\r\nStorks stand here. Herons wait there.\r\n\r\n## Fish\r\n\r\nCarp."
    (tmp_path / "birds.md").write_bytes(text.encode())
    chunker = HeadingChunker(5, prefix=True, count=lambda part: len(part.split()))
    with likewise.connect("memory://") as store:
        notes = store.ensure_collection(CollectionSpec("notes", embedder="hashing"))
        report = ingest(notes, [tmp_path], base=tmp_path, chunker=chunker)
        assert (report.stored, report.records, report.failed) == (1, 3, [])
        found = {record.id: record for record in notes.scan()}
        assert [found[f"birds.md#{n}"].content for n in range(3)] == [
            "# Birds\r\n\r\nStorks stand here.",
            "Birds\n\nHerons wait there.",
            "Birds\n\n## Fish\r\n\r\nCarp.",
        ]
        for record in found.values():
            start, end = int(record.metadata["start"]), int(record.metadata["end"])
            assert str(record.metadata.get("prefix", "")) + text[start:end] == record.content
            assert record.metadata["chunker"] == chunker.settings
        assert found["birds.md#2"].metadata["headings"] == ["Birds", "Fish"]
        assert found["birds.md#1"].metadata["tokens"] == 4
        assert "prefix" not in found["birds.md#0"].metadata
        assert "page" not in found["birds.md#0"].metadata


def test_a_file_is_cut_again_when_the_settings_have_changed(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one two three four five six")

    def by(size: int, overlap: int = 0) -> Chunker:
        return TokenChunker(size, overlap, count=lambda part: len(part.split()))

    with likewise.connect("memory://") as store:
        notes = store.ensure_collection(CollectionSpec("notes", embedder="hashing"))
        for chunker, stored, count in (
            (by(4), 1, 2),
            (by(4), 0, 2),
            (by(3), 1, 2),
            (by(2), 1, 3),
            (by(6), 1, 1),
            (None, 1, 1),
            (None, 0, 1),
            (by(6), 1, 1),
        ):
            report = ingest(notes, [tmp_path], base=tmp_path, chunker=chunker)
            assert (report.stored, report.unchanged, notes.count()) == (stored, 1 - stored, count)


def test_the_chunks_of_a_pdf_know_their_pages(tmp_path: Path) -> None:
    (tmp_path / "two.pdf").write_bytes(pdf("A heron waits in the shallow water.", "The night train leaves at ten."))
    with likewise.connect("memory://") as store:
        notes = store.ensure_collection(CollectionSpec("notes", embedder="hashing:32"))
        model = HashingEmbedder(32)
        report = ingest(notes, [tmp_path], base=tmp_path, chunker=make_chunker(TokensConfig(8), model))
        records = list(notes.scan(include=("metadata", "content")))
    assert report.failed == []
    pages = {str(r.metadata["page"]): r.content or "" for r in records}
    assert "heron" in pages["1"]
    assert any("train" in (r.content or "") and r.metadata["page"] == 2 for r in records)
