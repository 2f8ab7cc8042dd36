"""Models of fastembed, for real: tiny ones with random weights, read by the library from a folder or its cache."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fastembed
import numpy as np
import pytest
from fastembed.common.model_description import ModelSource, PoolingType
from PIL import Image

import likewise
from likewise import (
    CollectionSpec,
    InvalidArgument,
    ModelNotAvailable,
    OptionalDependencyError,
    Record,
    UnsupportedFeature,
)
from likewise.abc.embedder import ImageInput
from likewise.embedding import FastEmbedEmbedder, load_embedder, register_embedder

from .tiny_onnx import by_hand, save_bert, save_vision

TINY = "tests/tiny-bert"
TEXTS = ["red dress", "", "a b c " * 9, "d", "naïve 日本語", "x" * 30, "red", "b c"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_bert(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module", autouse=True)
def listed() -> None:
    """The tiny model on fastembed's list, which grows only."""
    known = {each["model"] for each in fastembed.TextEmbedding.list_supported_models()}
    if TINY not in known:
        fastembed.TextEmbedding.add_custom_model(
            model=TINY,
            pooling=PoolingType.MEAN,
            normalization=False,
            sources=ModelSource(hf="tests/tiny-bert-files"),
            dim=32,
            model_file="onnx/model.onnx",
            license="apache-2.0",
        )


@pytest.fixture
def tiny(folder: Path) -> Iterator[FastEmbedEmbedder]:
    embedder = FastEmbedEmbedder(TINY, directory=folder, query_prompt="a ", passage_prompt="b ")
    yield embedder
    embedder.close()


def png(colour: str, size: tuple[int, int] = (40, 30), mode: str = "RGB") -> bytes:
    file = io.BytesIO()
    Image.new(mode, size, colour).save(file, "PNG")
    return file.getvalue()


def test_rows_are_those_of_each_text_alone_as_unit_vectors(tiny: FastEmbedEmbedder, folder: Path) -> None:
    rows = tiny.embed_texts(TEXTS)
    assert rows.shape == (len(TEXTS), 32)
    assert rows.dtype == np.float32
    assert np.allclose(rows, [by_hand(folder, text) for text in TEXTS], atol=1e-5)
    assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    assert tiny.embed_texts([]).shape == (0, 32)


def test_queries_and_passages_have_their_prompts(tiny: FastEmbedEmbedder, folder: Path) -> None:
    assert (tiny.card.query_prompt, tiny.card.passage_prompt) == ("a ", "b ")
    assert np.allclose(tiny.embed_queries(["red"])[0], by_hand(folder, "a red"), atol=1e-5)
    assert np.allclose(tiny.embed_passages(["red"])[0], by_hand(folder, "b red"), atol=1e-5)


def test_texts_are_handed_over_by_length(tiny: FastEmbedEmbedder, monkeypatch: pytest.MonkeyPatch) -> None:
    handed: list[list[int]] = []
    model = tiny._library_model("text")
    embed = model.embed

    def watched(texts: list[str], **options: Any) -> object:
        handed.append([len(text) for text in texts])
        return embed(texts, **options)

    monkeypatch.setattr(model, "embed", watched)
    rng = np.random.default_rng(5)
    texts = ["a " * int(n) for n in rng.integers(1, 40, size=60)]
    tiny.embed_texts(texts)
    assert sum(map(len, handed)) == 60
    assert [n for run in handed for n in run] == sorted(len(text) for text in texts)
    assert all(max(run) <= 1.1 * min(run) and len(run) <= 8 for run in handed)


def test_a_card_is_known_without_weights() -> None:
    for name, dimension, modalities, tokens, prompt in (
        ("BAAI/bge-small-en-v1.5", 384, ("text",), 512, "Represent this sentence for searching relevant passages: "),
        ("baai/BGE-small-en-v1.5", 384, ("text",), 512, "Represent this sentence for searching relevant passages: "),
        ("intfloat/multilingual-e5-large", 1_024, ("text",), 512, "query: "),
        ("Qdrant/clip-ViT-B-32-text", 512, ("text", "image"), 77, ""),
        ("Qdrant/clip-ViT-B-32-vision", 512, ("text", "image"), 77, ""),
        ("Qdrant/clip-ViT-B-32", 512, ("text", "image"), 77, ""),
        ("nomic-ai/nomic-embed-text-v1.5", 768, ("text", "image"), 8_192, "search_query: "),
        ("Qdrant/resnet50-onnx", 2_048, ("image",), None, ""),
    ):
        embedder = load_embedder(f"fastembed:{name}")
        assert isinstance(embedder, FastEmbedEmbedder)
        card = embedder.card
        assert (card.name, card.dimension, card.modalities) == (f"fastembed:{name}", dimension, modalities)
        assert (card.max_tokens, card.query_prompt) == (tokens, prompt)
        assert not embedder._loaded


def test_every_model_on_the_list_has_a_card() -> None:
    for each in fastembed.TextEmbedding.list_supported_models():
        card = FastEmbedEmbedder(each["model"]).card
        assert card.dimension == each["dim"]
        assert "text" in card.modalities


def test_a_search_by_its_name(tiny: FastEmbedEmbedder) -> None:
    register_embedder("test-tiny", lambda _: tiny)
    with likewise.connect("memory://") as store:
        things = store.ensure_collection(CollectionSpec("things", embedder="test-tiny"))
        things.upsert([Record(text, content=text) for text in ("red dress", "b c d e f g", "x y z")])
        assert things.search("red dress", top_k=1)[0].id == "red dress"


@pytest.fixture
def clip(tmp_path: Path) -> FastEmbedEmbedder:
    return FastEmbedEmbedder(
        "Qdrant/clip-ViT-B-32",
        directory=save_bert(tmp_path / "text", one_vector=512),
        image_directory=save_vision(tmp_path / "vision", dimension=512),
    )


def test_texts_and_pictures_of_one_model(clip: FastEmbedEmbedder, tmp_path: Path) -> None:
    assert clip.card.modalities == ("text", "image")
    path = tmp_path / "blue.png"
    path.write_bytes(png("blue"))
    pictures: list[ImageInput] = [png("red"), path, Image.new("RGB", (90, 33), "green"), *[png("red")] * 9]
    clip.warm_up()
    rows = clip.embed_images(pictures)
    assert rows.shape == (12, 512)
    assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    assert np.allclose(rows[0], rows[3:], atol=1e-5)
    assert not np.allclose(rows[0], rows[1], atol=1e-3)
    assert clip.embed_texts(["red dress"]).shape == (1, 512)
    assert clip.embed_images([]).shape == (0, 512)
    with pytest.raises(InvalidArgument, match="picture 1"):
        clip.embed_images([png("red"), b"not a picture"])
    with pytest.raises(InvalidArgument, match="pixels"):
        clip.embed_images([png("white", (9_000, 9_000), "1")])


def test_what_a_model_has_no_side_for_is_refused(tiny: FastEmbedEmbedder) -> None:
    with pytest.raises(UnsupportedFeature, match="embedding pictures"):
        tiny.embed_images([png("red")])
    with pytest.raises(UnsupportedFeature, match="embedding texts"):
        FastEmbedEmbedder("Qdrant/resnet50-onnx").embed_texts(["a"])
    for texts, complaint in ((["a", 5], "text 1 is a int"), (["\ud800"], "lone surrogate"), ("abc", "list")):
        with pytest.raises(InvalidArgument, match=complaint):
            tiny.embed_texts(texts)  # type: ignore[arg-type]


def test_an_unknown_name_lists_what_is_near() -> None:
    embedder = load_embedder("fastembed:BAAI/bge-smal-en")
    with pytest.raises(ModelNotAvailable, match=r"does not know.*baai/bge-small-en.* more") as caught:
        _ = embedder.card
    assert caught.value.model == "fastembed:BAAI/bge-smal-en"
    with pytest.raises(ModelNotAvailable, match="what follows the colon"):
        load_embedder("fastembed")
    with pytest.raises(ModelNotAvailable, match="cannot name a model"):
        load_embedder("fastembed:a\nb")
    with pytest.raises(InvalidArgument, match="threads"):
        FastEmbedEmbedder(TINY, threads=0)


def test_offline_what_is_not_in_the_cache_is_not_available(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIKEWISE_MODEL_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("LIKEWISE_MODEL_OFFLINE", "1")
    embedder = load_embedder("fastembed:BAAI/bge-base-en-v1.5")
    with pytest.raises(ModelNotAvailable, match=re.escape(f"tried the cache {tmp_path / 'cache'} only")):
        embedder.embed_texts(["a"])
    monkeypatch.setenv("LIKEWISE_MODEL_OFFLINE", "maybe")
    with pytest.raises(InvalidArgument, match="it is 1 or 0"):
        load_embedder("fastembed:BAAI/bge-large-en-v1.5")


def test_offline_what_is_in_the_cache_is_used(tmp_path: Path, folder: Path) -> None:
    repository = tmp_path / "models--tests--tiny-bert-files"
    save_bert(repository / "snapshots" / ("a" * 40))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("a" * 40)
    embedder = FastEmbedEmbedder.from_variant(TINY, cache_dir=tmp_path, offline=True)
    assert np.allclose(embedder.embed_texts(["red"])[0], by_hand(folder, "red"), atol=1e-5)


def test_fastembeds_own_cache_folder_is_obeyed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LIKEWISE_MODEL_CACHE_DIR", raising=False)
    monkeypatch.setenv("FASTEMBED_CACHE_PATH", str(tmp_path))
    embedder = load_embedder("fastembed:thenlper/gte-base")
    assert isinstance(embedder, FastEmbedEmbedder)
    assert embedder._cache() == tmp_path
    assert "tmp" not in FastEmbedEmbedder(TINY)._cache().parts[:2]


@pytest.mark.parametrize("damage", ["truncated", "no tokenizer", "not json"])
def test_a_damaged_folder_is_named(tmp_path: Path, damage: str) -> None:
    folder = save_bert(tmp_path / "m")
    if damage == "truncated":
        model = folder / "onnx/model.onnx"
        model.write_bytes(model.read_bytes()[:5_000])
    elif damage == "no tokenizer":
        (folder / "tokenizer.json").unlink()
    else:
        (folder / "tokenizer_config.json").write_text("{")
    with pytest.raises(ModelNotAvailable, match=f"cannot be loaded.*{re.escape(str(folder))}"):
        FastEmbedEmbedder(TINY, directory=folder).embed_texts(["a"])
    with pytest.raises(ModelNotAvailable, match="there is no folder"):
        FastEmbedEmbedder(TINY, directory=tmp_path / "other").embed_texts(["a"])


def test_files_of_another_model_are_noticed(tmp_path: Path) -> None:
    folder = save_bert(tmp_path / "wide", width=64)
    with pytest.raises(ModelNotAvailable, match=r"shape \(1, 64\) where \(1, 32\) is due"):
        FastEmbedEmbedder(TINY, directory=folder).embed_texts(["a"])


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fastembed", None)
    with pytest.raises(OptionalDependencyError, match=r"likewise\[fastembed\]"):
        _ = FastEmbedEmbedder(TINY).card


def test_closing_frees_the_weights_and_using_loads_them_again(tiny: FastEmbedEmbedder) -> None:
    before = tiny.embed_texts(["red"])
    tiny.close()
    assert not tiny._loaded
    assert np.array_equal(tiny.embed_texts(["red"]), before)
