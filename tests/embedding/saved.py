"""The small files of a model that sentence-transformers saved, as its versions write them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

__all__ = ["files", "save_files"]

PREFIX = "sentence_transformers.models."


def files(
    *,
    width: int = 8,
    kinds: Sequence[str] = ("Transformer", "Pooling", "Normalize"),
    prompts: Mapping[str, str] | None = None,
    new: bool = False,
    **settings: object,
) -> dict[str, object]:
    """The files by their names; ``new`` as version 6 writes them, else as version 2 did."""
    modules: list[dict[str, object]] = []
    content: dict[str, object] = {
        "modules.json": modules,
        "config.json": {"hidden_size": width, "max_position_embeddings": 512},
        "config_sentence_transformers.json": {"prompts": dict(prompts or {}), **settings},
        "tokenizer_config.json": {"model_max_length": 64},
        "sentence_bert_config.json": {"modality_config": {"text": {}}} if new else {"max_seq_length": 64},
    }
    for number, kind in enumerate(kinds):
        path = "" if number == 0 else f"{number}_{kind}"
        modules.append({"idx": number, "name": str(number), "path": path, "type": f"{PREFIX}{kind}"})
        if kind == "Pooling":
            content[f"{path}/config.json"] = (
                {"embedding_dimension": width, "pooling_mode": "mean"}
                if new
                else {
                    "word_embedding_dimension": width,
                    "pooling_mode_cls_token": False,
                    "pooling_mode_mean_tokens": True,
                }
            )
        elif kind == "Dense":
            content[f"{path}/config.json"] = {"in_features": width, "out_features": 5, "bias": True}
    return content


def save_files(folder: Path, **known: object) -> Path:
    """The files in a folder, without weights."""
    for name, content in files(**known).items():  # type: ignore[arg-type]
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps(content), "utf-8")
    return folder
