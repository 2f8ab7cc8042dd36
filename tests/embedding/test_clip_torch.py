"""CLIP on PyTorch. What we say to open_clip is tested with a stand-in for it; with the true one where it is installed, which is not asked.

To run the last test: ``pip install 'likewise[clip-torch]'``, three gigabytes, then ``scripts/test tests/embedding/test_clip_torch.py``.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import sys
import warnings
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer

from likewise import ModelNotAvailable, OptionalDependencyError
from likewise.embedding import ClipEmbedder
from likewise.embedding._hub import Loading

from . import tiny_clip
from .reference_pixels import picture
from .tiny_clip import Array

TEXTS = ("a red dress", "", "naïve 日本語 🙂", "the car for the query " * 30, "a")
PICTURES = tuple(picture(*size) for size in ((640, 480), (90, 300), (1, 1)))
VOCABULARY = Tokenizer.from_str(tiny_clip.clip_tokenizer()).get_vocab_size()


class Tensor:
    """What the embedder asks of a tensor."""

    def __init__(self, values: Array) -> None:
        self.values = values

    def to(self, device: str) -> Tensor:
        assert device == "cpu"
        return self

    def float(self) -> Tensor:
        return self

    def cpu(self) -> Tensor:
        return self

    def numpy(self) -> Array:
        return self.values


class Model:
    """The towers of ``tiny_clip`` in NumPy; vectors come out three times as long as they should be."""

    def __init__(self, architecture: str, pretrained: str, device: str) -> None:
        if not Path(pretrained).read_bytes():
            raise ValueError("header too small")
        self.asked = (architecture, device)
        self.evaluating = False

    def eval(self) -> Model:
        self.evaluating = True
        return self

    def encode_text(self, ids: Tensor) -> Tensor:
        assert self.evaluating
        assert ids.values.shape[1:] == (77,)
        weights = tiny_clip.text_weights(VOCABULARY)
        return Tensor(3 * np.stack([tiny_clip.text_vector(row.tolist(), weights) for row in ids.values]))

    def encode_image(self, pixels: Tensor) -> Tensor:
        assert self.evaluating
        weights = tiny_clip.image_weights()
        return Tensor(3 * np.stack([tiny_clip.image_vector(row, weights) for row in pixels.values]))


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> tuple[Loading, list[Model]]:
    """A folder with the files, and the models that open_clip made of them."""
    made: list[Model] = []

    def create_model(architecture: str, *, pretrained: str, device: str) -> Model:
        made.append(Model(architecture, pretrained, device))
        return made[-1]

    torch, open_clip = ModuleType("torch"), ModuleType("open_clip")
    vars(torch).update(
        cuda=SimpleNamespace(is_available=lambda: False),
        inference_mode=contextlib.nullcontext,
        from_numpy=Tensor,
    )
    vars(open_clip).update(create_model=create_model)
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "open_clip", open_clip)
    (tmp_path / "open_clip_model.safetensors").write_bytes(b"weights")
    (tmp_path / "tokenizer.json").write_text(tiny_clip.clip_tokenizer(), "utf-8")
    return Loading(directory=tmp_path), made


@pytest.mark.parametrize(("weights", "architecture"), [("openai", "ViT-B-32-quickgelu"), ("laion2b", "ViT-B-32")])
def test_the_vectors_are_those_of_the_other_runtime(
    stand_in: tuple[Loading, list[Model]], weights: Any, architecture: str
) -> None:
    loading, made = stand_in
    embedder = ClipEmbedder(weights, loading=loading, revision="tiny", runtime="torch")
    other = tiny_clip.embedder("clip" if weights == "openai" else "clip:laion2b")
    assert np.abs(embedder.embed_texts(TEXTS) - other.embed_texts(TEXTS)).max() < 1e-5
    assert np.abs(embedder.embed_images(PICTURES) - other.embed_images(PICTURES)).max() < 1e-5
    assert [model.asked for model in made] == [(architecture, "cpu")], "loaded once, for both"
    embedder.close()
    embedder.warm_up()
    assert len(made) == 2
    assert embedder.card.name == other.card.name
    assert embedder.source.files == ("open_clip_model.safetensors", "tokenizer.json")


def test_weights_that_cannot_be_loaded_are_named(stand_in: tuple[Loading, list[Model]]) -> None:
    loading, _ = stand_in
    assert loading.directory is not None
    (loading.directory / "open_clip_model.safetensors").write_bytes(b"")
    embedder = ClipEmbedder(loading=loading, revision="tiny", runtime="torch")
    with pytest.raises(
        ModelNotAvailable, match=r"open_clip_model\.safetensors of clip cannot be loaded .*header too small"
    ):
        embedder.embed_texts(["a"])


@pytest.mark.parametrize(("missing", "package"), [("torch", "torch"), ("open_clip", "open_clip_torch")])
def test_without_the_packages_the_extra_is_named_before_anything_is_fetched(
    stand_in: object, missing: str, package: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    embedder = ClipEmbedder(loading=Loading(cache_dir=tmp_path / "empty", offline=True), runtime="torch")
    with pytest.raises(OptionalDependencyError, match=r"likewise\[clip-torch\]") as caught:
        embedder.embed_texts(["a"])
    assert caught.value.package == package


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("open_clip") is None, reason="open_clip and PyTorch are not installed")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("weights", "architecture"), [("openai", "ViT-B-32-quickgelu"), ("laion2b", "ViT-B-32")])
def test_both_runtimes_agree_on_a_model_of_full_size(weights: Any, architecture: str, tmp_path: Path) -> None:
    """ViT-B/32 with random weights, saved as open_clip keeps it and exported as the repositories do."""
    torch: Any = importlib.import_module("torch")
    open_clip: Any = importlib.import_module("open_clip")
    save_file: Any = importlib.import_module("safetensors.torch").save_file

    def export(method: str, file: str, example: Any, name: str, output: str) -> None:
        class Tower(torch.nn.Module):  # type: ignore[misc]
            def __init__(self) -> None:
                super().__init__()
                self.model = model

            def forward(self, given: Any) -> Any:
                return getattr(self.model, method)(given)

        (tmp_path / file).parent.mkdir(exist_ok=True)
        axes = {name: {0: "batch"}} if weights == "openai" else None
        options = {"input_names": [name], "output_names": [output], "dynamic_axes": axes, "opset_version": 17}
        torch.onnx.export(Tower().eval(), (example,), str(tmp_path / file), dynamo=False, **options)

    with warnings.catch_warnings():
        logging.disable(logging.WARNING)
        torch.manual_seed(3)
        model = open_clip.create_model(architecture).eval()
        logging.disable(logging.NOTSET)
    save_file(
        {name: values.contiguous() for name, values in model.state_dict().items()},
        tmp_path / "open_clip_model.safetensors",
    )
    fastpath = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        if weights == "openai":
            export(
                "encode_text", "onnx/text_model.onnx", torch.ones(2, 77, dtype=torch.int64), "input_ids", "text_embeds"
            )
            export(
                "encode_image", "onnx/vision_model.onnx", torch.randn(2, 3, 224, 224), "pixel_values", "image_embeds"
            )
        else:
            export("encode_text", "textual/model.onnx", torch.ones(1, 77, dtype=torch.int32), "text", "embedding")
            export("encode_image", "visual/model.onnx", torch.randn(1, 3, 224, 224), "image", "embedding")
    finally:
        torch.backends.mha.set_fastpath_enabled(fastpath)
    for file in ("tokenizer.json", "textual/tokenizer.json"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text(tiny_clip.clip_tokenizer(), "utf-8")
    loading = Loading(directory=tmp_path)
    one = ClipEmbedder(weights, loading=loading, revision="random")
    other = ClipEmbedder(weights, loading=loading, revision="random", runtime="torch")
    # The end of a text must be the greatest token, and here it is 519 of 49,408, so nothing else may be greater.
    for found, expected in (
        (one.embed_texts(TEXTS), other.embed_texts(TEXTS)),
        (one.embed_images(PICTURES), other.embed_images(PICTURES)),
    ):
        assert (found * expected).sum(axis=1).min() > 1 - 1e-4
        assert (expected @ expected.T).min() < 1 - 1e-3, "the rows are not all one"
