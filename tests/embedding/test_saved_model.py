"""What is read of a model that sentence-transformers saved: what is understood, and what is left to the library."""

from __future__ import annotations

import json
from typing import Any

import pytest

from likewise.embedding._saved_model import SavedModel, prompts_of, read_saved_model

from .saved import PREFIX, files


def read(content: dict[str, Any]) -> SavedModel | None:
    asked: list[str] = []

    def file(name: str) -> bytes | None:
        asked.append(name)
        value = content.get(name)
        return value if isinstance(value, bytes) or value is None else json.dumps(value).encode()

    found = read_saved_model(file)
    assert not [name for name in asked if ".." in name or name.startswith("/")], "only files of the model are read"
    return found


@pytest.mark.parametrize("new", [False, True])
def test_a_text_model_is_understood_as_any_version_saves_it(new: bool) -> None:
    assert read(files(new=new)) == SavedModel(8, 64, "", "")
    assert read(files(new=new, kinds=("Transformer", "Pooling"))) == SavedModel(8, 64, "", "")
    assert read(files(new=new, kinds=("Transformer", "Pooling", "Dense", "Normalize"))) == SavedModel(5, 64, "", "")


def test_what_pooling_puts_side_by_side_is_counted() -> None:
    old, new = files(), files(new=True)
    old["1_Pooling/config.json"] = {
        "word_embedding_dimension": 8,
        "pooling_mode_mean_tokens": True,
        "pooling_mode_max_tokens": True,
        "include_prompt": True,
    }
    new["1_Pooling/config.json"] = {"embedding_dimension": 8, "pooling_mode": ["cls", "mean", "max"]}
    assert [found.dimension for found in (read(old), read(new)) if found] == [16, 24]


def test_prompts_are_chosen_as_the_library_does() -> None:
    assert prompts_of({}, None) == ("", "")
    assert prompts_of({"query": "q: ", "document": "d: ", "passage": "p: "}, None) == ("q: ", "d: ")
    assert prompts_of({"query": "q: ", "corpus": "c: "}, None) == ("q: ", "c: ")
    assert prompts_of({"query": "q: ", "s2s": "s: "}, "s2s") == ("q: ", "s: ")
    assert prompts_of({"s2s": "s: "}, None) == ("", "")
    with pytest.raises(TypeError):
        prompts_of({"query": 5}, None)  # type: ignore[dict-item]


def test_the_longest_text_is_the_smallest_limit_that_is_one() -> None:
    content = files(new=True)
    content["tokenizer_config.json"] = {"model_max_length": 10**30}
    assert read(content) == SavedModel(8, 512, "", "")
    content["config.json"] = {"hidden_size": 8}
    assert read(content) == SavedModel(8, None, "", "")
    del content["tokenizer_config.json"]
    assert read(content) == SavedModel(8, None, "", "")


def test_a_model_that_was_saved_shorter_is_shorter() -> None:
    assert read(files(truncate_dim=3)) == SavedModel(3, 64, "", "")
    assert read(files(truncate_dim=30)) == SavedModel(8, 64, "", "")


def with_module(**changed: object) -> dict[str, object]:
    content = files()
    modules = content["modules.json"]
    assert isinstance(modules, list)
    modules[1] |= changed
    return content


@pytest.mark.parametrize(
    "content",
    [
        {},
        files() | {"modules.json": []},
        files() | {"modules.json": {}},
        files() | {"modules.json": b"not json"},
        files() | {"modules.json": b"\xff\xfe"},
        files() | {"modules.json": [5]},
        files(kinds=("CLIPModel",)),
        files(kinds=("Transformer", "Router")),
        files(kinds=("StaticEmbedding",)),
        files() | {"sentence_bert_config.json": {"modality_config": {"text": {}, "image": {}}}},
        files() | {"config.json": {"hidden_size": "8"}},
        files() | {"config.json": {"hidden_size": True}},
        files() | {"config.json": {"hidden_size": 10**9}},
        files() | {"config.json": {}},
        files() | {"1_Pooling/config.json": {"word_embedding_dimension": 8}},
        files(prompts={"query": 5}),  # type: ignore[dict-item]
        with_module(path="../1_Pooling"),
        with_module(path="/etc"),
        with_module(path="a/../../b"),
        with_module(path="..\\b"),
        with_module(path="C:b"),
        with_module(path=5),
        with_module(type=f"{PREFIX}Unknown"),
    ],
    ids=str,
)
def test_what_is_not_understood_is_left_to_the_library(content: dict[str, Any]) -> None:
    assert read(content) is None


def test_deep_json_is_no_crash() -> None:
    assert read(files() | {"modules.json": b"[" * 100_000}) is None
