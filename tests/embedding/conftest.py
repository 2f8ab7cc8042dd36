"""A server for each test, embedders of it that wait for nothing, and an environment without keys."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from likewise.embedding import OpenAIEmbedder

from .openai_server import Server, serving

KEY = "sk-test-0123456789abcdef"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(f"LIKEWISE_{name}", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as server:
        yield server


@pytest.fixture
def waits() -> list[float]:
    """The seconds that embedders would have waited before asking again."""
    return []


@pytest.fixture
def embedder_of(server: Server, waits: list[float]) -> Iterator[Callable[..., OpenAIEmbedder]]:
    """Makes embedders of the server, of dimension 4 unless told otherwise."""
    made: list[OpenAIEmbedder] = []

    def make(model: str = "tiny", **options: Any) -> OpenAIEmbedder:
        if model == "tiny":
            options = {"dimensions": 4} | options
        embedder = OpenAIEmbedder(model, **{"base_url": server.url, "api_key": KEY} | options)

        def wait(stop: threading.Event, seconds: float) -> bool:
            waits.append(seconds)
            return stop.is_set()

        embedder._server.wait = wait
        made.append(embedder)
        return embedder

    yield make
    for embedder in made:
        embedder.close()
