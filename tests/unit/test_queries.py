"""Queries and passages: each with its prompt; the latest queries are embedded once, for all collections and threads."""

from __future__ import annotations

import gc
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import likewise
from likewise import CollectionSpec, Embedder, InvalidArgument, ModelCard, Record
from likewise.abc import query_cache
from likewise.abc.query_cache import QueryCache, cache_of
from likewise.embedding import register_embedder


class Counting(Embedder):
    """Knows what it was asked, and that questions and answers are not said alike."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    @property
    def card(self) -> ModelCard:
        return ModelCard("counting", 2, ("text",), query_prompt="query: ", passage_prompt="passage: ")

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        for text in texts:
            if not isinstance(text, str):
                raise InvalidArgument("not a text")
        self.seen.extend(texts)
        return np.array([[1.0, float("red" in text)] for text in texts], np.float32)


@pytest.fixture
def model() -> Counting:
    model = Counting()
    register_embedder("counting", lambda _: model)
    return model


def test_records_are_passages_and_searches_are_queries(model: Counting) -> None:
    with likewise.connect("memory://") as store:
        things = store.ensure_collection(CollectionSpec("things", embedder="counting"))
        things.upsert([Record("a", content="a red dress"), Record("b", content="a hat")])
        assert model.seen == ["passage: a red dress", "passage: a hat"]
        assert things.search("red")[0].id == "a"
        assert model.seen[2:] == ["query: red"]


def test_a_query_is_embedded_once_for_all_collections(model: Counting) -> None:
    with likewise.connect("memory://") as store:
        for name in ("one", "two"):
            things = store.ensure_collection(CollectionSpec(name, embedder="counting"))
            things.upsert(Record("a", [1.0, 0.5]))
            for _ in range(3):
                assert [r.id for r in things.search("red")] == ["a"]
        assert model.seen == ["query: red"]
        for wrong in (7, ["red"]):
            with pytest.raises(InvalidArgument, match="not a text"):
                things.search(wrong)  # type: ignore[arg-type]


def test_the_query_asked_longest_ago_is_forgotten_first() -> None:
    cache = QueryCache(most=2)
    vectors = {name: np.array([float(i)], np.float32) for i, name in enumerate("abc")}
    cache.put("a", vectors["a"])
    cache.put("b", vectors["b"])
    assert cache.get("a") is vectors["a"]
    cache.put("c", vectors["c"])
    assert [cache.get(name) is not None for name in "abc"] == [True, False, True]
    assert len(cache) == 2
    cache.put("x" * 1_001, vectors["a"])
    assert cache.get("x" * 1_001) is None


class Failing(Counting):
    """Answers with what is no vector, the first time."""

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        vectors = super().embed_texts(texts)
        return vectors if len(self.seen) > 1 else vectors * np.float32("nan")


def test_an_answer_that_is_no_vector_is_not_remembered() -> None:
    model = Failing()
    register_embedder("failing", lambda _: model)
    with likewise.connect("memory://") as store:
        things = store.ensure_collection(CollectionSpec("things", embedder="failing"))
        things.upsert(Record("a", [1.0, 0.5]))
        with pytest.raises(InvalidArgument, match="finite"):
            things.search("red")
        assert [r.id for r in things.search("red")] == ["a"]


@dataclass
class Reusing(Counting):
    """A dataclass, so that it cannot be hashed; and one array for all its answers."""

    def __post_init__(self) -> None:
        super().__init__()
        self.answer = np.zeros((1, 2), np.float32)

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.answer[0] = super().embed_texts(texts)[-1]
        return self.answer


def test_any_object_may_be_an_embedder_and_use_its_array_again() -> None:
    model = Reusing()
    register_embedder("reusing", lambda _: model)
    with likewise.connect("memory://") as store:
        things = store.ensure_collection(CollectionSpec("things", embedder="reusing"))
        things.upsert([Record("red", [1.0, 1.0]), Record("grey", [1.0, 0.0])])
        for _ in range(2):
            assert [things.search(text)[0].id for text in ("red", "grey")] == ["red", "grey"]
    assert model.seen == ["query: red", "query: grey"]


def test_what_is_remembered_goes_with_the_model() -> None:
    model = Counting()
    cache_of(model).put("a", np.zeros(2, np.float32))
    assert cache_of(model) is cache_of(model)
    key = id(model)
    assert key in query_cache._caches
    del model
    gc.collect()
    assert key not in query_cache._caches


def test_threads_share_it() -> None:
    cache = QueryCache(most=50)
    raised: list[Any] = []

    def use(seed: int) -> None:
        rng = np.random.default_rng(seed)
        try:
            for _ in range(2_000):
                text = str(rng.integers(100))
                known = cache.get(text)
                assert known is None or known[0] == float(text)
                cache.put(text, np.array([float(text)], np.float32))
        except AssertionError as error:
            raised.append(error)

    threads = [threading.Thread(target=use, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not raised
    assert len(cache) == 50
