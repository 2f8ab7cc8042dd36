"""Text encoders on ONNX Runtime: what they give is what their weights say, whatever the batch; what cannot be embedded is named."""

from __future__ import annotations

import logging
import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper
from tokenizers import Tokenizer

from likewise import InvalidArgument, ModelNotAvailable, UnsupportedFeature
from likewise.embedding import (
    BgeEmbedder,
    BgeM3Embedder,
    Loading,
    MiniEmbedder,
    MiniLMEmbedder,
    OnnxTextEmbedder,
    Source,
    TextModel,
)
from likewise.embedding import mini as mini_module
from likewise.embedding.bge import M3
from likewise.embedding.minilm import MINILM

from . import tiny_bert
from .hub_server import COMMIT, serving
from .tiny_bert import Shape

Array = NDArray[np.float32]

TEXTS = [
    "The cat sleeps under a tree.",
    "",
    "dog",
    "Bread needs a hot oven, and the ferry leaves at noon; " * 6,
    "A RED dress! (with 日本 and émigré)\tand\nmore",
    "x",
    "a [SEP] </s> token in the text",
    *(" ".join(["fox"] * n) for n in (3, 4, 5, 40, 41, 42, 43, 44, 45)),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of MiniLM's dimension, and of bge-small-en's."""
    return tiny_bert.write_bert(tmp_path_factory.mktemp("bert") / "model")


@pytest.fixture(scope="module")
def base_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    shape = Shape(dimension=768, layers=1)
    return tiny_bert.write_bert(tmp_path_factory.mktemp("base") / "model", shape, seed=5)


@pytest.fixture(scope="module")
def m3_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An XLM-RoBERTa with the weights of tokens, whose longest text has 64 tokens."""
    return tiny_bert.write_xlm_roberta(tmp_path_factory.mktemp("m3") / "model", sparse=True)


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copy"))


TINY_M3 = replace(M3, card=replace(M3.card, dimension=32, max_tokens=64))


def minilm(folder: Path, **options: Any) -> MiniLMEmbedder:
    return MiniLMEmbedder(loading=Loading(directory=folder), revision="tiny", **options)


def m3(folder: Path, **options: Any) -> BgeM3Embedder:
    return BgeM3Embedder(loading=Loading(directory=folder), revision="tiny", model=TINY_M3, **options)


def ids_of(folder: Path, text: str) -> list[int]:
    """The ids of a text with special tokens, by the whole of it at once."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return list(tokenizer.encode(text).ids)


def unit(vector: Array) -> Array:
    return np.asarray(vector / np.linalg.norm(vector), np.float32)


def cosine(one: Array, other: Array) -> float:
    return float((one * other).sum(axis=-1).min())


# --- the same as in NumPy -----------------------------------------------------------------------------------------------------------


def test_minilm_is_the_mean_of_the_token_vectors(folder: Path) -> None:
    expected = np.stack([unit(tiny_bert.forward(folder, ids_of(folder, text)).mean(axis=0)) for text in TEXTS])
    assert np.allclose(minilm(folder).embed_texts(TEXTS), expected, atol=2e-5)


def test_bge_is_the_first_token_vector_and_queries_have_a_prompt(folder: Path, base_folder: Path) -> None:
    for size, where in (("small", folder), ("base", base_folder)):
        embedder = BgeEmbedder(size, loading=Loading(directory=where), revision="tiny")  # type: ignore[arg-type]
        expected = np.stack([unit(tiny_bert.forward(where, ids_of(where, text))[0]) for text in TEXTS])
        assert np.allclose(embedder.embed_texts(TEXTS), expected, atol=2e-5)
        assert np.array_equal(embedder.embed_passages(TEXTS), embedder.embed_texts(TEXTS))
        prompted = ["Represent this sentence for searching relevant passages: " + text for text in TEXTS[:3]]
        assert np.array_equal(embedder.embed_queries(TEXTS[:3]), embedder.embed_texts(prompted))


def test_bge_m3_has_its_weights_in_another_file_and_its_positions_counted_from_the_padding(m3_folder: Path) -> None:
    short = [text for text in TEXTS if len(ids_of(m3_folder, text)) <= 64]
    assert len(short) > 10
    expected = np.stack([unit(tiny_bert.forward(m3_folder, ids_of(m3_folder, text))[0]) for text in short])
    assert np.allclose(m3(m3_folder).embed_texts(short), expected, atol=2e-5)


@pytest.mark.parametrize("inputs", [("input_ids", "attention_mask"), ("attention_mask", "token_type_ids", "input_ids")])
@pytest.mark.parametrize("output", ["last_hidden_state", "token_embeddings", "some_name"])
def test_only_what_a_graph_asks_for_is_given(
    folder: Path, tmp_path: Path, inputs: tuple[str, ...], output: str
) -> None:
    other = tiny_bert.write_bert(tmp_path / "other", inputs=inputs, output=output)
    assert np.allclose(minilm(other).embed_texts(TEXTS), minilm(folder).embed_texts(TEXTS), atol=1e-6)


def test_the_trained_model_that_is_shipped_goes_the_same_way(tmp_path: Path) -> None:
    files = Path(mini_module.__file__).parent / "models" / "mini"
    (tmp_path / "onnx").mkdir()
    shutil.copy(files / "text_encoder.onnx", tmp_path / "onnx" / "model.onnx")
    shutil.copy(files / "tokenizer.json", tmp_path)
    texts = [text for text in TEXTS if len(ids_of(tmp_path, text)) <= 128]
    assert cosine(minilm(tmp_path).embed_texts(texts), MiniEmbedder().embed_texts(texts)) > 1 - 1e-3
    near, far = (
        minilm(tmp_path).embed_texts(["a small dog", "a puppy", "the stock exchange"])[[1, 2]]
        @ minilm(tmp_path).embed_texts(["a small dog"])[0]
    )
    assert near > far + 0.3


# --- batches ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pooled", ["cut", "pooled"])
def test_a_batch_gives_what_single_calls_give(folder: Path, m3_folder: Path, pooled: str) -> None:
    texts = [*TEXTS, *(f"{text} {'tree ' * n}" for n, text in enumerate(TEXTS * 3))]
    for embedder in (minilm(folder, overlong=pooled), m3(m3_folder, overlong=pooled)):
        together = embedder.embed_texts(texts)
        assert together.shape == (len(texts), embedder.card.dimension)
        assert together.dtype == np.float32
        assert np.allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
        single = np.stack([embedder.embed_texts([text])[0] for text in texts])
        assert cosine(together, single) > 1 - 1e-3
        order = np.random.default_rng(3).permutation(len(texts))
        assert cosine(embedder.embed_texts([texts[i] for i in order]), together[order]) > 1 - 1e-3


def test_more_texts_than_are_tokenised_at_a_time_keep_their_order(m3_folder: Path) -> None:
    embedder = m3(m3_folder)
    texts = ["cat", "dog", "red green dress", "x"] * 400
    result = embedder.embed_texts(texts)
    assert cosine(result, np.tile(embedder.embed_texts(texts[:4]), (400, 1))) > 1 - 1e-3


def test_threads_may_share_an_embedder_and_closing_frees_it(folder: Path) -> None:
    embedder = minilm(folder)
    expected = embedder.embed_texts(TEXTS)
    results: list[Array] = []

    def work() -> None:
        results.append(embedder.embed_texts(TEXTS))
        embedder.close()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4
    assert all(np.allclose(result, expected, atol=1e-5) for result in results)


# --- long texts ---------------------------------------------------------------------------------------------------------------------

LONG = "Bread needs a hot oven, and the ferry leaves at noon; " * 40


def test_what_is_cut_has_no_part_in_the_vector_and_is_told_of(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    embedder = minilm(folder)
    assert (embedder.card.overlong, embedder.card.max_tokens) == ("cut", 256)
    ids = ids_of(folder, LONG)
    assert len(ids) > 300
    expected = unit(tiny_bert.forward(folder, [*ids[:255], ids[-1]]).mean(axis=0))
    with caplog.at_level(logging.INFO, "likewise.embedding"):
        vectors = embedder.embed_texts(["dog", LONG, LONG + "and a cat"])
        embedder.embed_texts([LONG])
    assert np.allclose(vectors[1:], expected, atol=2e-5)
    assert embedder.cut_texts == 3
    told = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert told == [
        ("WARNING", "2 of 3 texts have more than the 256 tokens of minilm, and were cut"),
        ("INFO", "1 of 1 texts have more than the 256 tokens of minilm, and were cut"),
    ]


def test_a_text_of_exactly_the_longest_length_is_not_cut(folder: Path) -> None:
    embedder = minilm(folder, overlong="refused")
    fits, over = "dog " * 254, "dog " * 255
    assert len(ids_of(folder, fits)) == 256
    embedder.embed_texts([fits])
    with pytest.raises(InvalidArgument, match=r"^text 2 has more than the 256 tokens that minilm takes"):
        embedder.embed_texts([fits, "", over, over])
    assert embedder.cut_texts == 0


def test_pooled_is_the_mean_of_the_windows_by_their_tokens(folder: Path) -> None:
    embedder = minilm(folder, overlong="pooled")
    assert embedder.card.overlong == "pooled"
    ids = ids_of(folder, LONG)
    first, inner, last = ids[0], ids[1:-1], ids[-1]
    windows = [inner[at : at + 254] for at in range(0, len(inner), 254)]
    assert len(windows) > 1
    assert len(windows[-1]) < 254
    total = sum(
        unit(tiny_bert.forward(folder, [first, *window, last]).mean(axis=0)) * len(window) for window in windows
    )
    assert np.allclose(embedder.embed_texts(["cat", LONG])[1], unit(np.asarray(total)), atol=2e-5)
    assert embedder.cut_texts == 0


@pytest.mark.parametrize("unit_text", ["word ", "日本", "aGVsbG8", " ", "a-b,c;", "\u0301", "\0x"])
@pytest.mark.parametrize("overlong", ["cut", "pooled"])
def test_a_megabyte_of_anything_is_taken(m3_folder: Path, unit_text: str, overlong: str) -> None:
    text = unit_text * (1_000_000 // len(unit_text.encode()))
    embedder = m3(m3_folder, overlong=overlong)
    if overlong == "pooled" and unit_text != " ":
        text = text[: len(text) // 8]
    (vector,) = embedder.embed_texts([text])
    assert abs(float(np.linalg.norm(vector)) - 1) < 1e-5


# --- refusals -----------------------------------------------------------------------------------------------------------------------


def test_no_texts_are_no_vectors_and_an_empty_text_has_one(folder: Path) -> None:
    nowhere = minilm(folder / "nowhere")
    assert nowhere.embed_texts([]).shape == (0, 384)
    assert nowhere.card.dimension == 384, "the card needs no file"
    assert minilm(folder).embed_texts([""]).shape == (1, 384)


@pytest.mark.parametrize(
    ("texts", "complaint"),
    [
        (["a", 5], "text 1 is a int"),
        (["a", b"b"], "text 1 is a bytes"),
        ([None], "text 0 is a NoneType"),
        (["a", "b\ud800"], "text 1 has a lone surrogate at character 1"),
        ("abc", "list"),
    ],
)
def test_what_is_not_text_is_named(folder: Path, texts: Any, complaint: str) -> None:
    for embed in (minilm(folder).embed_texts, minilm(folder).embed_queries, m3(folder).embed_sparse):
        with pytest.raises(InvalidArgument, match=complaint):
            embed(texts)


def test_pictures_are_not_supported(folder: Path) -> None:
    with pytest.raises(UnsupportedFeature, match="pictures"):
        minilm(folder).embed_images([b""])


def test_arguments_that_are_none(folder: Path) -> None:
    with pytest.raises(InvalidArgument, match="overlong is 'split'"):
        minilm(folder, overlong="split")
    with pytest.raises(InvalidArgument, match="size is 'large'"):
        BgeEmbedder("large")  # type: ignore[arg-type]


def _truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:5000])


def _rubbish(path: Path) -> None:
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 90405214\n")


@pytest.mark.parametrize("damage", [_truncated, _rubbish, lambda path: path.write_bytes(b"")])
@pytest.mark.parametrize(
    ("file", "complaint"),
    [("onnx/model.onnx", "cannot be opened by ONNX Runtime"), ("tokenizer.json", "cannot be read")],
)
def test_a_damaged_file_is_named(copy: Path, damage: Callable[[Path], None], file: str, complaint: str) -> None:
    damage(copy / file)
    with pytest.raises(
        ModelNotAvailable, match=f"{file.replace('.', '[.]')}.*{complaint}.*likewise models pull minilm"
    ):
        minilm(copy).embed_texts(["a"])


def test_weights_beside_the_graph_that_are_too_short_are_noticed(m3_folder: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(m3_folder, tmp_path / "other"))
    _truncated(other / "onnx" / "model.onnx_data")
    with pytest.raises(ModelNotAvailable, match="cannot be opened by ONNX Runtime"):
        m3(other).embed_texts(["a"])
    (other / "onnx" / "model.onnx_data").unlink()
    with pytest.raises(ModelNotAvailable, match=r"lacks onnx/model\.onnx_data of bge-m3"):
        m3(other).embed_texts(["a"])


def test_a_file_of_another_dimension_is_refused(base_folder: Path) -> None:
    with pytest.raises(ModelNotAvailable, match=r"dimension 768, and the card of minilm says 384"):
        minilm(base_folder).embed_texts(["a"])


def _edited(path: Path, edit: Callable[[onnx.ModelProto], None]) -> None:
    model = onnx.load(path)
    edit(model)
    onnx.save(model, path)


def test_a_dimension_that_the_file_does_not_state_is_checked_as_it_comes(base_folder: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(base_folder, tmp_path / "other"))

    def unstated(model: onnx.ModelProto) -> None:
        """The last step cuts the vectors at a width that depends on the input, and is always the whole."""
        graph = model.graph
        graph.node[-1].output[0] = "whole"
        constants = {"begin": [0], "none": [0], "width": [768], "last": [2]}
        for name, value in constants.items():
            graph.initializer.append(numpy_helper.from_array(np.array(value, np.int64), name))
        graph.node.extend(
            [
                onnx.helper.make_node("ReduceSum", ["attention_mask"], ["sum"], keepdims=0),
                onnx.helper.make_node("Mul", ["sum", "none"], ["zero"]),
                onnx.helper.make_node("Add", ["zero", "width"], ["end"]),
                onnx.helper.make_node("Slice", ["whole", "begin", "end", "last"], ["last_hidden_state"]),
            ]
        )
        graph.output[0].type.tensor_type.shape.dim[2].dim_param = "dimension"

    _edited(other / "onnx" / "model.onnx", unstated)
    with pytest.raises(ModelNotAvailable, match=r"gave vectors of shape \(1, 768\), and its card says \(1, 384\)"):
        minilm(other).embed_texts(["a"])


def test_a_graph_that_is_no_text_encoder_is_refused(copy: Path) -> None:
    def renamed(model: onnx.ModelProto) -> None:
        for node in model.graph.node:
            node.input[:] = ["pixel_values" if name == "attention_mask" else name for name in node.input]
        model.graph.input[1].name = "pixel_values"

    _edited(copy / "onnx" / "model.onnx", renamed)
    with pytest.raises(ModelNotAvailable, match="wants the inputs input_ids, pixel_values"):
        minilm(copy).embed_texts(["a"])


def test_a_graph_with_outputs_that_nobody_knows_is_refused(m3_folder: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(m3_folder, tmp_path / "other"))

    def renamed(model: onnx.ModelProto) -> None:
        for node in model.graph.node:
            for names in (node.input, node.output):
                names[:] = ["colbert_vecs" if name == "token_embeddings" else name for name in names]
        model.graph.output[0].name = "colbert_vecs"

    _edited(other / "onnx" / "model.onnx", renamed)
    with pytest.raises(ModelNotAvailable, match=r"has the outputs colbert_vecs, sparse_weights; none of them"):
        m3(other).embed_texts(["a"])


def test_a_vocabulary_that_is_larger_than_the_models_is_named(folder: Path, tmp_path: Path, copy: Path) -> None:
    tokenizer = Tokenizer.from_file(str(copy / "tokenizer.json"))
    tokenizer.add_tokens(["zyzzyva"])
    tokenizer.save(str(copy / "tokenizer.json"))
    with pytest.raises(ModelNotAvailable, match="minilm failed on 1 texts of 3 tokens"):
        minilm(copy).embed_texts(["zyzzyva"])


def test_weights_that_are_not_finite_are_noticed(copy: Path) -> None:
    def spoil(model: onnx.ModelProto) -> None:
        for tensor in model.graph.initializer:
            if tensor.name == "encoder.layer.1.output.LayerNorm.bias":
                tensor.CopyFrom(numpy_helper.from_array(np.full(384, np.nan, np.float32), tensor.name))

    _edited(copy / "onnx" / "model.onnx", spoil)
    with pytest.raises(ModelNotAvailable, match="not finite"):
        minilm(copy).embed_texts(["a"])


# --- sparse -------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["the cat and the dog, the fox", "", "dog", "x </s> y"])
def test_the_weights_of_tokens_are_the_largest_of_each(m3_folder: Path, text: str) -> None:
    ids = ids_of(m3_folder, text)
    weights = tiny_bert.token_weights(m3_folder, tiny_bert.forward(m3_folder, ids))
    expected: dict[int, float] = {}
    for token, weight in zip(ids, weights.tolist(), strict=True):
        if token > 2 and weight > 0:
            expected[token] = max(weight, expected.get(token, 0.0))
    _, found, _ = m3(m3_folder).embed_sparse(["a long text before it " * 3, text, ""])
    assert found == pytest.approx(expected, abs=1e-4)


def test_sparse_weights_of_a_long_text_are_cut_or_of_the_whole(m3_folder: Path) -> None:
    text = (
        "cat dog the red green dress ferry leaves noon bread " * 10
        + "house water runs jumped quick brown lazy fox " * 3
    )
    cut, whole = (m3(m3_folder, overlong=how).embed_sparse([text])[0] for how in ("cut", "pooled"))
    assert set(cut) < set(whole)
    assert m3(m3_folder).embed_sparse([]) == []


def test_a_file_without_weights_of_tokens_says_so(tmp_path: Path) -> None:
    plain = tiny_bert.write_xlm_roberta(tmp_path / "plain")
    with pytest.raises(UnsupportedFeature, match=r"sparse vectors: the ONNX file at hand gives only token_embeddings"):
        m3(plain).embed_sparse(["a"])


def test_a_model_of_ones_own_from_a_hub(folder: Path, tmp_path: Path) -> None:
    files = {name: (folder / name).read_bytes() for name in MINILM.source.files}
    own = TextModel(
        replace(MINILM.card, name="own", max_tokens=16),
        Source("owner/tiny", "main", tuple(files)),
        pooling="cls",
    )
    with serving(files) as hub:
        embedder = OnnxTextEmbedder(own, loading=Loading(cache_dir=tmp_path, endpoint=hub.url))
        vectors = embedder.embed_texts(TEXTS)
    assert cosine(vectors[:1], unit(tiny_bert.forward(folder, ids_of(folder, TEXTS[0]))[0])[None]) > 1 - 1e-5
    assert (tmp_path / "owner--tiny" / COMMIT / "onnx" / "model.onnx").is_file()


def test_weights_elsewhere_are_not_followed(m3_folder: Path, tmp_path: Path) -> None:
    """Neither a link, as the cache of ``huggingface_hub`` has them, nor a path in the graph may lead out of the folder."""
    linked = Path(shutil.copytree(m3_folder, tmp_path / "linked"))
    data = linked / "onnx" / "model.onnx_data"
    data.rename(tmp_path / "elsewhere")
    data.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ModelNotAvailable, match=r"links to other folders.*cp -rL"):
        m3(linked).embed_texts(["a"])
    for name, target in (("up", "../../elsewhere"), ("whole", str(tmp_path / "elsewhere"))):
        other = Path(shutil.copytree(m3_folder, tmp_path / name))
        model = onnx.load(other / "onnx" / "model.onnx", load_external_data=False)
        for tensor in model.graph.initializer:
            for entry in tensor.external_data:
                if entry.key == "location":
                    entry.value = target
        (other / "onnx" / "model.onnx").write_bytes(model.SerializeToString())
        with pytest.raises(ModelNotAvailable, match="cannot be opened by ONNX Runtime"):
            m3(other).embed_texts(["a"])
