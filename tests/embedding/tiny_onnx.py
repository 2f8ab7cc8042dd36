"""Tiny models with random weights, in the true architecture and the file layout that fastembed reads."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import TemplateProcessing

__all__ = ["save_bert", "save_vision", "tokenizer"]

LETTERS = "abcdefghijklmnopqrstuvwxyz"
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *LETTERS, *(f"##{letter}" for letter in LETTERS), "red", "dress"]
OPSET = 17


class Graph:
    """An ONNX graph that grows by one operation at a time; names are made up."""

    def __init__(self, seed: int) -> None:
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        self._rng = np.random.default_rng(seed)

    def constant(self, value: object, kind: type[np.generic] = np.int64) -> str:
        name = f"c{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(value, kind), name))
        return name

    def random(self, *shape: int) -> str:
        return self.constant(self._rng.normal(scale=0.3, size=shape), np.float32)

    def add(self, kind: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        name = output or f"n{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def dense(self, value: str, width: int, to: int) -> str:
        return self.add("Add", self.add("MatMul", value, self.random(width, to)), self.random(to))

    def norm(self, value: str, width: int) -> str:
        ones, zeros = self.constant(np.ones(width), np.float32), self.constant(np.zeros(width), np.float32)
        return self.add("LayerNormalization", value, ones, zeros, epsilon=1e-12)

    def save(self, path: Path, inputs: dict[str, tuple[int, Sequence[str | int]]], output: tuple[str, int]) -> None:
        given = [helper.make_tensor_value_info(name, kind, list(shape)) for name, (kind, shape) in inputs.items()]
        made = helper.make_tensor_value_info(output[0], TensorProto.FLOAT, [None] * output[1])
        graph = helper.make_graph(self.nodes, "tiny", given, [made], self.weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
        onnx.checker.check_model(model)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(model.SerializeToString())


def encoder(graph: Graph, *, width: int, layers: int, heads: int, positions: int) -> str:
    """BERT's encoder (Devlin et al. 2019): token, place and segment embeddings, attention and a two-layer network, each normalised."""
    size = graph.add("Gather", graph.add("Shape", "input_ids"), graph.constant(1), axis=0)
    places = graph.add("Range", graph.constant(0), size, graph.constant(1))
    value = graph.add(
        "Add",
        graph.add(
            "Add",
            graph.add("Gather", graph.random(len(VOCABULARY), width), "input_ids"),
            graph.add("Gather", graph.random(positions, width), places),
        ),
        graph.add("Gather", graph.random(2, width), "token_type_ids"),
    )
    value = graph.norm(value, width)
    mask = graph.add("Cast", graph.add("Unsqueeze", "attention_mask", graph.constant([1, 2])), to=TensorProto.FLOAT)
    hidden = graph.add("Mul", graph.add("Sub", mask, graph.constant(1, np.float32)), graph.constant(1e4, np.float32))
    apart = graph.constant([0, 0, heads, width // heads])
    for _ in range(layers):
        query, key, content = (graph.add("Reshape", graph.dense(value, width, width), apart) for _ in range(3))
        scores = graph.add(
            "MatMul",
            graph.add("Transpose", query, perm=[0, 2, 1, 3]),
            graph.add("Transpose", key, perm=[0, 2, 3, 1]),
        )
        scores = graph.add("Div", scores, graph.constant((width // heads) ** 0.5, np.float32))
        weights = graph.add("Softmax", graph.add("Add", scores, hidden), axis=-1)
        mixed = graph.add("MatMul", weights, graph.add("Transpose", content, perm=[0, 2, 1, 3]))
        joined = graph.add("Reshape", graph.add("Transpose", mixed, perm=[0, 2, 1, 3]), graph.constant([0, 0, width]))
        value = graph.norm(graph.add("Add", value, graph.dense(joined, width, width)), width)
        inner = graph.dense(value, width, 4 * width)
        erf = graph.add("Erf", graph.add("Div", inner, graph.constant(2**0.5, np.float32)))
        half = graph.add("Mul", inner, graph.constant(0.5, np.float32))
        gelu = graph.add("Mul", half, graph.add("Add", erf, graph.constant(1, np.float32)))
        value = graph.norm(graph.add("Add", value, graph.dense(gelu, 4 * width, width)), width)
    return value


def tokenizer() -> Tokenizer:
    """A BERT tokenizer that knows letters and two words."""
    made = Tokenizer(WordPiece({word: place for place, word in enumerate(VOCABULARY)}, unk_token="[UNK]"))
    made.normalizer = BertNormalizer(lowercase=True)
    made.pre_tokenizer = BertPreTokenizer()
    made.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    return made


def save_bert(
    folder: Path, *, width: int = 32, layers: int = 2, positions: int = 64, seed: int = 1, one_vector: int = 0
) -> Path:
    """A model's folder: ``onnx/model.onnx`` with its configuration and tokenizer. ``one_vector`` gives the text's vector of so many
    numbers, as CLIP's text side does, and not one for each token."""
    graph = Graph(seed)
    value = encoder(graph, width=width, layers=layers, heads=4, positions=positions)
    if one_vector:
        first = graph.add("Gather", value, graph.constant(0), axis=1)
        graph.add("MatMul", first, graph.random(width, one_vector), output="text_embeds")
    else:
        graph.add("Identity", value, output="last_hidden_state")
    integers = (TensorProto.INT64, ("batch", "sequence"))
    names = ("input_ids", "attention_mask", "token_type_ids")
    output = ("text_embeds", 2) if one_vector else ("last_hidden_state", 3)
    graph.save(folder / ("model.onnx" if one_vector else "onnx/model.onnx"), dict.fromkeys(names, integers), output)
    tokenizer().save(str(folder / "tokenizer.json"))
    special = {"cls_token": "[CLS]", "pad_token": "[PAD]", "sep_token": "[SEP]", "unk_token": "[UNK]"}
    for name, content in {
        "config.json": {"model_type": "bert", "hidden_size": width, "pad_token_id": 0},
        "special_tokens_map.json": special,
        "tokenizer_config.json": {"model_max_length": positions, "tokenizer_class": "BertTokenizer", **special},
    }.items():
        (folder / name).write_text(json.dumps(content), "utf-8")
    return folder


def save_vision(folder: Path, *, dimension: int, side: int = 32, seed: int = 2) -> Path:
    """The folder of CLIP's side for pictures, with patches in place of its transformer: ``model.onnx``, ``preprocessor_config.json``."""
    graph = Graph(seed)
    patches = graph.add("Conv", "pixel_values", graph.random(16, 3, 8, 8), strides=[8, 8])
    mean = graph.add("ReduceMean", graph.add("Tanh", patches), axes=[2, 3], keepdims=0)
    graph.add("MatMul", mean, graph.random(16, dimension), output="image_embeds")
    graph.save(
        folder / "model.onnx",
        {"pixel_values": (TensorProto.FLOAT, ("batch", 3, side, side))},
        ("image_embeds", 2),
    )
    settings = {
        "image_processor_type": "CLIPImageProcessor",
        "do_resize": True,
        "size": {"shortest_edge": side},
        "do_center_crop": True,
        "crop_size": {"height": side, "width": side},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
        "resample": 3,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(settings), "utf-8")
    return folder


def by_hand(folder: Path, text: str) -> NDArray[np.float32]:
    """The unit vector of one text by the folder's model, alone and without padding: the mean of its token vectors."""
    import onnxruntime

    encoding = Tokenizer.from_file(str(folder / "tokenizer.json")).encode(text)
    inputs = {
        "input_ids": np.array([encoding.ids], np.int64),
        "attention_mask": np.ones((1, len(encoding.ids)), np.int64),
        "token_type_ids": np.zeros((1, len(encoding.ids)), np.int64),
    }
    session = onnxruntime.InferenceSession(str(folder / "onnx/model.onnx"), providers=["CPUExecutionProvider"])
    mean = np.asarray(session.run(None, inputs)[0][0], np.float32).mean(axis=0)
    return np.asarray(mean / np.linalg.norm(mean), np.float32)
