"""Models of sentence-transformers, with a stand-in for the library: what it is told, and what becomes of its answers.

The library itself is too large for every test run: ``tests/models_torch`` has the tests with it.
"""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from likewise import InvalidArgument, ModelNotAvailable, OptionalDependencyError, UnsupportedFeature
from likewise.embedding import SentenceTransformersEmbedder, load_embedder
from likewise.embedding import sentence_transformers as module
from likewise.embedding.sentence_transformers import BATCH, BATCH_ON_GPU, PASSES, precision

from .saved import save_files

NAME = "owner/model"


class Tensor:
    """An array that says whether it was made float32 and brought to the processor before it was read."""

    def __init__(self, rows: NDArray[np.float64], done: tuple[str, ...] = ()) -> None:
        self._rows, self._done = rows, done

    def float(self) -> Tensor:
        return Tensor(self._rows, (*self._done, "float"))

    def cpu(self) -> Tensor:
        return Tensor(self._rows, (*self._done, "cpu"))

    def numpy(self) -> NDArray[np.float64]:
        assert self._done == ("float", "cpu"), "torch has no numpy for bfloat16, or for a GPU"
        return self._rows


@dataclass
class Library:
    """What the stand-in knows, and what it was told."""

    width: int = 6
    device: str = "cpu"
    modalities: tuple[str, ...] = ("text",)
    prompts: dict[str, str] = field(default_factory=lambda: {"query": "q: ", "passage": "p: ", "document": ""})
    default_prompt_name: str | None = None
    fails: Exception | None = None
    knows_words: float = 1.0
    made: list[dict[str, Any]] = field(default_factory=list)
    calls: list[tuple[str, list[Any], dict[str, Any]]] = field(default_factory=list)
    dtypes: list[str] = field(default_factory=list)

    def module(self) -> ModuleType:
        library = self

        class SentenceTransformer:
            max_seq_length = 77
            device = library.device
            modalities = library.modalities
            prompts = library.prompts
            default_prompt_name = library.default_prompt_name

            def __init__(self, path: str, **options: Any) -> None:
                library.made.append({"path": path, **options})
                if library.fails is not None:
                    raise library.fails

            def __getitem__(self, place: int) -> object:
                return self

            def to(self, dtype: str) -> SentenceTransformer:
                library.dtypes.append(dtype)
                return self

            def eval(self) -> SentenceTransformer:
                return self

            def get_embedding_dimension(self) -> int:
                return library.width

            def _encode(self, method: str, inputs: list[Any], options: dict[str, Any]) -> Tensor:
                if inputs != list(module.PROBE):
                    library.calls.append((method, inputs, options))
                first = [float(len(str(each))) * library.knows_words for each in inputs]
                rows = [[each, *[1.0] * (library.width - 1)] for each in first]
                return Tensor(np.array(rows).reshape(len(inputs), library.width))

            def encode(self, inputs: list[Any], **options: Any) -> Tensor:
                return self._encode("encode", inputs, options)

            def encode_query(self, inputs: list[Any], **options: Any) -> Tensor:
                return self._encode("encode_query", inputs, options)

            def encode_document(self, inputs: list[Any], **options: Any) -> Tensor:
                return self._encode("encode_document", inputs, options)

        made = ModuleType("sentence_transformers")
        made.SentenceTransformer = SentenceTransformer  # type: ignore[attr-defined]
        return made


def torch(*, bf16: bool = False, cuda_bf16: bool = False) -> SimpleNamespace:
    return SimpleNamespace(
        float32="float32",
        bfloat16="bfloat16",
        cpu=SimpleNamespace(_is_avx512_bf16_supported=lambda: bf16),
        cuda=SimpleNamespace(is_bf16_supported=lambda: cuda_bf16),
    )


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Library]:
    """Puts the stand-in where the library would be; no model is in a cache."""
    monkeypatch.setenv("LIKEWISE_MODEL_CACHE_DIR", str(tmp_path / "cache"))

    def install(bf16: bool = False, **known: Any) -> Library:
        library = Library(**known)
        monkeypatch.setitem(sys.modules, "sentence_transformers", library.module())
        monkeypatch.setitem(sys.modules, "torch", torch(bf16=bf16))
        return library

    return install


def fresh(name: str = NAME, **options: Any) -> SentenceTransformersEmbedder:
    return SentenceTransformersEmbedder(name, cache_dir=Path("/nowhere"), **options)


def test_rows_come_back_as_unit_vectors_in_the_order_given(installed: Callable[..., Library]) -> None:
    library = installed()
    texts = ["x" * n for n in (5, 1, 9, 0, 3)]
    rows = fresh().embed_texts(texts)
    assert rows.dtype == np.float32
    expected = np.array([[len(text), 1, 1, 1, 1, 1] for text in texts], np.float32)
    assert np.allclose(rows, expected / np.linalg.norm(expected, axis=1, keepdims=True))
    assert [len(each) for each in library.calls[0][1]] == [0, 1, 3, 5, 9], "by length"
    assert fresh().embed_texts([]).shape == (0, 6)


@pytest.mark.parametrize(("device", "size"), [("cpu", BATCH), ("cuda:0", BATCH_ON_GPU)])
def test_many_texts_are_some_passes_at_a_time(installed: Callable[..., Library], device: str, size: int) -> None:
    library = installed(device=device)
    count = size * PASSES * 2 + 3
    assert fresh().embed_passages(["a"] * count).shape == (count, 6)
    assert [len(inputs) for _, inputs, _ in library.calls] == [size * PASSES] * 2 + [3]
    assert {options["batch_size"] for _, _, options in library.calls} == {size}


def test_queries_and_passages_are_told_apart_to_the_library(installed: Callable[..., Library]) -> None:
    library = installed()
    embedder = fresh()
    embedder.embed_queries(["a"])
    embedder.embed_passages(["a"])
    embedder.embed_texts(["a"])
    # None is the model's own prompt; an empty text is no prompt, even where the model has a default one.
    assert [(method, options["prompt"]) for method, _, options in library.calls] == [
        ("encode_query", None),
        ("encode_document", None),
        ("encode", ""),
    ]
    assert (embedder.card.query_prompt, embedder.card.passage_prompt) == ("q: ", "")
    library.calls.clear()
    own = fresh(query_prompt="ask: ", passage_prompt="")
    own.embed_queries(["a"])
    own.embed_passages(["a"])
    assert [options["prompt"] for _, _, options in library.calls] == ["ask: ", ""]
    assert (own.card.query_prompt, own.card.passage_prompt) == ("ask: ", "")


def test_the_default_prompt_is_that_of_both(installed: Callable[..., Library]) -> None:
    installed(prompts={"all": "text: "}, default_prompt_name="all")
    card = fresh().card
    assert (card.query_prompt, card.passage_prompt) == ("text: ", "text: ")


def test_the_library_is_told_where_to_look(
    installed: Callable[..., Library], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    library = installed()
    monkeypatch.setenv("LIKEWISE_MODEL_OFFLINE", "1")
    load_embedder("sentence-transformers:owner/told").warm_up()
    assert library.made == [
        {
            "path": "owner/told",
            "device": None,
            "cache_folder": str(tmp_path / "cache"),
            "local_files_only": True,
            "revision": None,
            "trust_remote_code": False,
        }
    ]
    monkeypatch.delenv("LIKEWISE_MODEL_CACHE_DIR")
    monkeypatch.setenv("LIKEWISE_MODEL_OFFLINE", "off")
    load_embedder("sentence-transformers:all-MiniLM-L6-v2@4").warm_up()
    assert library.made[1] | {"path": "", "cache_folder": None, "local_files_only": False} == library.made[1] | {
        "path": ""
    }
    fresh(device="cuda:1", revision="v2", trust_remote_code=True).warm_up()
    assert (library.made[2]["device"], library.made[2]["revision"]) == ("cuda:1", "v2")
    assert library.made[2]["trust_remote_code"] is True


def test_loading_is_put_off_and_done_once(installed: Callable[..., Library]) -> None:
    library = installed()
    embedder = load_embedder("sentence-transformers:owner/later")
    assert not library.made
    assert (embedder.card.dimension, embedder.card.max_tokens, embedder.card.modalities) == (6, 77, ("text",))
    embedder.embed_texts(["a"])
    assert len(library.made) == 1
    embedder.close()
    embedder.embed_texts(["a"])
    assert len(library.made) == 2


def test_a_shorter_vector_is_the_first_numbers_as_a_unit_vector(installed: Callable[..., Library]) -> None:
    installed()
    embedder = load_embedder("sentence-transformers:owner/short@2")
    assert embedder.card.name == "sentence-transformers:owner/short@2"
    assert np.allclose(embedder.embed_texts(["xxx"]), [[3 / 10**0.5, 1 / 10**0.5]])
    with pytest.raises(ModelNotAvailable, match="have 6 numbers, and are cut, never lengthened"):
        fresh(dimension=7).embed_texts(["a"])


@pytest.mark.parametrize(
    ("dtype", "device", "bf16", "cuda", "chosen"),
    [
        ("auto", "cpu", True, False, "bfloat16"),
        ("auto", "cpu", False, True, "float32"),
        ("auto", "cuda:0", False, True, "bfloat16"),
        ("auto", "cuda", True, False, "float32"),
        ("auto", "mps", True, True, "float32"),
        ("float32", "cpu", True, True, "float32"),
        ("bfloat16", "cpu", False, False, "bfloat16"),
    ],
)
def test_the_precision_is_what_the_device_has_units_for(
    dtype: Any, device: str, bf16: bool, cuda: bool, chosen: str
) -> None:
    assert precision(dtype, torch(bf16=bf16, cuda_bf16=cuda), device) == chosen


def test_the_model_is_brought_to_its_precision(installed: Callable[..., Library]) -> None:
    library = installed(bf16=True)
    fresh().warm_up()
    fresh(dtype="float32").warm_up()
    assert library.dtypes == ["bfloat16", "float32"]
    # A torch that does not say what the processor has.
    bare = SimpleNamespace(cpu=SimpleNamespace())
    assert precision("auto", bare, "cpu") == "float32"


def test_pictures_where_the_model_takes_them(installed: Callable[..., Library]) -> None:
    installed(modalities=("text", "image"))
    file = io.BytesIO()
    Image.new("RGB", (3, 3), "red").save(file, "PNG")
    embedder = fresh()
    assert embedder.card.modalities == ("text", "image")
    assert embedder.embed_images([file.getvalue()] * 3).shape == (3, 6)
    with pytest.raises(InvalidArgument, match="picture 1"):
        embedder.embed_images([file.getvalue(), b"x"])
    installed()
    with pytest.raises(UnsupportedFeature, match="embedding pictures"):
        fresh().embed_images([file.getvalue()])


def test_what_is_not_text_is_named(installed: Callable[..., Library]) -> None:
    installed()
    for embed in (fresh().embed_texts, fresh().embed_queries, fresh().embed_passages):
        for texts, complaint in ((["a", 5], "text 1 is a int"), (["\ud800"], "lone surrogate"), ("abc", "list")):
            with pytest.raises(InvalidArgument, match=complaint):
                embed(texts)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("", "what follows the colon"),
        (":@4", "what follows the colon"),
        (":a b", "names no model"),
        (":a/b/c", "names no model"),
        (":https://example.org/m", "names no model"),
        (":-x", "names no model"),
        (":owner/x@0", "dimension is 0"),
    ],
)
def test_a_name_that_cannot_be_is_refused_at_once(name: str, complaint: str) -> None:
    with pytest.raises(ModelNotAvailable, match=complaint):
        load_embedder(f"sentence-transformers{name}")


def test_other_arguments_are_checked() -> None:
    with pytest.raises(InvalidArgument, match="dtype is 'int8'"):
        fresh(dtype="int8")


@pytest.mark.parametrize(
    ("options", "tried"),
    [
        ({}, "tried Hugging Face's cache, then the Hugging Face hub"),
        ({"cache_dir": Path("/c")}, "tried the cache /c, then the Hugging Face hub"),
        ({"cache_dir": Path("/c"), "offline": True}, "tried the cache /c only"),
    ],
)
def test_an_unknown_model_says_what_was_tried(
    installed: Callable[..., Library], options: Mapping[str, Any], tried: str
) -> None:
    installed(fails=OSError("owner/model is not a local folder and is not a valid model\nmore lines"))
    with pytest.raises(ModelNotAvailable, match=tried) as caught:
        _ = SentenceTransformersEmbedder(NAME, **options).card
    assert caught.value.model == "sentence-transformers:owner/model"
    assert "OSError: owner/model is not a local folder" in str(caught.value)
    assert "more lines" not in str(caught.value)


def test_a_folder_is_only_a_folder(installed: Callable[..., Library], tmp_path: Path) -> None:
    library = installed(fails=ValueError("no weights"))
    with pytest.raises(ModelNotAvailable, match=f"there is no folder {re.escape(str(tmp_path))}/m"):
        SentenceTransformersEmbedder(f"{tmp_path}/m").embed_texts(["a"])
    (tmp_path / "m").mkdir()
    with pytest.raises(ModelNotAvailable, match="tried the folder"):
        SentenceTransformersEmbedder(f"{tmp_path}/m").embed_texts(["a"])
    assert library.made[0]["local_files_only"] is True


@pytest.mark.parametrize("missing", ["sentence_transformers", "torch"])
def test_without_the_package_the_extra_is_named(
    installed: Callable[..., Library], monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    installed()
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(OptionalDependencyError, match=r"likewise\[sentence-transformers\]"):
        fresh().embed_texts(["a"])


def test_a_package_that_does_not_work_is_another_matter(
    installed: Callable[..., Library], monkeypatch: pytest.MonkeyPatch
) -> None:
    installed()

    class Broken:
        def find_spec(self, name: str, path: object = None, target: object = None) -> None:
            if name == "torch":
                raise ImportError("libcudart.so: cannot open shared object file")

    monkeypatch.delitem(sys.modules, "torch")
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    with pytest.raises(ModelNotAvailable, match=r"does not work here: libcudart\.so"):
        fresh().embed_texts(["a"])


def test_a_card_from_the_files_needs_neither_library_nor_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    monkeypatch.setitem(sys.modules, "torch", None)
    folder = save_files(tmp_path / "m", prompts={"query": "q: ", "passage": "p: "})
    card = load_embedder(f"sentence-transformers:{folder}").card
    assert (card.dimension, card.max_tokens, card.query_prompt, card.passage_prompt) == (8, 64, "q: ", "p: ")
    # The same in Hugging Face's cache.
    snapshot = tmp_path / "cache" / "models--sentence-transformers--tiny" / "snapshots" / ("b" * 40)
    save_files(snapshot)
    refs = snapshot.parents[1] / "refs"
    refs.mkdir()
    (refs / "main").write_text("b" * 40)
    for name in ("tiny", "sentence-transformers/tiny"):
        assert SentenceTransformersEmbedder(name, cache_dir=tmp_path / "cache").card.dimension == 8
    with pytest.raises(OptionalDependencyError):
        _ = SentenceTransformersEmbedder("tiny", cache_dir=tmp_path / "other").card


def test_a_file_that_is_too_large_is_not_read(
    installed: Callable[..., Library], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    library = installed()
    folder = save_files(tmp_path / "m")
    monkeypatch.setattr(module, "MOST_BYTES", 20)
    assert SentenceTransformersEmbedder(str(folder)).card.dimension == library.width
    assert len(library.made) == 1


@pytest.mark.parametrize("knows", [0.0, float("nan")])
def test_a_model_that_cannot_tell_words_apart_is_damaged(installed: Callable[..., Library], knows: float) -> None:
    installed(knows_words=knows)
    with pytest.raises(ModelNotAvailable, match="the same for 'red' and 'blue', as without its vocabulary"):
        fresh().embed_texts(["a"])


def test_weights_that_belie_the_files_are_noticed(installed: Callable[..., Library], tmp_path: Path) -> None:
    installed(width=4)
    embedder = SentenceTransformersEmbedder(str(save_files(tmp_path / "m")))
    assert embedder.card.dimension == 8
    with pytest.raises(ModelNotAvailable, match="its files say 8 numbers a vector, its weights 4"):
        embedder.embed_texts(["a"])


def test_rows_of_another_shape_are_noticed(installed: Callable[..., Library], monkeypatch: pytest.MonkeyPatch) -> None:
    library = installed()
    embedder = fresh()
    embedder.warm_up()

    def fewer(inputs: Sequence[str], **_: Any) -> Tensor:
        return Tensor(np.ones((len(inputs) - 1, library.width)))

    monkeypatch.setattr(embedder._loaded, "encode", fewer, raising=False)
    with pytest.raises(ModelNotAvailable, match=re.escape("shape (1, 6) for 2 inputs")):
        embedder.embed_texts(["a", "b"])
