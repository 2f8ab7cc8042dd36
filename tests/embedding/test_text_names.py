"""The names of the text models that are downloaded: their cards, and what the registry reads of the environment."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from likewise import Embedder, InvalidArgument, ModelNotAvailable
from likewise.embedding import Loading, MiniLMEmbedder, OnnxTextEmbedder, available_models, load_embedder

CARDS = [
    ("minilm", 384, 256, "Apache-2.0", ""),
    ("bge-small-en", 384, 512, "MIT", "Represent this sentence for searching relevant passages: "),
    ("bge-base-en", 768, 512, "MIT", "Represent this sentence for searching relevant passages: "),
    ("bge-m3", 1024, 8192, "MIT", ""),
]


@pytest.mark.parametrize(("name", "dimension", "max_tokens", "licence", "query_prompt"), CARDS)
def test_cards(name: str, dimension: int, max_tokens: int, licence: str, query_prompt: str) -> None:
    embedder = load_embedder(name)
    card = embedder.card
    assert (card.name, card.dimension, card.max_tokens, card.licence) == (name, dimension, max_tokens, licence)
    assert (card.modalities, card.normalised, card.overlong) == (("text",), True, "cut")
    assert (card.query_prompt, card.passage_prompt) == (query_prompt, "")
    assert name in available_models()
    assert isinstance(embedder, OnnxTextEmbedder)
    assert card.revision == embedder.source.revision
    assert len(card.revision) == 40, "a commit, which cannot move"
    assert set(embedder.source.checksums) == set(embedder.source.files), "every file is known"
    with pytest.raises(ModelNotAvailable, match="no variants"):
        load_embedder(f"{name}:int8")


@pytest.fixture
def fresh() -> Iterator[None]:
    """The registry without what it has made, as it is put back."""
    from likewise.embedding import registry

    before = dict(registry._loaded)
    registry._loaded.clear()
    yield
    registry._loaded.clear()
    registry._loaded.update(before)


def test_the_registry_reads_where_models_are_and_whether_the_network_may_be_used(
    fresh: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from likewise.embedding import registry

    def loading() -> Loading:
        registry._loaded.clear()
        embedder: Embedder = load_embedder("minilm")
        assert isinstance(embedder, MiniLMEmbedder)
        return embedder.loading

    monkeypatch.delenv("LIKEWISE_MODEL_CACHE_DIR", raising=False)
    monkeypatch.delenv("LIKEWISE_MODEL_OFFLINE", raising=False)
    assert loading() == Loading()
    assert loading().cache.parts[-2:] == ("likewise", "models") or "likewise" in loading().cache.parts
    monkeypatch.setenv("LIKEWISE_MODEL_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("LIKEWISE_MODEL_OFFLINE", "1")
    assert loading() == Loading(cache_dir=tmp_path, offline=True)
    with pytest.raises(ModelNotAvailable, match="loading is offline"):
        load_embedder("minilm").embed_texts(["a"])
    monkeypatch.setenv("LIKEWISE_MODEL_OFFLINE", "0")
    assert not loading().offline
    monkeypatch.setenv("LIKEWISE_MODEL_OFFLINE", "perhaps")
    with pytest.raises(InvalidArgument, match="LIKEWISE_MODEL_OFFLINE is 'perhaps'"):
        loading()
