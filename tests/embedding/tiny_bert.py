"""Text encoders of the true architecture and file layout, small and with random weights, and what they compute, in plain NumPy.

``write_bert`` and ``write_xlm_roberta`` make a folder as the hub has it: ``config.json``, ``tokenizer.json``, ``onnx/model.onnx`` and
``model.safetensors``. ``forward`` reads the weights from the last of these, and knows nothing of ONNX.
"""

from __future__ import annotations

import json
import math
import string
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file, save_file
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

Array = NDArray[np.float32]

_WORDS = (
    "the a of and to in is it on for with as at by from cat dog red green dress ferry leaves noon bread needs hot oven small "
    "large house water runs jump ##ing ##ed ##s ##er over lazy quick brown fox sleeps under tree"
)
WORDS = _WORDS.split()


@dataclass(frozen=True)
class Shape:
    """The numbers in ``config.json``."""

    dimension: int = 384
    heads: int = 12
    layers: int = 2
    inner: int = 96
    positions: int = 512
    types: int = 2
    pad: int = 0
    epsilon: float = 1e-12
    #: XLM-RoBERTa counts its positions from the token after the padding's number, over what is no padding.
    roberta: bool = False


def bert_tokenizer(*, max_length: int = 128) -> Tokenizer:
    """WordPiece with BERT's rules. Like the true file it cuts and pads, which is not what is wanted of it."""
    letters = string.ascii_lowercase + string.digits + string.punctuation + "éü日本"
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{c}" for c in letters), *WORDS]
    tokenizer = Tokenizer(models.WordPiece({w: i for i, w in enumerate(dict.fromkeys(vocabulary))}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.enable_truncation(max_length)
    tokenizer.enable_padding(length=max_length)
    return tokenizer


def xlm_roberta_tokenizer() -> Tokenizer:
    """Unigram with SentencePiece's blanks."""
    letters = [*string.ascii_letters, *string.digits, *string.punctuation, "é", "ü", "日", "本"]
    scored = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -3.0)]
    scored += [(f"▁{w}", -4.0) for w in WORDS if not w.startswith("##")]
    scored += [(w.removeprefix("##"), -6.0) for w in WORDS if w.startswith("##") and len(w) > 3]
    scored += [(c, -9.0) for c in letters]
    tokenizer = Tokenizer(models.Unigram(scored, unk_id=3))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    tokenizer.add_special_tokens(["<s>", "<pad>", "</s>", "<unk>"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return tokenizer


def random_weights(shape: Shape, vocabulary: int, seed: int) -> dict[str, Array]:
    """Weights under the names that they have in the published files."""
    random = np.random.default_rng(seed)

    def normal(*size: int, scale: float = 0.1) -> Array:
        return random.normal(0, scale, size).astype(np.float32)

    d, inner = shape.dimension, shape.inner
    weights = {
        "embeddings.word_embeddings.weight": normal(vocabulary, d, scale=1.0),
        "embeddings.position_embeddings.weight": normal(shape.positions, d, scale=0.3),
        "embeddings.token_type_embeddings.weight": normal(shape.types, d),
        "embeddings.LayerNorm.weight": 1 + normal(d),
        "embeddings.LayerNorm.bias": normal(d),
    }
    for i in range(shape.layers):
        layer = f"encoder.layer.{i}."
        for part in ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"):
            weights[f"{layer}{part}.weight"] = normal(d, d, scale=1 / math.sqrt(d))
            weights[f"{layer}{part}.bias"] = normal(d)
        weights[f"{layer}intermediate.dense.weight"] = normal(inner, d, scale=1 / math.sqrt(d))
        weights[f"{layer}intermediate.dense.bias"] = normal(inner)
        weights[f"{layer}output.dense.weight"] = normal(d, inner, scale=1 / math.sqrt(inner))
        weights[f"{layer}output.dense.bias"] = normal(d)
        for part in ("attention.output.LayerNorm", "output.LayerNorm"):
            weights[f"{layer}{part}.weight"] = 1 + normal(d)
            weights[f"{layer}{part}.bias"] = normal(d)
    return weights


# --- in NumPy -----------------------------------------------------------------------------------------------------------------------


def _norm(x: Array, weights: dict[str, Array], name: str, epsilon: float) -> Array:
    centred = x - x.mean(-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + epsilon)
    return np.asarray(scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"], np.float32)


def _linear(x: Array, weights: dict[str, Array], name: str) -> Array:
    return np.asarray(x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"], np.float32)


def forward(folder: Path, ids: list[int]) -> Array:
    """The token vectors of one text: float32 of shape (len(ids), dimension)."""
    config = json.loads((folder / "config.json").read_text())
    weights = load_file(folder / "model.safetensors")
    epsilon, heads = config["layer_norm_eps"], config["num_attention_heads"]
    first = config["pad_token_id"] + 1 if config["model_type"] == "xlm-roberta" else 0
    x = weights["embeddings.word_embeddings.weight"][ids]
    x = x + weights["embeddings.position_embeddings.weight"][first : first + len(ids)]
    x = x + weights["embeddings.token_type_embeddings.weight"][0]
    x = _norm(x, weights, "embeddings.LayerNorm", epsilon)
    for i in range(config["num_hidden_layers"]):
        layer = f"encoder.layer.{i}."
        q, k, v = (_linear(x, weights, f"{layer}attention.self.{part}") for part in ("query", "key", "value"))
        width = x.shape[1] // heads
        mixed = []
        for h in range(heads):
            part = slice(h * width, (h + 1) * width)
            scores = q[:, part] @ k[:, part].T / math.sqrt(width)
            scores = np.exp(scores - scores.max(-1, keepdims=True))
            mixed.append(scores / scores.sum(-1, keepdims=True) @ v[:, part])
        attended = _linear(np.concatenate(mixed, axis=1), weights, f"{layer}attention.output.dense")
        x = _norm(x + attended, weights, f"{layer}attention.output.LayerNorm", epsilon)
        inner = _linear(x, weights, f"{layer}intermediate.dense")
        erf = np.vectorize(math.erf, otypes=[np.float32])(inner / math.sqrt(2))
        x = _norm(
            x + _linear(inner * 0.5 * (1 + erf), weights, f"{layer}output.dense"),
            weights,
            f"{layer}output.LayerNorm",
            epsilon,
        )
    return x


def token_weights(folder: Path, hidden: Array) -> Array:
    """The weight of each token as bge-m3 has it: one linear layer, nothing below 0."""
    weights = load_file(folder / "sparse_linear.safetensors")
    return np.asarray(np.maximum(hidden @ weights["weight"].T + weights["bias"], 0)[:, 0], np.float32)


# --- in ONNX ------------------------------------------------------------------------------------------------------------------------


class Graph:
    """Nodes and constants in the order in which they are made."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def add(self, operator: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        name = output or f"{operator}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], name=name, **attributes))
        return name

    def constant(self, value: Any, name: str | None = None) -> str:
        name = name or f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name


def _onnx_graph(
    shape: Shape, weights: dict[str, Array], inputs: tuple[str, ...], output: str, sparse: dict[str, Array] | None
) -> onnx.ModelProto:
    g = Graph()
    names = {
        name: g.constant(value, name) for name, value in weights.items() if value.ndim == 1 or "embeddings" in name
    }

    def linear(x: str, name: str) -> str:
        return g.add("Add", g.add("MatMul", x, g.constant(weights[f"{name}.weight"].T)), names[f"{name}.bias"])

    def norm(x: str, name: str) -> str:
        return g.add(
            "LayerNormalization", x, names[f"{name}.weight"], names[f"{name}.bias"], axis=-1, epsilon=shape.epsilon
        )

    one, zero = g.constant(np.int64(1)), g.constant(np.int64(0))
    axis = g.constant(np.array([1], np.int64))
    if shape.roberta:
        pad = g.constant(np.int64(shape.pad))
        there = g.add("Cast", g.add("Not", g.add("Equal", "input_ids", pad)), to=TensorProto.INT64)
        counted = g.add("Mul", g.add("CumSum", there, g.constant(np.int64(1))), there)
        positions = g.add("Add", counted, pad)
    else:
        length = g.add("Squeeze", g.add("Gather", g.add("Shape", "input_ids"), axis))
        positions = g.add("Unsqueeze", g.add("Range", zero, length, one), g.constant(np.array([0], np.int64)))
    types = "token_type_ids" if "token_type_ids" in inputs else g.add("Mul", "input_ids", zero)
    x = g.add("Gather", names["embeddings.word_embeddings.weight"], "input_ids")
    x = g.add("Add", x, g.add("Gather", names["embeddings.position_embeddings.weight"], positions))
    x = g.add("Add", x, g.add("Gather", names["embeddings.token_type_embeddings.weight"], types))
    x = norm(x, "embeddings.LayerNorm")
    hidden = g.add("Sub", g.constant(np.float32(1)), g.add("Cast", "attention_mask", to=TensorProto.FLOAT))
    hidden = g.add("Mul", hidden, g.constant(np.float32(np.finfo(np.float32).min)))
    bias = g.add("Unsqueeze", hidden, g.constant(np.array([1, 2], np.int64)))
    width = shape.dimension // shape.heads
    split = g.constant(np.array([0, 0, shape.heads, width], np.int64))
    joined = g.constant(np.array([0, 0, shape.dimension], np.int64))
    for i in range(shape.layers):
        layer = f"encoder.layer.{i}."

        def heads(part: str, order: list[int], x: str = x, layer: str = layer) -> str:
            return g.add("Transpose", g.add("Reshape", linear(x, f"{layer}attention.self.{part}"), split), perm=order)

        scores = g.add("MatMul", heads("query", [0, 2, 1, 3]), heads("key", [0, 2, 3, 1]))
        scores = g.add("Add", g.add("Div", scores, g.constant(np.float32(math.sqrt(width)))), bias)
        mixed = g.add("MatMul", g.add("Softmax", scores, axis=-1), heads("value", [0, 2, 1, 3]))
        mixed = g.add("Reshape", g.add("Transpose", mixed, perm=[0, 2, 1, 3]), joined)
        x = norm(g.add("Add", x, linear(mixed, f"{layer}attention.output.dense")), f"{layer}attention.output.LayerNorm")
        inner = linear(x, f"{layer}intermediate.dense")
        erf = g.add("Erf", g.add("Div", inner, g.constant(np.float32(math.sqrt(2)))))
        gelu = g.add(
            "Mul", g.add("Mul", inner, g.constant(np.float32(0.5))), g.add("Add", erf, g.constant(np.float32(1)))
        )
        last = {"output": output} if i == shape.layers - 1 else {}
        x = g.add("Add", x, linear(gelu, f"{layer}output.dense"))
        name = f"{layer}output.LayerNorm"
        x = g.add(
            "LayerNormalization",
            x,
            names[f"{name}.weight"],
            names[f"{name}.bias"],
            axis=-1,
            epsilon=shape.epsilon,
            **last,
        )
    outputs = [
        helper.make_tensor_value_info(output, TensorProto.FLOAT, ["batch_size", "sequence_length", shape.dimension])
    ]
    if sparse is not None:
        product = g.add("MatMul", x, g.constant(sparse["weight"].T))
        g.add("Relu", g.add("Add", product, g.constant(sparse["bias"])), output="sparse_weights")
        outputs.append(
            helper.make_tensor_value_info("sparse_weights", TensorProto.FLOAT, ["batch_size", "sequence_length", 1])
        )
    given = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["batch_size", "sequence_length"]) for name in inputs
    ]
    graph = helper.make_graph(g.nodes, "encoder", given, outputs, g.constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model


def write_bert(
    folder: Path,
    shape: Shape | None = None,
    *,
    inputs: tuple[str, ...] = ("input_ids", "attention_mask", "token_type_ids"),
    output: str = "last_hidden_state",
    seed: int = 0,
) -> Path:
    """A BERT as sentence-transformers/all-MiniLM-L6-v2 and the English BGE models are published; gives the folder."""
    return _write(folder, shape or Shape(), bert_tokenizer(), "bert", inputs, output, seed)


def write_xlm_roberta(
    folder: Path, shape: Shape | None = None, *, sparse: bool = False, external: bool = True, seed: int = 0
) -> Path:
    """An XLM-RoBERTa as BAAI/bge-m3 is published, its weights beside the graph in ``model.onnx_data``; gives the folder."""
    shape = shape or Shape(dimension=32, heads=4, positions=66, types=1, pad=1, epsilon=1e-5, roberta=True)
    inputs = ("input_ids", "attention_mask")
    return _write(
        folder, shape, xlm_roberta_tokenizer(), "xlm-roberta", inputs, "token_embeddings", seed, sparse, external
    )


def _write(
    folder: Path,
    shape: Shape,
    tokenizer: Tokenizer,
    kind: str,
    inputs: tuple[str, ...],
    output: str,
    seed: int,
    sparse: bool = False,
    external: bool = False,
) -> Path:
    (folder / "onnx").mkdir(parents=True)
    weights = random_weights(shape, tokenizer.get_vocab_size(), seed)
    config = {
        "model_type": kind,
        "hidden_size": shape.dimension,
        "num_attention_heads": shape.heads,
        "num_hidden_layers": shape.layers,
        "intermediate_size": shape.inner,
        "max_position_embeddings": shape.positions,
        "type_vocab_size": shape.types,
        "vocab_size": tokenizer.get_vocab_size(),
        "layer_norm_eps": shape.epsilon,
        "pad_token_id": shape.pad,
        "hidden_act": "gelu",
    }
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    tokenizer.save(str(folder / "tokenizer.json"))
    save_file(weights, folder / "model.safetensors")
    extra: dict[str, Array] | None = None
    if sparse:
        random = np.random.default_rng(seed + 1)
        extra = {
            "weight": random.normal(0, 1, (1, shape.dimension)).astype(np.float32),
            "bias": np.zeros(1, np.float32),
        }
        save_file(extra, folder / "sparse_linear.safetensors")
    model = _onnx_graph(shape, weights, inputs, output, extra)
    path = folder / "onnx" / "model.onnx"
    if external:
        onnx.save_model(model, path, save_as_external_data=True, location="model.onnx_data", size_threshold=256)
        (folder / "onnx" / "Constant_7_attr__value").write_bytes(bytes(64))
    else:
        onnx.save_model(model, path)
    return folder
