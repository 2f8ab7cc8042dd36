"""Workers for tests: in a thread, with models that do as they are told; and as processes that can be killed."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

import likewise
from likewise import ModelCard
from likewise.abc.embedder import Embedder
from likewise.embedding import HashingEmbedder
from likewise.errors import InvalidArgument
from likewise.worker import Worker, WorkerThread

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[2]


class Told(HashingEmbedder):
    """A model that waits while ``gate`` is closed, refuses texts with "refuse" in them, and breaks at those with "break"."""

    def __init__(self, revision: str = "1", dimension: int = 16) -> None:
        super().__init__(dimension)
        self._told = ModelCard("told", dimension, ("text",), revision=revision, query_prompt="ask: ")
        self.gate = threading.Event()
        self.gate.set()
        self.calls: list[list[str]] = []

    @property
    def card(self) -> ModelCard:
        return self._told

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.calls.append(list(texts))
        assert self.gate.wait(30)
        if any("refuse" in text for text in texts):
            raise InvalidArgument("a text that is refused")
        if any("break" in text for text in texts):
            raise RuntimeError("a secret of the worker's machine")
        return super().embed_texts(texts)


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def models(told: Told) -> Callable[[str], Embedder]:
    from likewise.embedding import load_embedder

    return lambda name: told if name == "told" else load_embedder(name)


@pytest.fixture
def url(fresh_database_url: str) -> str:
    """A database in which Likewise is installed."""
    with likewise.connect(fresh_database_url) as store:
        store.install()  # type: ignore[attr-defined]
    return fresh_database_url


@pytest.fixture
def worker(url: str, models: Callable[[str], Embedder]) -> Iterator[Worker]:
    """A worker in a thread of this process, which offers ``told`` and ``hashing:16``."""
    with WorkerThread(Worker(url, embedders=models, models=["told", "hashing:16"])) as thread:
        wait_until(lambda: thread.worker.leads)
        yield thread.worker


@pytest.fixture
def client(url: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("set likewise.embed_timeout = '10s'")
        yield connection


def wait_until(true: Callable[[], bool], seconds: float = 15.0) -> None:
    """Until something has happened."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it has not happened"
        time.sleep(0.01)


@contextlib.contextmanager
def process(url: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """``likewise worker`` as a process, killed at the end of the block if it has not ended."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, "-m", "likewise.cli.main", "worker", "--database", url, *arguments]
    with subprocess.Popen(
        command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as running:
        try:
            yield running
        finally:
            if running.poll() is None:
                running.send_signal(signal.SIGKILL)
            running.communicate()


def says(running: subprocess.Popen[str], word: str) -> None:
    """Wait for a line on stderr with this word in it."""
    assert running.stderr is not None
    for line in running.stderr:
        if word in line:
            return
    raise AssertionError(f"the worker ended without saying {word!r}")
