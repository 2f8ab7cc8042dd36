"""The shipped model, the hashing stand-in and the registry: vectors as promised, bad input named, nothing loaded too early."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import likewise.embedding
from likewise import Embedder, InvalidArgument, ModelNotAvailable
from likewise.embedding import HashingEmbedder, MiniEmbedder, available_models, load_embedder, register_embedder
from likewise.embedding import mini as mini_module
from likewise_demo_data import DIRECTORY

TEXTS = [
    "A bird with a long neck.",
    "",
    "red",
    "A very long description of a vehicle that drives fast on a race track " * 8,
    "naïve 日本語",
]
PICTURES = sorted((DIRECTORY / "images").iterdir())[::30]


@pytest.fixture(scope="module")
def mini() -> Embedder:
    return load_embedder("mini")


@pytest.mark.parametrize("name", ["mini", "mini:conse", "hashing", "hashing:128"])
def test_vectors_have_the_shape_length_and_order_that_the_card_promises(name: str) -> None:
    embedder = load_embedder(name)
    card = embedder.card
    assert card.name == name
    assert card.modalities == ("text", "image")
    for together, one_by_one in (
        (embedder.embed_texts(TEXTS), [embedder.embed_texts([text])[0] for text in TEXTS]),
        (embedder.embed_images(PICTURES), [embedder.embed_images([picture])[0] for picture in PICTURES]),
    ):
        assert together.shape == (len(one_by_one), card.dimension)
        assert together.dtype == np.float32
        assert np.allclose(np.linalg.norm(together, axis=1), 1, atol=1e-3)
        assert (together * np.stack(one_by_one)).sum(axis=1).min() > 1 - 1e-3, "a batch gives what single calls give"
    assert embedder.embed_texts([]).shape == (0, card.dimension)
    assert embedder.embed_images([]).shape == (0, card.dimension)


def test_mini_places_captions_near_their_pictures(mini: Embedder) -> None:
    catalog = json.loads((DIRECTORY / "catalog.json").read_text("utf-8"))
    texts = mini.embed_texts([entry["caption"] for entry in catalog])
    pictures = mini.embed_images([DIRECTORY / entry["image"] for entry in catalog])
    scores = texts @ pictures.T
    ranks = (scores > np.diag(scores)[:, None]).sum(axis=1)
    assert (ranks < 10).mean() > 0.4
    assert (ranks < 1).mean() > 0.15


def test_mini_names_what_it_sees() -> None:
    embedder = load_embedder("mini")
    assert isinstance(embedder, MiniEmbedder)
    (tags,) = embedder.tags([DIRECTORY / "images" / "animals-birds-pink-flamingo.jpg"], top_k=3)
    assert "flamingo" in tags[0][0]
    assert 0.1 < tags[0][1] <= 1
    with pytest.raises(InvalidArgument, match="top_k"):
        embedder.tags([], top_k=0)


@pytest.mark.parametrize("name", ["mini", "hashing"])
@pytest.mark.parametrize(
    ("texts", "complaint"),
    [(["a", 5], "text 1 is a int"), (["\ud800"], "text 0 has a lone surrogate"), ("abc", "list")],
)
def test_what_is_not_text_is_named(name: str, texts: list[str], complaint: str) -> None:
    with pytest.raises(InvalidArgument, match=complaint):
        load_embedder(name).embed_texts(texts)


def test_a_picture_that_cannot_be_read_is_named_by_its_place(mini: Embedder) -> None:
    with pytest.raises(InvalidArgument, match="picture 1"):
        mini.embed_images([PICTURES[0], b"not a picture"])


def test_threads_may_share_an_embedder() -> None:
    embedder = MiniEmbedder()
    expected = load_embedder("mini").embed_texts(TEXTS)
    results: list[np.ndarray[tuple[int, ...], np.dtype[np.float32]]] = []
    threads = [threading.Thread(target=lambda: results.append(embedder.embed_texts(TEXTS))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4
    assert all(np.allclose(result, expected, atol=1e-4) for result in results)


def test_a_damaged_or_missing_file_is_named(tmp_path: Path) -> None:
    directory = tmp_path / "mini"
    shutil.copytree(Path(mini_module.__file__).parent / "models" / "mini", directory)
    encoder = directory / "text_encoder.onnx"
    data = bytearray(encoder.read_bytes())
    data[1000] ^= 1
    encoder.write_bytes(data)
    with pytest.raises(ModelNotAvailable, match=r"text_encoder\.onnx is damaged"):
        MiniEmbedder(directory=directory).embed_texts(["a"])
    encoder.unlink()
    with pytest.raises(ModelNotAvailable, match=r"text_encoder\.onnx cannot be read"):
        MiniEmbedder(directory=directory).embed_texts(["a"])
    assert MiniEmbedder(directory=directory).embed_images([PICTURES[0]]).shape == (1, 384)


def test_closing_frees_the_weights_and_using_loads_them_again() -> None:
    embedder = MiniEmbedder()
    embedder.warm_up()
    before = embedder.embed_texts(["a"])
    embedder.close()
    assert np.array_equal(embedder.embed_texts(["a"]), before)


def test_hashing_is_the_same_everywhere_and_knows_shared_words() -> None:
    embedder = HashingEmbedder(32)
    dress, other, car = embedder.embed_texts(["a red dress", "the red dress", "blue sky"])
    assert dress @ other > dress @ car
    code = "from likewise.embedding import HashingEmbedder as H; print(H(32).embed_texts(['a red dress'])[0].tobytes().hex())"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert shown == dress.tobytes().hex()
    with pytest.raises(InvalidArgument, match="dimension"):
        HashingEmbedder(1)


def test_the_registry_gives_one_object_for_a_name_and_lists_what_it_knows() -> None:
    assert load_embedder("mini") is load_embedder("mini")
    assert {"mini", "hashing"} <= set(available_models())
    for unknown in ("nothing", "mini:other", "hashing:many", ""):
        with pytest.raises(ModelNotAvailable) as caught:
            load_embedder(unknown)
        assert caught.value.model == unknown
    with pytest.raises(ModelNotAvailable, match=r"hashing, .*mini"):
        load_embedder("nothing")


def test_applications_can_register_their_own() -> None:
    register_embedder("test-own", lambda variant: HashingEmbedder(int(variant or 8)))
    assert load_embedder("test-own:16").card.dimension == 16
    register_embedder("test-own", lambda variant: HashingEmbedder(9))
    assert load_embedder("test-own:16").card.dimension == 9
    with pytest.raises(InvalidArgument, match="colon"):
        register_embedder("a:b", HashingEmbedder.from_variant)


def test_importing_loads_no_runtime() -> None:
    code = "import sys, likewise.embedding; print([m for m in ('numpy', 'onnxruntime', 'PIL', 'tokenizers') if m in sys.modules])"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )
    assert likewise.embedding.DEFAULT_MODEL == "mini"


def test_a_factory_may_load_other_models_and_may_fail() -> None:
    register_embedder("test-outer", lambda variant: load_embedder("hashing:24"))
    assert load_embedder("test-outer").card.dimension == 24

    def fails(variant: str) -> Embedder:
        raise ImportError("no runtime")

    register_embedder("test-broken", fails)
    with pytest.raises(ModelNotAvailable, match="no runtime"):
        load_embedder("test-broken")
