"""The pipeline of creatives: texts by one model, pictures by another, and errors that say which of the two they are about."""

from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

import likewise
from likewise import BudgetExceeded, Embedder, InvalidArgument, ModelCard, ModelNotAvailable, ModelUnreachable
from likewise.embedding import (
    AsyncEmbeddingPipeline,
    EmbeddingPipeline,
    HashingEmbedder,
    OpenAIEmbedder,
    load_embedder,
    register_embedder,
    registry,
)

from .conftest import KEY
from .openai_server import Server, embeddings, problem, vectors_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

Make = Callable[..., OpenAIEmbedder]


class Pictures(HashingEmbedder):
    """A model for pictures; it remembers the threads that it works in."""

    def __init__(self) -> None:
        super().__init__(32)
        self.threads: list[str] = []

    @property
    def card(self) -> ModelCard:
        return ModelCard("pictures", 32, ("image",))

    def embed_images(self, images: Sequence[Any]) -> NDArray[np.float32]:
        self.threads.append(threading.current_thread().name)
        return super().embed_images(images)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    Image.new("RGB", (20, 10), "red").save(path)
    return path


@pytest.fixture
def registry_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_factories", dict(registry._factories))
    monkeypatch.setattr(registry, "_loaded", dict(registry._loaded))


def test_texts_go_to_openai_and_pictures_do_not(server: Server, photo: Path) -> None:
    server.answer = embeddings(3_072)
    pictures = Pictures()
    with EmbeddingPipeline(KEY, visual=pictures, openai_base_url=server.url) as pipeline:
        text = pipeline.embed_text("a red dress")
        assert text.shape == (3_072,)
        assert text.dtype == np.float32
        assert text.flags.writeable
        assert np.array_equal(text, vectors_of(["a red dress"], 3_072)[0])
        texts = pipeline.embed_texts(["b", "a"])
        assert np.array_equal(texts, vectors_of(["b", "a"], 3_072))
        picture = pipeline.embed_image(photo)
        assert picture.shape == (32,)
        assert picture.dtype == np.float32
        several = pipeline.embed_images([str(photo), photo.read_bytes(), Image.new("RGB", (9, 9), "blue")])
        assert several.shape == (3, 32)
        assert np.array_equal(several[0], picture)
        creative = pipeline.embed_creative("a red dress", str(photo))
        assert sorted(creative) == ["text_embedding", "visual_embedding"]
        assert np.array_equal(creative["text_embedding"], text)
        assert np.array_equal(creative["visual_embedding"], picture)
    assert {seen.body["model"] for seen in server.seen} == {"text-embedding-3-large"}
    assert {seen.headers["authorization"] for seen in server.seen} == {f"Bearer {KEY}"}
    assert KEY not in repr(vars(pipeline))


async def test_the_asynchronous_one_does_the_same_without_blocking(server: Server, photo: Path) -> None:
    server.answer = embeddings(3_072)
    pictures = Pictures()
    async with AsyncEmbeddingPipeline(KEY, visual=pictures, openai_base_url=server.url) as pipeline:
        creative = await pipeline.embed_creative("a red dress", photo)
        assert np.array_equal(creative["text_embedding"], vectors_of(["a red dress"], 3_072)[0])
        assert creative["visual_embedding"].shape == (32,)
        found = await asyncio.gather(*(pipeline.embed_image(photo) for _ in range(20)))
        assert all(np.array_equal(vector, found[0]) for vector in found)
        assert (await pipeline.embed_texts(["a", "b"])).shape == (2, 3_072)
    assert len(set(pictures.threads)) <= 2
    assert all(name.startswith("likewise-model") for name in pictures.threads)
    await pipeline.aclose()


def test_it_works_offline_by_names_and_by_embedders(photo: Path) -> None:
    for text, visual in (("hashing:16", "mini"), (HashingEmbedder(16), load_embedder("mini"))):
        pipeline = EmbeddingPipeline(text=text, visual=visual)
        creative = pipeline.embed_creative("a red dress", photo)
        assert creative["text_embedding"].shape == (16,)
        assert creative["visual_embedding"].shape == (384,)
    assert EmbeddingPipeline(text="hashing", clip_model_name="mini").visual is load_embedder("mini")


def test_nothing_gives_nothing() -> None:
    pipeline = EmbeddingPipeline(text="hashing", visual="hashing:8")
    assert pipeline.embed_texts([]).shape == (0, 64)
    assert pipeline.embed_images([]).shape == (0, 8)


@pytest.mark.usefixtures("registry_of_its_own")
def test_clip_is_looked_up_by_the_name_it_has_on_the_hub(photo: Path) -> None:
    made: list[str] = []

    def clip(variant: str) -> Embedder:
        made.append(variant)
        return Pictures()

    register_embedder("clip", clip)
    pipeline = EmbeddingPipeline(text="hashing")
    assert made == [], "only when it is used"
    assert pipeline.embed_image(photo).shape == (32,)
    assert made == [""]
    other = EmbeddingPipeline(text="hashing", clip_model_name="laion/CLIP-ViT-B-32-laion2B-s34B-b79K")
    assert other.embed_image(photo).shape == (32,)
    assert EmbeddingPipeline(None, "clip:laion2b", text="hashing").visual is other.visual
    assert made == ["", "laion2b"]


@pytest.mark.parametrize("name", ["openai/clip-vit-enormous", "", "../clip", "mini\x00"])
def test_an_unknown_model_for_pictures_is_refused_with_those_there_are(name: str) -> None:
    with pytest.raises(InvalidArgument, match=r"openai/clip-vit-base-patch32.*mini"):
        EmbeddingPipeline(KEY, name)


@pytest.mark.usefixtures("registry_of_its_own")
def test_a_model_that_is_not_there_is_named_when_it_is_needed(photo: Path) -> None:
    def clip(variant: str) -> Embedder:
        raise ValueError("install likewise[models]")

    register_embedder("clip", clip)
    pipeline = EmbeddingPipeline(text="hashing")
    assert pipeline.embed_text("fine").shape == (64,)
    with pytest.raises(ModelNotAvailable, match=r"install likewise\[models\]"):
        pipeline.embed_image(photo)
    with pytest.raises(ModelNotAvailable, match=r"the picture of the creative cannot be embedded: .*install") as caught:
        pipeline.embed_creative("fine", photo)
    assert caught.value.model == "clip"


def test_the_key_of_the_environment_is_the_one_without_another(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelNotAvailable, match="OPENAI_API_KEY"):
        EmbeddingPipeline(visual="mini").embed_text("a")
    monkeypatch.setenv("LIKEWISE_OPENAI_BASE_URL", server.url)
    monkeypatch.setenv("LIKEWISE_OPENAI_API_KEY", "sk-of-the-environment")
    monkeypatch.setattr(registry, "_loaded", {})
    server.answer = embeddings(3_072)
    pipeline = EmbeddingPipeline(visual="mini")
    assert pipeline.embed_text("a").shape == (3_072,)
    pipeline.text.close()
    assert server.seen[-1].headers["authorization"] == "Bearer sk-of-the-environment"


def test_a_failing_half_says_which_it_is(server: Server, photo: Path, tmp_path: Path, embedder_of: Make) -> None:
    damaged = tmp_path / "damaged.jpg"
    Image.new("RGB", (64, 64)).save(damaged)
    damaged.write_bytes(damaged.read_bytes()[:300])
    pipeline = EmbeddingPipeline(text=embedder_of(max_retries=1), visual=Pictures())
    with pytest.raises(InvalidArgument, match=r"^the picture of the creative \(.*damaged\.jpg\) is damaged") as picture:
        pipeline.embed_creative("a red dress", damaged)
    assert picture.value.position == 0
    with pytest.raises(InvalidArgument, match=r"^the picture of the creative .* cannot be read"):
        pipeline.embed_creative("a red dress", tmp_path / "nothing.jpg")
    with pytest.raises(InvalidArgument, match=r"^the text of the creative is empty"):
        pipeline.embed_creative("", photo)
    with pytest.raises(InvalidArgument, match=r"^the text of the creative has a lone surrogate"):
        pipeline.embed_creative("\ud800", photo)
    server.answer = problem(500, "out of order")
    with pytest.raises(ModelUnreachable, match=r"^the text of the creative cannot be embedded: .*out of order") as text:
        pipeline.embed_creative("a red dress", photo)
    assert (text.value.attempts, text.value.retryable) == (2, True)
    careful = EmbeddingPipeline(text=embedder_of(budget=1), visual=Pictures())
    with pytest.raises(BudgetExceeded, match=r"^the text of the creative") as budget:
        careful.embed_creative("a long text " * 50, photo)
    assert budget.value.budget == 1


def test_one_in_place_of_several_is_refused(photo: Path) -> None:
    pipeline = EmbeddingPipeline(text="hashing", visual="hashing")
    wrong: Any
    for wrong in (str(photo), photo, photo.read_bytes(), 5):
        with pytest.raises(InvalidArgument, match="list"):
            pipeline.embed_images(wrong)
    with pytest.raises(InvalidArgument, match="list"):
        pipeline.embed_texts("a text")
    with pytest.raises(InvalidArgument, match="text 1"):
        pipeline.embed_texts(["a", 5])  # type: ignore[list-item]
    with pytest.raises(InvalidArgument, match="picture 1"):
        pipeline.embed_images([photo, b"no picture"])


def test_a_model_that_gives_something_else_is_named(photo: Path) -> None:
    class Odd(Pictures):
        def embed_images(self, images: Sequence[Any]) -> NDArray[np.float32]:
            return np.ones((len(images), 5), np.float32)

    with pytest.raises(ModelNotAvailable, match=r"pictures .*shape \(1, 5\)"):
        EmbeddingPipeline(text="hashing", visual=Odd()).embed_image(photo)


def test_a_picture_of_too_many_pixels_is_not_decoded(tmp_path: Path) -> None:
    out = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(out, "PNG")
    with pytest.raises(InvalidArgument, match="pixels"):
        EmbeddingPipeline(text="hashing", visual="hashing").embed_image(out.getvalue())


def test_embedders_that_were_given_are_left_open(embedder_of: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    given = embedder_of()
    closed: list[bool] = []
    with monkeypatch.context() as patched:
        patched.setattr(given, "close", lambda: closed.append(True))
        with EmbeddingPipeline(text=given, visual="hashing") as pipeline:
            assert pipeline.embed_text("a").shape == (4,)
    assert closed == []


def test_deadlines_are_obeyed(server: Server, photo: Path) -> None:
    server.answer = problem(503, "later", retry_after="5")
    with EmbeddingPipeline(KEY, visual="hashing", openai_base_url=server.url) as pipeline:
        with likewise.deadline(2), pytest.raises(likewise.BackendTimeout, match="the text of the creative"):
            pipeline.embed_creative("a", photo)
