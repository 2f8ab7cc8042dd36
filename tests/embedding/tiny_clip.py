"""CLIP with two layers and random weights, in the true architecture, in the layouts of the true repositories, and once more in NumPy.

The NumPy half shares the weights with the graph and nothing else, so that the two may be compared.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from likewise import Embedder
from likewise.embedding import ClipEmbedder, JinaClipEmbedder
from likewise.embedding._hub import Loading

Array: TypeAlias = NDArray[Any]

WIDTH, HEADS, LAYERS, TOKENS, DIMENSION = 16, 2, 2, 77, 512
MERGES = (("r", "e"), ("re", "d</w>"), ("d", "r"), ("dr", "e"), ("dre", "s"), ("dres", "s</w>"))


# --- weights ------------------------------------------------------------------------------------------------------------------------


def tower(
    seed: int, *, width: int = WIDTH, dimension: int = DIMENSION, **embeddings: tuple[int, ...]
) -> dict[str, Array]:
    """Random weights by their names, those of the embeddings in the shapes that are given."""
    random = np.random.default_rng(seed)
    shapes: dict[str, tuple[int, ...]] = dict(embeddings)
    for layer in range(LAYERS):
        for name in ("q", "k", "v", "o"):
            shapes[f"{layer}.{name}.w"], shapes[f"{layer}.{name}.b"] = (width, width), (width,)
        shapes[f"{layer}.up.w"], shapes[f"{layer}.up.b"] = (width, 4 * width), (4 * width,)
        shapes[f"{layer}.down.w"], shapes[f"{layer}.down.b"] = (4 * width, width), (width,)
    weights = {name: random.normal(0, 0.4, shape).astype(np.float32) for name, shape in shapes.items()}
    norms = ["pre", "final", *(f"{layer}.{name}" for layer in range(LAYERS) for name in ("before", "between"))]
    for name in norms:
        weights[f"{name}.w"] = random.normal(1, 0.2, width).astype(np.float32)
        weights[f"{name}.b"] = random.normal(0, 0.2, width).astype(np.float32)
    weights["projection"] = random.normal(0, 0.3, (width, dimension)).astype(np.float32)
    return weights


def text_weights(vocabulary: int, seed: int = 1) -> dict[str, Array]:
    return tower(seed, tokens=(vocabulary, WIDTH), positions=(TOKENS, WIDTH))


def image_weights(side: int = 224, patch: int = 32, seed: int = 2, dimension: int = DIMENSION) -> dict[str, Array]:
    count = (side // patch) ** 2 + 1
    return tower(seed, dimension=dimension, patches=(WIDTH, 3, patch, patch), first=(WIDTH,), positions=(count, WIDTH))


# --- in NumPy -----------------------------------------------------------------------------------------------------------------------


def _normed(x: Array, w: dict[str, Array], name: str) -> Array:
    y = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    return np.asarray(y * w[f"{name}.w"] + w[f"{name}.b"])


def encode(x: Array, w: dict[str, Array], *, causal: bool) -> Array:
    """The blocks of a transformer over one sequence of shape (length, width), in float64."""
    length, width = x.shape
    size = width // HEADS
    for layer in range(LAYERS):
        y = _normed(x, w, f"{layer}.before")
        q, k, v = (y @ w[f"{layer}.{name}.w"] + w[f"{layer}.{name}.b"] for name in "qkv")
        heads = []
        for head in range(HEADS):
            part = slice(head * size, (head + 1) * size)
            scores = q[:, part] @ k[:, part].T / np.sqrt(size)
            if causal:
                scores = np.where(np.tri(length, dtype=bool), scores, -np.inf)
            shares = np.exp(scores - scores.max(-1, keepdims=True))
            heads.append(shares / shares.sum(-1, keepdims=True) @ v[:, part])
        x = x + np.concatenate(heads, -1) @ w[f"{layer}.o.w"] + w[f"{layer}.o.b"]
        y = _normed(x, w, f"{layer}.between") @ w[f"{layer}.up.w"] + w[f"{layer}.up.b"]
        x = x + (y / (1 + np.exp(-1.702 * y))) @ w[f"{layer}.down.w"] + w[f"{layer}.down.b"]
    return x


def text_vector(ids: list[int], w: dict[str, Array]) -> Array:
    x = encode(w["tokens"][ids].astype(np.float64) + w["positions"][: len(ids)], w, causal=True)
    return unit(_normed(x, w, "final")[ids.index(max(ids))] @ w["projection"])


def mean_text_vector(ids: list[int], w: dict[str, Array]) -> Array:
    """A tower that looks both ways and takes the mean, as JinaCLIP's does."""
    x = encode(w["tokens"][ids].astype(np.float64) + w["positions"][: len(ids)], w, causal=False)
    return unit(_normed(x, w, "final").mean(0) @ w["projection"])


def image_vector(pixels: Array, w: dict[str, Array]) -> Array:
    patch = w["patches"].shape[-1]
    rows = range(0, pixels.shape[1] - patch + 1, patch)
    cells = [pixels[:, i : i + patch, j : j + patch].ravel() for i in rows for j in rows]
    x = np.array(cells, np.float64) @ w["patches"].reshape(len(w["patches"]), -1).T
    x = _normed(np.concatenate([w["first"][None], x]) + w["positions"], w, "pre")
    return unit(_normed(encode(x, w, causal=False)[0], w, "final") @ w["projection"])


def unit(vector: Array) -> Array:
    return np.asarray(vector / np.linalg.norm(vector))


# --- as ONNX graphs -----------------------------------------------------------------------------------------------------------------


class Net:
    """Collects the nodes of a graph; each call adds one and gives the name of its result."""

    def __init__(self, weights: dict[str, Array], prefix: str = "") -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.prefix = prefix
        self.hidden = ""
        for name, values in weights.items():
            self.constants.append(numpy_helper.from_array(values, prefix + name))

    def __call__(self, kind: str, *inputs: str | Array, **attributes: Any) -> str:
        names = []
        for given in inputs:
            if not isinstance(given, str):
                self.constants.append(
                    numpy_helper.from_array(np.asarray(given), f"{self.prefix}c{len(self.constants)}")
                )
                given = self.constants[-1].name
            names.append(given)
        self.nodes.append(helper.make_node(kind, names, [f"{self.prefix}n{len(self.nodes)}"], **attributes))
        return str(self.nodes[-1].output[0])

    def weight(self, name: str) -> str:
        return self.prefix + name

    def normed(self, x: str, name: str) -> str:
        return self("LayerNormalization", x, self.weight(f"{name}.w"), self.weight(f"{name}.b"), axis=-1, epsilon=1e-5)

    def linear(self, x: str, name: str) -> str:
        return self("Add", self("MatMul", x, self.weight(f"{name}.w")), self.weight(f"{name}.b"))

    def encode(self, x: str, *, causal: bool) -> str:
        size = WIDTH // HEADS
        split, joined = np.array([0, 0, HEADS, size]), np.array([0, 0, WIDTH])
        for layer in range(LAYERS):
            y = self.normed(x, f"{layer}.before")
            q, k, v = (
                self("Transpose", self("Reshape", self.linear(y, f"{layer}.{name}"), split), perm=[0, 2, 1, 3])
                for name in "qkv"
            )
            scores = self("MatMul", q, self("Transpose", k, perm=[0, 1, 3, 2]))
            scores = self("Mul", scores, np.array(size**-0.5, np.float32))
            if causal:
                later = np.triu(np.full((TOKENS, TOKENS), -1e9, np.float32), 1)
                length = self("Shape", x, start=1, end=2)
                ends = self("Concat", length, length, axis=0)
                scores = self("Add", scores, self("Slice", later, np.array([0, 0]), ends, np.array([0, 1])))
            y = self("MatMul", self("Softmax", scores, axis=-1), v)
            y = self("Reshape", self("Transpose", y, perm=[0, 2, 1, 3]), joined)
            x = self("Add", x, self.linear(y, f"{layer}.o"))
            y = self.linear(self.normed(x, f"{layer}.between"), f"{layer}.up")
            y = self("Mul", y, self("Sigmoid", self("Mul", y, np.array(1.702, np.float32))))
            x = self("Add", x, self.linear(y, f"{layer}.down"))
        return x

    def text(self, ids: str, *, causal: bool = True) -> str:
        length = self("Shape", ids, start=1, end=2)
        positions = self("Slice", self.weight("positions"), np.array([0]), length, np.array([0]))
        x = self("Add", self("Gather", self.weight("tokens"), ids), positions)
        x = self.hidden = self.normed(self.encode(x, causal=causal), "final")
        if causal:
            end = self("Unsqueeze", self("ArgMax", ids, axis=1, keepdims=1), np.array([2]))
            end = self("Expand", end, np.array([1, 1, WIDTH]))
            pooled = self("Squeeze", self("GatherElements", x, end, axis=1), np.array([1]))
        else:
            pooled = self("ReduceMean", x, axes=[1], keepdims=0)
        return self("MatMul", pooled, self.weight("projection"))

    def image(self, pixels: str, weights: dict[str, Array]) -> str:
        patch, count = weights["patches"].shape[-1], len(weights["positions"]) - 1
        x = self("Conv", pixels, self.weight("patches"), strides=[patch, patch], kernel_shape=[patch, patch])
        x = self("Transpose", self("Reshape", x, np.array([0, WIDTH, count])), perm=[0, 2, 1])
        rows = self("Shape", pixels, start=0, end=1)
        first = self("Expand", self.weight("first"), self("Concat", rows, np.array([1, WIDTH]), axis=0))
        x = self("Add", self("Concat", first, x, axis=1), self.weight("positions"))
        x = self.encode(self.normed(x, "pre"), causal=False)
        return self("MatMul", self.normed(self("Gather", x, np.array(0), axis=1), "final"), self.weight("projection"))

    def unit(self, x: str) -> str:
        return self("Div", x, self("ReduceL2", x, axes=[-1], keepdims=1))


Shape: TypeAlias = "tuple[int | str, ...]"


def save(
    path: Path, net: Net, inputs: dict[str, tuple[int, Shape]], outputs: dict[str, str], *, apart: bool = False
) -> None:
    """The graph as a file, with its weights in a second file beside it if they are to be ``apart``."""
    for name, value in outputs.items():
        net.nodes.append(helper.make_node("Identity", [value], [name]))
    graph = helper.make_graph(
        net.nodes,
        "tiny",
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, _rank(name)) for name in outputs],
        net.constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, str(path), save_as_external_data=apart, location=path.name + "_data", size_threshold=1024)


def _rank(output: str) -> Shape:
    return ("rows", "tokens", "width") if output == "last_hidden_state" else ("rows", "dimension")


def save_clip(folder: Path, *, vocabulary: int) -> None:
    """In the layout of Xenova/clip-vit-base-patch32: any number of rows, any length, vectors not of length 1."""
    net = Net(text_weights(vocabulary))
    found = net.text("input_ids")
    save(
        folder / "onnx/text_model.onnx",
        net,
        {"input_ids": (TensorProto.INT64, ("batch", "sequence"))},
        {"last_hidden_state": net.hidden, "text_embeds": found},
    )
    weights = image_weights()
    net = Net(weights)
    found = net.image("pixel_values", weights)
    shape: Shape = ("batch", 3, 224, 224)
    save(folder / "onnx/vision_model.onnx", net, {"pixel_values": (TensorProto.FLOAT, shape)}, {"image_embeds": found})
    (folder / "tokenizer.json").write_text(clip_tokenizer(), "utf-8")


def save_laion(folder: Path, *, vocabulary: int) -> None:
    """In the layout of immich-app/ViT-B-32__laion2b-s34b-b79k: one row at a time, 77 tokens of 32 bits, vectors of length 1."""
    net = Net(text_weights(vocabulary))
    found = net.unit(net.text("text"))
    save(folder / "textual/model.onnx", net, {"text": (TensorProto.INT32, (1, TOKENS))}, {"embedding": found})
    weights = image_weights()
    net = Net(weights)
    found = net.unit(net.image("image", weights))
    save(folder / "visual/model.onnx", net, {"image": (TensorProto.FLOAT, (1, 3, 224, 224))}, {"embedding": found})
    (folder / "textual/tokenizer.json").write_text(clip_tokenizer(), "utf-8")


def save_jina(folder: Path, *, vocabulary: int) -> None:
    """In the layout of jinaai/jina-clip-v2: both towers in one graph, which wants both inputs; its weights in a file beside it."""
    texts, images = jina_weights(vocabulary)
    text, image = Net(texts, "text."), Net(images, "image.")
    text_found, image_found = text.text("input_ids", causal=False), image.image("pixel_values", images)
    outputs = {
        "text_embeddings": text_found,
        "image_embeddings": image_found,
        "l2norm_text_embeddings": text.unit(text_found),
        "l2norm_image_embeddings": image.unit(image_found),
    }
    text.nodes += image.nodes
    text.constants += image.constants
    inputs: dict[str, tuple[int, Shape]] = {
        "input_ids": (TensorProto.INT64, ("text_batch", "sequence")),
        "pixel_values": (TensorProto.FLOAT, ("image_batch", 3, 512, 512)),
    }
    save(folder / "onnx/model.onnx", text, inputs, outputs, apart=True)
    (folder / "tokenizer.json").write_text(jina_tokenizer(), "utf-8")


def jina_weights(vocabulary: int) -> tuple[dict[str, Array], dict[str, Array]]:
    texts = tower(3, dimension=1024, tokens=(vocabulary, WIDTH), positions=(8192, WIDTH))
    return texts, image_weights(512, 64, 4, 1024)


# --- tokenizers ---------------------------------------------------------------------------------------------------------------------


def clip_tokenizer(letters: Sequence[str] = (), merges: Sequence[tuple[str, str]] = MERGES) -> str:
    """A tokenizer.json like that of openai/clip-vit-base-patch32, of bytes and a few merges; its last token is the end."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

    letters = letters or sorted(pre_tokenizers.ByteLevel.alphabet())
    words = [*letters, *(letter + "</w>" for letter in letters), *("".join(pair) for pair in merges)]
    begin, end = "<|startoftext|>", "<|endoftext|>"
    vocabulary = {word: place for place, word in enumerate([*words, begin, end])}
    tokenizer = Tokenizer(
        models.BPE(vocabulary, list(merges), unk_token=end, end_of_word_suffix="</w>", continuing_subword_prefix="")
    )
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    pieces = Regex(r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(pieces, "removed", invert=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.post_processor = processors.RobertaProcessing(
        (end, vocabulary[end]), (begin, vocabulary[begin]), trim_offsets=False, add_prefix_space=False
    )
    tokenizer.add_special_tokens([begin, end])
    return tokenizer.to_str()


def jina_tokenizer() -> str:
    """A tokenizer.json like XLM-RoBERTa's: ``<s>``, ``<pad>``, ``</s>`` and ``<unk>`` first, then pieces of words."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    special = ["<s>", "<pad>", "</s>", "<unk>"]
    pieces = [
        *special,
        *(f"▁{word}" for word in ("a", "red", "dress", "car", "the", "for", "query")),
        "▁",
        *map(chr, range(97, 123)),
    ]
    tokenizer = Tokenizer(models.Unigram([(piece, -float(i)) for i, piece in enumerate(pieces)], 3, False))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair=None, special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    tokenizer.add_special_tokens(special)
    return tokenizer.to_str()


def vocabulary_of(tokenizer: str) -> int:
    """How many tokens a tokenizer.json has."""
    from tokenizers import Tokenizer

    return int(Tokenizer.from_str(tokenizer).get_vocab_size())


# --- embedders ----------------------------------------------------------------------------------------------------------------------


@cache
def folder(family: str) -> Path:
    """The files of ``clip``, ``clip:laion2b`` or ``jina-clip-v2``, made once; tests that change them take a copy."""
    made = Path(tempfile.mkdtemp(prefix="likewise-tiny-clip-"))
    atexit.register(shutil.rmtree, made)
    match family:
        case "clip":
            save_clip(made, vocabulary=vocabulary_of(clip_tokenizer()))
        case "clip:laion2b":
            save_laion(made, vocabulary=vocabulary_of(clip_tokenizer()))
        case _:
            save_jina(made, vocabulary=vocabulary_of(jina_tokenizer()))
    return made


def embedder(name: str, directory: Path | None = None) -> Embedder:
    """A tiny model under a true name, found in a folder as a user's own weights would be."""
    family, _, size = name.partition("@")
    loading = Loading(directory=directory or folder(family))
    if family == "jina-clip-v2":
        return JinaClipEmbedder(int(size or 1024), loading=loading, revision="tiny")
    return ClipEmbedder("laion2b" if family == "clip:laion2b" else "openai", loading=loading, revision="tiny")
