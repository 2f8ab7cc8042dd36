"""One contestant of ``embedding_throughput.py``, in a process and an environment of its own: embeds what it is told and says how long it took.

    python _embedders.py make FOLDER                 write the model, with random weights; needs torch and transformers
    python _embedders.py NAME FOLDER --threads 2     read lines of JSON, {"texts": […]}, and answer each with a line

What is not of the contestant's own library is imported by none but it.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import importlib
import importlib.util
import json
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Embed = Callable[[Sequence[str]], NDArray[np.float32]]
LONGEST = 128


# The model: MiniLM-L6's true architecture with random weights, saved for each way of running it.


def make(folder: Path) -> None:
    """``sentence-transformers``, ``onnx/model.onnx`` (token vectors) beside it, and ``mini``, a folder as that of the shipped model."""
    torch: Any = importlib.import_module("torch")
    transformers: Any = importlib.import_module("transformers")
    mini = Path(str(importlib.import_module("likewise.embedding.mini").__file__)).parent / "models" / "mini"
    torch.manual_seed(1)
    # https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2/blob/main/config.json
    config = transformers.BertConfig(
        vocab_size=30_522,
        hidden_size=384,
        num_hidden_layers=6,
        num_attention_heads=12,
        intermediate_size=1_536,
        max_position_embeddings=512,
    )
    model = transformers.BertModel(config, add_pooling_layer=False).eval()
    base = folder / "sentence-transformers"
    model.save_pretrained(base)
    shutil.copy(mini / "tokenizer.json", base / "vocabulary.json")
    words = transformers.BertTokenizerFast(tokenizer_file=str(base / "vocabulary.json"), model_max_length=LONGEST)
    (base / "vocabulary.json").unlink()
    words.save_pretrained(base)
    kinds = {"Transformer": "", "Pooling": "1_Pooling", "Normalize": "2_Normalize"}
    written: dict[str, object] = {
        "modules.json": [
            {"idx": place, "name": str(place), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for place, (kind, path) in enumerate(kinds.items())
        ],
        "sentence_bert_config.json": {"max_seq_length": LONGEST, "do_lower_case": False},
        "1_Pooling/config.json": {"word_embedding_dimension": 384, "pooling_mode_mean_tokens": True},
        "special_tokens_map.json": {
            "cls_token": "[CLS]",
            "pad_token": "[PAD]",
            "sep_token": "[SEP]",
            "unk_token": "[UNK]",
        },
    }
    for name, content in written.items():
        (base / name).parent.mkdir(exist_ok=True)
        (base / name).write_text(json.dumps(content), "utf-8")
    (base / "2_Normalize").mkdir()

    class Tokens(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, ids: Any, mask: Any, types: Any) -> Any:
            return self.model(input_ids=ids, attention_mask=mask, token_type_ids=types).last_hidden_state

    class Whole(Tokens):
        def forward(self, ids: Any, mask: Any, types: Any) -> Any:
            tokens = super().forward(ids, mask, types)
            weights = mask.unsqueeze(-1).float()
            mean = (tokens * weights).sum(1) / weights.sum(1).clamp(min=1e-9)
            return torch.nn.functional.normalize(mean, dim=1)

    sample = tuple(torch.ones(2, 9, dtype=torch.long) for _ in range(3))
    names = ["input_ids", "attention_mask", "token_type_ids"]
    for module, path, output in (
        (Tokens(), base / "onnx" / "model.onnx", "last_hidden_state"),
        (Whole(), folder / "mini" / "text_encoder.onnx", "text_embeds"),
    ):
        path.parent.mkdir(parents=True)
        axes = {name: {0: "batch", 1: "sequence"} for name in names} | {output: {0: "batch"}}
        with torch.no_grad():
            torch.onnx.export(
                module.eval(),
                sample,
                str(path),
                input_names=names,
                output_names=[output],
                dynamic_axes=axes,
                opset_version=17,
                dynamo=False,
            )
    shutil.copy(mini / "tokenizer.json", folder / "mini" / "tokenizer.json")
    sums = [
        f"{hashlib.sha256((folder / 'mini' / name).read_bytes()).hexdigest()}  {name}"
        for name in ("text_encoder.onnx", "tokenizer.json")
    ]
    (folder / "mini" / "SHA256SUMS").write_text("\n".join(sums) + "\n", "ascii")


# The contestants: each gives a function from texts to unit vectors, and what it is made of.


def likewise(folder: Path, threads: int) -> tuple[Embed, str]:
    """Likewise's own way of running ONNX models, with the float32 model."""
    about = f"likewise {version('likewise')}, onnxruntime {version('onnxruntime')}"
    if importlib.util.find_spec("likewise.embedding.minilm") is not None:
        hub = importlib.import_module("likewise.embedding._hub")
        module = importlib.import_module("likewise.embedding.minilm")
        loading = hub.Loading(directory=folder / "sentence-transformers", threads=threads)
        return module.MiniLMEmbedder(loading=loading, revision="random").embed_texts, f"minilm, {about}"
    mini = importlib.import_module("likewise.embedding")
    return mini.MiniEmbedder(directory=folder / "mini", threads=threads).embed_texts, about


def likewise_mini(folder: Path, threads: int) -> tuple[Embed, str]:
    """The shipped model, in int8."""
    embedding = importlib.import_module("likewise.embedding")
    return embedding.MiniEmbedder(threads=threads).embed_texts, f"mini (int8), likewise {version('likewise')}"


def hand_written(folder: Path, threads: int) -> tuple[Embed, str]:
    """What a careful user of ONNX Runtime would write: sorted by tokens, eight at a time, padded to the longest of the eight."""
    runtime: Any = importlib.import_module("onnxruntime")
    tokenizers: Any = importlib.import_module("tokenizers")
    words = tokenizers.Tokenizer.from_file(str(folder / "mini" / "tokenizer.json"))
    words.no_padding()
    words.enable_truncation(LONGEST)
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    session = runtime.InferenceSession(
        str(folder / "sentence-transformers" / "onnx" / "model.onnx"), options, providers=["CPUExecutionProvider"]
    )

    def embed(texts: Sequence[str]) -> NDArray[np.float32]:
        ids = [each.ids for each in words.encode_batch(list(texts))]
        order = sorted(range(len(ids)), key=lambda place: len(ids[place]))
        result = np.empty((len(ids), 384), np.float32)
        for start in range(0, len(order), 8):
            places = order[start : start + 8]
            longest = len(ids[places[-1]])
            padded = np.zeros((len(places), longest), np.int64)
            mask = np.zeros_like(padded)
            for row, place in enumerate(places):
                padded[row, : len(ids[place])] = ids[place]
                mask[row, : len(ids[place])] = 1
            inputs = {"input_ids": padded, "attention_mask": mask, "token_type_ids": np.zeros_like(padded)}
            tokens = session.run(None, inputs)[0]
            mean = (tokens * mask[:, :, None]).sum(axis=1) / mask.sum(axis=1, keepdims=True)
            result[places] = mean / np.linalg.norm(mean, axis=1, keepdims=True)
        return result

    return embed, f"onnxruntime {version('onnxruntime')}, tokenizers {version('tokenizers')}"


def sentence_transformers(folder: Path, threads: int) -> tuple[Embed, str]:
    """sentence-transformers as it comes: float32, 32 at a time."""
    _torch_threads(threads)
    library: Any = importlib.import_module("sentence_transformers")
    model = library.SentenceTransformer(str(folder / "sentence-transformers"), device="cpu")
    about = f"sentence-transformers {version('sentence-transformers')}, torch {version('torch')}"
    return lambda texts: np.asarray(model.encode(list(texts)), np.float32), about


def likewise_bf16(folder: Path, threads: int) -> tuple[Embed, str]:
    """``sentence-transformers:…`` of Likewise in bfloat16."""
    _torch_threads(threads)
    embedding = importlib.import_module("likewise.embedding")
    model = embedding.SentenceTransformersEmbedder(
        str(folder / "sentence-transformers"), dtype="bfloat16", device="cpu"
    )
    return model.embed_texts, f"likewise {version('likewise')}, torch {version('torch')}"


def _torch_threads(threads: int) -> None:
    torch: Any = importlib.import_module("torch")
    torch.set_num_threads(threads)


def _listed(folder: Path) -> Any:
    """fastembed, with the model on its list."""
    library: Any = importlib.import_module("fastembed")
    described: Any = importlib.import_module("fastembed.common.model_description")
    library.TextEmbedding.add_custom_model(
        model="random/minilm",
        pooling=described.PoolingType.MEAN,
        normalization=True,
        sources=described.ModelSource(hf="random/minilm"),
        dim=384,
        model_file="onnx/model.onnx",
    )
    return library


def fastembed(folder: Path, threads: int) -> tuple[Embed, str]:
    """fastembed as it comes: 256 at a time, in the order given."""
    model = _listed(folder).TextEmbedding(
        "random/minilm", threads=threads, specific_model_path=str(folder / "sentence-transformers")
    )
    about = f"fastembed {version('fastembed')}, onnxruntime {version('onnxruntime')}"
    return lambda texts: np.asarray(list(model.embed(list(texts))), np.float32), about


def likewise_fastembed(folder: Path, threads: int) -> tuple[Embed, str]:
    """``fastembed:…`` of Likewise."""
    _listed(folder)
    embedding = importlib.import_module("likewise.embedding")
    model = embedding.FastEmbedEmbedder("random/minilm", directory=folder / "sentence-transformers", threads=threads)
    return model.embed_texts, f"likewise {version('likewise')}, fastembed {version('fastembed')}"


CONTESTANTS: dict[str, Callable[[Path, int], tuple[Embed, str]]] = {
    "likewise": likewise,
    "hand_written": hand_written,
    "sentence_transformers": sentence_transformers,
    "likewise_bf16": likewise_bf16,
    "fastembed": fastembed,
    "likewise_fastembed": likewise_fastembed,
    "likewise_mini": likewise_mini,
}


def serve(name: str, folder: Path, threads: int) -> None:
    """Answer each line with the seconds and the processor's seconds that its texts took, and the first vectors, to be compared."""
    answers, sys.stdout = sys.stdout, sys.stderr  # What a library prints is no answer.
    embed, about = CONTESTANTS[name](folder, threads)
    embed(["Something to warm up with.", "And another."])
    print(json.dumps({"about": about}), file=answers, flush=True)
    for line in sys.stdin:
        texts = json.loads(line)["texts"]
        started, used = time.perf_counter(), time.process_time()
        rows = embed(texts)
        taken = {"seconds": time.perf_counter() - started, "processor": time.process_time() - used}
        assert rows.shape == (len(texts), 384)
        first = base64.b64encode(np.ascontiguousarray(rows[:32], "<f4").tobytes()).decode("ascii")
        print(json.dumps({**taken, "rows": first}), file=answers, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=["make", *CONTESTANTS])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    if options.name == "make":
        make(options.folder)
    else:
        serve(options.name, options.folder, options.threads)


if __name__ == "__main__":
    main()
