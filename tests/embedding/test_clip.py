"""CLIP and JinaCLIP with tiny random weights in the true layouts: the vectors that NumPy finds, and faults named."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image
from tokenizers import Tokenizer

from likewise import Embedder, InvalidArgument, ModelNotAvailable
from likewise.embedding import ClipEmbedder, JinaClipEmbedder, available_models, load_embedder, register_embedder
from likewise.embedding._graph import Graph, unit_rows
from likewise.embedding._hub import FromFiles, Loading
from likewise.embedding._onnx import open_session
from likewise.embedding._pixels import Preprocessing

from . import tiny_clip
from .reference_pixels import picture
from .tiny_clip import Array

NAMES = ("clip", "clip:laion2b", "jina-clip-v2", "jina-clip-v2@64")
TEXTS = ("a red dress", "", "Red  DRESS\n!", "naïve 日本語 🙂", "the car for the query " * 30, "a", "red car")
PICTURES = tuple(picture(*size) for size in ((640, 480), (90, 300), (224, 224), (1, 1), (61, 60)))
PREPROCESSING = {
    "clip": Preprocessing(224, "floor"),
    "clip:laion2b": Preprocessing(224, "round"),
    "jina-clip-v2": Preprocessing(512, "round"),
}


def copy_of(name: str, to: Path) -> Path:
    return Path(shutil.copytree(tiny_clip.folder(name), to))


def expected_texts(name: str) -> Array:
    """What NumPy finds, by the tokens of a tokenizer of our own, cut where the model is."""
    family, _, size = name.partition("@")
    if family == "jina-clip-v2":
        tokenizer = Tokenizer.from_str(tiny_clip.jina_tokenizer())
        weights, _ = tiny_clip.jina_weights(tokenizer.get_vocab_size())
        rows = [tiny_clip.mean_text_vector(tokenizer.encode(text).ids, weights) for text in TEXTS]
        return np.stack([tiny_clip.unit(row[: int(size or 1024)]) for row in rows])
    tokenizer = Tokenizer.from_str(tiny_clip.clip_tokenizer())
    weights = tiny_clip.text_weights(tokenizer.get_vocab_size())
    tokens = [tokenizer.encode(text).ids for text in TEXTS]
    return np.stack([tiny_clip.text_vector(ids if len(ids) <= 77 else [*ids[:76], ids[-1]], weights) for ids in tokens])


def expected_pictures(name: str) -> Array:
    family, _, size = name.partition("@")
    weights = tiny_clip.image_weights()
    if family == "jina-clip-v2":
        _, weights = tiny_clip.jina_weights(4)
    rows = [tiny_clip.image_vector(PREPROCESSING[family].pixels(image), weights) for image in PICTURES]
    return np.stack([tiny_clip.unit(row[: int(size)]) if size else row for row in rows])


@pytest.mark.parametrize("name", NAMES)
def test_vectors_are_those_that_numpy_finds(name: str) -> None:
    embedder = tiny_clip.embedder(name)
    assert embedder.card.name == name
    for found, expected in (
        (embedder.embed_texts(TEXTS), expected_texts(name)),
        (embedder.embed_images(PICTURES), expected_pictures(name)),
    ):
        assert found.shape == (len(expected), embedder.card.dimension)
        assert found.dtype == np.float32
        assert np.abs(found - expected).max() < 1e-5
        assert np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
        others = expected @ expected.T
        assert others[~np.eye(len(others), dtype=bool)].min() < 0.99, "the rows are not all one"


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_gives_what_single_calls_give(name: str) -> None:
    embedder = tiny_clip.embedder(name)
    texts = [text for text in TEXTS for _ in range(3)][::-1]
    assert np.allclose(
        embedder.embed_texts(texts), np.concatenate([embedder.embed_texts([t]) for t in texts]), atol=1e-6
    )
    pictures = [*PICTURES, *PICTURES[::-1]]
    assert np.allclose(
        embedder.embed_images(pictures), np.concatenate([embedder.embed_images([p]) for p in pictures]), atol=1e-6
    )
    assert embedder.embed_texts([]).shape == (0, embedder.card.dimension)
    assert embedder.embed_images([]).shape == (0, embedder.card.dimension)


def test_a_text_is_cut_after_77_tokens_and_keeps_its_end(caplog: pytest.LogCaptureFixture) -> None:
    embedder = tiny_clip.embedder("clip")
    assert isinstance(embedder, ClipEmbedder)
    fits = "x " * 75
    embedder.embed_texts([fits])
    assert not caplog.records
    assert embedder.cut_texts == 0
    with caplog.at_level("INFO", logger="likewise.embedding"):
        same = embedder.embed_texts([fits, fits + "y"])
        embedder.embed_texts([fits + "y z"])
    assert np.allclose(same[0], same[1], atol=1e-6)
    assert not np.allclose(same[0], embedder.embed_texts(["x " * 74])[0], atol=1e-3)
    assert embedder.cut_texts == 2
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert caplog.records[0].getMessage() == "1 of 2 texts have more than the 77 tokens of clip, and were cut"


@pytest.mark.parametrize(("name", "most"), [("clip", 77), ("jina-clip-v2", 8192)])
def test_a_text_that_is_too_long_is_refused_by_its_position_if_that_is_wanted(name: str, most: int) -> None:
    given: dict[str, Any] = {
        "loading": Loading(directory=tiny_clip.folder(name)),
        "revision": "tiny",
        "overlong": "refused",
    }
    embedder = ClipEmbedder(**given) if name == "clip" else JinaClipEmbedder(**given)
    assert embedder.card.overlong == "refused"
    assert embedder.embed_texts([" ".join("a" * (most - 2))]).shape[0] == 1
    with pytest.raises(InvalidArgument, match=f"text 1 has more than the {most:,} tokens that {name} takes"):
        embedder.embed_texts(["a", " ".join("a" * (most - 1))])
    for bad in ("pooled", "", None):
        with pytest.raises(InvalidArgument, match="'cut' or 'refused'"):
            ClipEmbedder(overlong=bad)  # type: ignore[arg-type]


def test_a_megabyte_of_text_is_read_no_further_than_it_is_needed() -> None:
    embedder = tiny_clip.embedder("clip")
    long = "a red dress " * 1_000_000
    started = time.process_time()
    found = embedder.embed_texts([long])
    assert time.process_time() - started < 2, "tokenising all twelve megabytes takes many seconds"
    assert np.allclose(found, embedder.embed_texts([long[:1000]]), atol=1e-6)


def test_a_smaller_dimension_is_the_beginning_of_the_whole() -> None:
    whole, cut = (
        tiny_clip.embedder(name).embed_texts(["a red dress"])[0] for name in ("jina-clip-v2", "jina-clip-v2@64")
    )
    assert np.allclose(cut, whole[:64] / np.linalg.norm(whole[:64]), atol=1e-6)
    for dimension in (0, 63, 1025):
        with pytest.raises(InvalidArgument, match="64 to 1,024"):
            JinaClipEmbedder(dimension)


def test_queries_of_jina_clip_carry_the_prompt_of_its_card_and_those_of_clip_none() -> None:
    jina, clip = tiny_clip.embedder("jina-clip-v2"), tiny_clip.embedder("clip")
    prompt = "Represent the query for retrieving evidence documents: "
    assert jina.card.query_prompt == prompt
    assert np.array_equal(jina.embed_queries(["a car"]), jina.embed_texts([prompt + "a car"]))
    assert np.array_equal(jina.embed_passages(["a car"]), jina.embed_texts(["a car"]))
    assert np.array_equal(clip.embed_queries(["a car"]), clip.embed_passages(["a car"]))


# --- graphs of other exports --------------------------------------------------------------------------------------------------------


def test_a_graph_that_wants_a_mask_and_32_bits_is_given_them(tmp_path: Path) -> None:
    """As in Qdrant/clip-ViT-B-32-text: ``attention_mask`` beside ``input_ids``; here it scales the vector, so a wrong one shows."""
    directory = copy_of("clip", tmp_path / "clip")
    vocabulary = tiny_clip.vocabulary_of(tiny_clip.clip_tokenizer())
    net = tiny_clip.Net(tiny_clip.text_weights(vocabulary))
    mask = net("Cast", net("ReduceMin", "attention_mask", axes=[1], keepdims=1), to=onnx.TensorProto.FLOAT)
    found = net("Mul", net.text(net("Cast", "input_ids", to=onnx.TensorProto.INT64)), mask)
    shape = ("batch", "sequence")
    kinds: dict[str, tuple[int, tiny_clip.Shape]]
    kinds = {"input_ids": (onnx.TensorProto.INT32, shape), "attention_mask": (onnx.TensorProto.INT32, shape)}
    tiny_clip.save(directory / "onnx/text_model.onnx", net, kinds, {"sentence_embedding": found})
    assert np.abs(tiny_clip.embedder("clip", directory).embed_texts(TEXTS) - expected_texts("clip")).max() < 1e-5


def test_a_graph_for_three_rows_at_once_is_given_three(tmp_path: Path) -> None:
    directory = copy_of("clip", tmp_path / "clip")
    weights = tiny_clip.image_weights()
    net = tiny_clip.Net(weights)
    kinds: dict[str, tuple[int, tiny_clip.Shape]] = {"pixel_values": (onnx.TensorProto.FLOAT, (3, 3, 224, 224))}
    tiny_clip.save(
        directory / "onnx/vision_model.onnx", net, kinds, {"image_embeds": net.image("pixel_values", weights)}
    )
    embedder = tiny_clip.embedder("clip", directory)
    assert np.abs(embedder.embed_images(PICTURES) - expected_pictures("clip")).max() < 1e-5
    assert embedder.embed_images([]).shape == (0, 512)


def test_a_graph_that_is_another_model_is_told_by_what_it_takes(tmp_path: Path) -> None:
    directory = copy_of("clip", tmp_path / "clip")
    shutil.copy(directory / "onnx/text_model.onnx", directory / "onnx/vision_model.onnx")
    with pytest.raises(
        ModelNotAvailable, match=r"vision_model\.onnx of clip has no output called image_embeds"
    ) as caught:
        tiny_clip.embedder("clip", directory).embed_images(PICTURES)
    assert caught.value.model == "clip"
    shutil.copy(directory / "onnx/text_model.onnx", tmp_path / "other.onnx")
    graph = Graph(open_session(tmp_path / "other.onnx", threads=1, model="m"), "m", "other.onnx")
    with pytest.raises(ModelNotAvailable, match="has no input called pixel_values or image; it has input_ids"):
        graph.input("pixel_values", "image")
    with pytest.raises(ModelNotAvailable, match="takes the inputs input_ids; expected wrong"):
        graph.run("text_embeds", {"wrong": np.zeros((1, 3), np.int64)})
    with pytest.raises(ModelNotAvailable, match=r"other\.onnx of m cannot be run"):
        graph.run("text_embeds", {"input_ids": np.full((1, 3), 10**6)})


def test_weights_that_give_no_numbers_are_told(tmp_path: Path) -> None:
    directory = copy_of("clip", tmp_path / "clip")
    model = onnx.load(str(directory / "onnx/text_model.onnx"))
    for constant in model.graph.initializer:
        if constant.name == "projection":
            constant.CopyFrom(onnx.numpy_helper.from_array(np.full((16, 512), np.nan, np.float32), "projection"))
    onnx.save(model, str(directory / "onnx/text_model.onnx"))
    with pytest.raises(ModelNotAvailable, match="no direction"):
        tiny_clip.embedder("clip", directory).embed_texts(["a"])
    for rows in (np.zeros((2, 4), np.float32), np.array([[1, 0], [np.inf, 0]], np.float32)):
        with pytest.raises(ModelNotAvailable, match="row"):
            unit_rows(rows, 2, model="m")
    with pytest.raises(ModelNotAvailable, match=r"shape \(1, 3\); expected rows of 512"):
        unit_rows(np.ones((1, 3), np.float32), 512, model="m")


# --- files --------------------------------------------------------------------------------------------------------------------------


def test_each_tower_is_opened_when_it_is_needed(tmp_path: Path) -> None:
    directory = copy_of("clip", tmp_path / "clip")
    (directory / "onnx/vision_model.onnx").write_bytes(b"damaged")
    embedder = tiny_clip.embedder("clip", directory)
    assert embedder.embed_texts(["a"]).shape == (1, 512)
    with pytest.raises(ModelNotAvailable, match=r"vision_model\.onnx of clip cannot be opened"):
        embedder.embed_images(PICTURES)
    with pytest.raises(ModelNotAvailable, match=r"vision_model\.onnx"):
        embedder.warm_up()


@pytest.mark.parametrize("name", ["clip", "clip:laion2b", "jina-clip-v2"])
@pytest.mark.parametrize("content", [b"", b"{}", b"\xff\xfe", b'{"model": {"type": "Nothing"}}'])
def test_a_damaged_tokenizer_is_named(name: str, content: bytes, tmp_path: Path) -> None:
    directory = copy_of(name, tmp_path / "model")
    (file,) = directory.rglob("tokenizer.json")
    file.write_bytes(content)
    with pytest.raises(ModelNotAvailable, match=r"tokenizer\.json, the vocabulary of .* cannot be read: it is damaged"):
        tiny_clip.embedder(name, directory).embed_texts(["a"])


@pytest.mark.parametrize("name", ["clip", "clip:laion2b", "jina-clip-v2"])
def test_every_missing_file_is_named(name: str, tmp_path: Path) -> None:
    embedder = tiny_clip.embedder(name)
    assert isinstance(embedder, FromFiles)
    files = [path for path in tiny_clip.folder(name).rglob("*") if path.is_file()]
    assert sorted(embedder.source.files) == sorted(f.relative_to(tiny_clip.folder(name)).as_posix() for f in files)
    for file in embedder.source.files:
        directory = copy_of(name, tmp_path / file.replace("/", "-"))
        (directory / file).unlink()
        with pytest.raises(ModelNotAvailable, match=file.replace(".", r"\.")):
            tiny_clip.embedder(name, directory).warm_up()


def test_other_weights_than_those_of_the_pinned_commit_are_refused() -> None:
    """The checksums of the true weights are known, so tiny ones under the true commit are seen."""
    for weights, name in (("openai", "clip"), ("laion2b", "clip:laion2b")):
        embedder = ClipEmbedder(weights, loading=Loading(directory=tiny_clip.folder(name)))  # type: ignore[arg-type]
        with pytest.raises(ModelNotAvailable, match="SHA-256"):
            embedder.embed_texts(["a"])


def test_without_files_and_network_it_is_said_how_to_get_them(tmp_path: Path) -> None:
    loading = Loading(cache_dir=tmp_path, offline=True)
    for embedder in (ClipEmbedder(loading=loading), JinaClipEmbedder(512, loading=loading)):
        with pytest.raises(ModelNotAvailable, match=f"likewise models pull {embedder.card.name}"):
            embedder.embed_texts(["a"])


def test_closing_frees_the_weights_and_using_loads_them_again() -> None:
    for name in NAMES:
        embedder = tiny_clip.embedder(name)
        embedder.warm_up()
        before = embedder.embed_texts(["a"])
        embedder.close()
        assert np.array_equal(embedder.embed_texts(["a"]), before)


@pytest.mark.parametrize("name", NAMES)
def test_threads_may_share_an_embedder(name: str) -> None:
    embedder = tiny_clip.embedder(name)
    results: list[tuple[Array, Array]] = []

    def both() -> None:
        results.append((embedder.embed_texts(TEXTS), embedder.embed_images(PICTURES[1:])))

    threads = [threading.Thread(target=both) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 3
    for texts, pictures in results:
        assert np.allclose(texts, expected_texts(name), atol=1e-5)
        assert np.allclose(pictures, expected_pictures(name)[1:], atol=1e-5)


# --- names --------------------------------------------------------------------------------------------------------------------------


def test_names_cards_and_licences(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LIKEWISE_MODEL_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("LIKEWISE_MODEL_OFFLINE", "1")
    assert {"clip", "jina-clip-v2"} <= set(available_models())
    expected: Sequence[tuple[str, int, str]] = (
        ("clip", 512, "MIT"),
        ("clip:laion2b", 512, "MIT"),
        ("jina-clip-v2", 1024, "CC-BY-NC-4.0"),
        ("jina-clip-v2@512", 512, "CC-BY-NC-4.0"),
        ("jina-clip-v2@100", 100, "CC-BY-NC-4.0"),
    )
    for name, dimension, licence in expected:
        card = load_embedder(name).card
        assert (card.name, card.dimension, card.licence, card.modalities) == (
            name,
            dimension,
            licence,
            ("text", "image"),
        )
        assert ("non-commercial" in card.notice) == (licence != "MIT")
    for unknown in (
        "clip:other",
        "clip@64",
        "jina-clip-v2:512",
        "jina-clip-v2@",
        "jina-clip-v2@big",
        "jina-clip-v2@64@64",
    ):
        with pytest.raises(ModelNotAvailable) as caught:
            load_embedder(unknown)
        assert caught.value.model == unknown
    with pytest.raises(InvalidArgument, match="64 to 1,024"):
        load_embedder("jina-clip-v2@32")


def test_the_wrong_choice_is_refused_before_anything_is_read() -> None:
    bad: Any
    for bad in ("openclip", "", None):
        with pytest.raises(InvalidArgument, match="openai, laion2b"):
            ClipEmbedder(bad)
        with pytest.raises(InvalidArgument, match="'onnx' or 'torch'"):
            ClipEmbedder(runtime=bad)


def test_a_family_with_an_at_sign_is_replaced_with_its_sizes() -> None:
    def sized(variant: str) -> Embedder:
        return load_embedder(f"hashing:{variant.removeprefix('@') or 8}")

    register_embedder("test-sized", sized)
    assert load_embedder("test-sized@16").card.dimension == 16
    register_embedder("test-sized", lambda variant: load_embedder("hashing:32"))
    assert load_embedder("test-sized@16").card.dimension == 32
    register_embedder("test@home", sized)
    assert load_embedder("test@home").card.dimension == 8


def test_a_small_picture_and_its_enlargement_are_near() -> None:
    embedder = tiny_clip.embedder("clip")
    small = picture(64, 64)
    one, other = embedder.embed_images([small, small.resize((224, 224), Image.Resampling.BICUBIC)])
    assert one @ other > 0.999
