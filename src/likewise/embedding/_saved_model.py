"""What a model saved by sentence-transformers says of itself in its JSON files, so that its card is known without its weights.

Pure: files come through a function, and neither that library nor torch may enter here. Whatever is not understood is no fact: the
library is then asked, which loads the model.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

__all__ = ["Reader", "SavedModel", "read_saved_model"]

#: Gives a file of the model's folder by its path there, None if it has none.
Reader: TypeAlias = Callable[[str], "bytes | None"]

#: The names under which models keep the prompt for a query, and for what is to be found; the first that is there counts.
QUERY_PROMPTS, PASSAGE_PROMPTS = ("query",), ("document", "passage", "corpus")


@dataclass(frozen=True, slots=True)
class SavedModel:
    """``dimension`` is that of the model's vectors, ``max_tokens`` None where none is said."""

    dimension: int
    max_tokens: int | None
    query_prompt: str
    passage_prompt: str


def read_saved_model(read: Reader) -> SavedModel | None:
    """The facts of a text model made of a transformer, pooling, and maybe dense layers and normalisation; None of any other."""
    try:
        modules = _json(read, "modules.json")
        if not isinstance(modules, list) or not modules:
            return None
        dimension = max_tokens = None
        for number, module in enumerate(modules):
            kind, path = str(module["type"]).rpartition(".")[2], _inside(module["path"])
            if kind == "Transformer" and number == 0:
                settings = _object(read, f"{path}sentence_bert_config.json", missing={})
                if set(settings.get("modality_config", {"text": {}})) != {"text"}:
                    return None
                config = _object(read, f"{path}config.json")
                dimension = _count(config["hidden_size"])
                max_tokens = _longest(settings, _object(read, f"{path}tokenizer_config.json", missing={}), config)
            elif kind == "Pooling":
                dimension = _pooled(_object(read, f"{path}config.json"))
            elif kind == "Dense":
                dimension = _count(_object(read, f"{path}config.json")["out_features"])
            elif kind != "Normalize":
                return None
        if dimension is None:
            return None
        settings = _object(read, "config_sentence_transformers.json", missing={})
        if settings.get("truncate_dim") is not None:
            dimension = min(dimension, _count(settings["truncate_dim"]))
        query, passage = prompts_of(settings.get("prompts") or {}, settings.get("default_prompt_name"))
        return SavedModel(dimension, max_tokens, query, passage)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        # Damaged, or of a version to come: the library says what is wrong, or understands it.
        return None


def prompts_of(prompts: Mapping[str, str], default: str | None) -> tuple[str, str]:
    """What is put before a query and before a passage, as the library chooses it: by the prompt's name, else the default one."""
    found: list[str] = []
    for names in (QUERY_PROMPTS, PASSAGE_PROMPTS):
        name = next((name for name in names if name in prompts), default)
        prompt = prompts.get(name, "") if name is not None else ""
        if not isinstance(prompt, str):
            raise TypeError(f"the prompt {name!r} is no text")
        found.append(prompt)
    return found[0], found[1]


def _pooled(config: Mapping[str, Any]) -> int:
    """A pooling layer puts what each of its modes gives side by side."""
    width = _count(
        config["word_embedding_dimension" if "word_embedding_dimension" in config else "embedding_dimension"]
    )
    if "pooling_mode" in config:
        modes = config["pooling_mode"]
        return width * (1 if isinstance(modes, str) else _count(len(modes)))
    return width * _count(sum(value is True for name, value in config.items() if name.startswith("pooling_mode_")))


def _longest(settings: Mapping[str, Any], tokenizer: Mapping[str, Any], config: Mapping[str, Any]) -> int | None:
    if settings.get("max_seq_length") is not None:
        return _count(settings["max_seq_length"])
    # A tokenizer without a limit says 10^30.
    said = (tokenizer.get("model_max_length"), config.get("max_position_embeddings"))
    known = [int(number) for number in said if isinstance(number, int | float) and 0 < number < 1_000_000_000]
    return min(known, default=None)


def _count(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 1_000_000:
        raise ValueError(f"{value!r:.40} is no number of anything")
    return value


def _inside(path: object) -> str:
    """The path of a module's folder, with a slash at its end; ValueError if it leads out of the model's folder."""
    if not isinstance(path, str) or path.startswith("/") or "\\" in path or ":" in path or ".." in path.split("/"):
        raise ValueError(f"{path!r:.80} is no folder of the model")
    return f"{path.rstrip('/')}/" if path else ""


def _object(read: Reader, name: str, *, missing: dict[str, Any] | None = None) -> dict[str, Any]:
    found = _json(read, name)
    if found is None and missing is not None:
        return missing
    if not isinstance(found, dict):
        raise ValueError(f"{name} is not an object")
    return found


def _json(read: Reader, name: str) -> Any:
    data = read(name)
    return None if data is None else json.loads(data)
