"""How requests reach a worker is chosen at ``likewise install``: over the log, or through dblink, with the same function and the same errors."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest

from likewise.abc.embedder import Embedder
from likewise.cli.exits import Exit
from likewise.embedding import HashingEmbedder
from likewise.worker import Exposing, Worker, WorkerThread
from worker.conftest import ROOT, process, says, wait_until

PASSWORD = "the worker's own password"


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        found: int = free.getsockname()[1]
    return found


@pytest.fixture
def password(tmp_path: Path) -> str:
    file = tmp_path / "password"
    file.write_text(PASSWORD + "\n", encoding="utf-8")
    return str(file)


def likewise(url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k != "LIKEWISE_WORKER_PASSWORD"}
    return subprocess.run(
        [sys.executable, "-m", "likewise.cli.main", *arguments, "--database", url, "--json"],
        env={**environment, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        check=False,
    )


def ask(connection: psycopg.Connection[Any], text: str) -> list[float]:
    row = connection.execute("select likewise.embed(%s, 'hashing:16')::real[]", [text]).fetchone()
    assert row is not None
    found: list[float] = row[0]
    return found


def test_through_dblink_in_transactions_in_which_the_log_does_not_do(
    dblink_database_url: str, port: int, password: str
) -> None:
    url = dblink_database_url
    done = likewise(
        url, "install", "--transport", "dblink", "--worker", f"127.0.0.1:{port}", "--password-file", password
    )
    assert done.returncode == 0, done.stderr
    assert PASSWORD not in done.stdout + done.stderr
    with psycopg.connect(url, autocommit=True) as connection:
        with pytest.raises(psycopg.Error) as caught:
            ask(connection, "nobody there")
        assert caught.value.sqlstate == "LW001"
        with process(
            url, "--model", "hashing:16", "--listen", f"127.0.0.1:{port}", "--password-file", password
        ) as running:
            says(running, "listening")
            for level in ("read committed", "repeatable read", "serializable"):
                with connection.transaction():
                    connection.execute(f"set transaction isolation level {level} read only")
                    wait_until(lambda: bool(ask_when_ready(url)))
                    assert np.allclose(ask(connection, level), HashingEmbedder(16).embed_queries([level])[0])
            with pytest.raises(psycopg.Error) as caught:
                connection.execute("select likewise.embed('x', 'no-such-model')")
            assert caught.value.sqlstate == "LW005"
        with pytest.raises(psycopg.Error) as caught:
            ask(connection, "gone again")
        assert caught.value.sqlstate == "LW001"
    findings = {f["check"]: f for f in json.loads(likewise(url, "doctor").stdout)["findings"]}
    assert "dblink" in findings["embed() in SQL"]["detail"]
    assert likewise(url, "install", "--transport", "log").returncode == 0
    with psycopg.connect(url, autocommit=True) as connection:
        setting = connection.execute("select value from likewise.setting where name = 'transport'").fetchone()
    assert setting == ("log",)


def ask_when_ready(url: str) -> bool:
    with psycopg.connect(url, autocommit=True) as connection:
        try:
            return bool(ask(connection, "ready?"))
        except psycopg.Error:
            return False


def test_a_worker_without_the_log_is_ready_while_it_listens(url: str, models: Callable[[str], Embedder]) -> None:
    worker = Worker(url, embedders=models, log=False)
    exposing = Exposing("127.0.0.1", 0, worker.metrics, lambda: worker.ready.is_set())
    worker.add(exposing)
    server = worker.listen("127.0.0.1", 0, PASSWORD)
    assert not worker.ready.is_set()
    with WorkerThread(worker):
        assert server.address is not None
        socket.create_connection(server.address).close()
        wait_until(lambda: exposing.address is not None)
        assert exposing.address is not None
        with urllib.request.urlopen("http://{}:{}/health".format(*exposing.address), timeout=5) as response:
            assert response.read() == b"ok\n"
    assert not worker.ready.is_set()


def test_health_before_it_listens(url: str, models: Callable[[str], Embedder]) -> None:
    worker = Worker(url, embedders=models, log=False)
    worker.listen("127.0.0.1", 0, PASSWORD)
    exposing = Exposing("127.0.0.1", 0, worker.metrics, worker.ready.is_set)
    assert exposing._answer(b"GET /health HTTP/1.1")[0] == "503 Service Unavailable"


def test_it_does_not_say_that_it_listens_where_it_cannot(url: str, password: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with process(url, "--listen", address, "--password-file", password) as running:
            _, err = running.communicate(timeout=30)
    assert running.returncode == Exit.INVALID
    assert f"error: the worker cannot listen on {address}" in err
    assert "listening on" not in err


def test_both_at_the_same_time(url: str, port: int, password: str) -> None:
    with process(url, "--model", "hashing:16", "--listen", f"127.0.0.1:{port}", "--password-file", password) as running:
        says(running, "answering")
        with psycopg.connect(url, autocommit=True) as connection:
            assert ask(connection, "over the log")
        with psycopg.connect(
            host="127.0.0.1", port=port, user="likewise", password=PASSWORD, dbname="likewise"
        ) as other:
            done = other.pgconn.exec_(b'EMBED {"kind": "text", "input": "by hand", "model": "hashing:16", "within": 5}')
            assert done.ntuples == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["install", "--transport", "dblink"], "--worker HOST:PORT"),
        (["install", "--transport", "dblink", "--worker", "a:1"], "LIKEWISE_WORKER_PASSWORD"),
        (["install", "--worker", "a:1"], "--transport dblink"),
        (["install", "--transport", "dblink", "--worker", "nowhere"], "no address"),
        (["worker", "--listen", "127.0.0.1:0"], "LIKEWISE_WORKER_PASSWORD"),
        (["worker", "--listen", "127.0.0.1:0", "--password-file", "/no/such/file"], "cannot be read"),
    ],
)
def test_what_is_missing_is_said(url: str, arguments: list[str], said: str) -> None:
    done = likewise(url, *arguments)
    assert done.returncode == 5
    assert said in done.stderr
