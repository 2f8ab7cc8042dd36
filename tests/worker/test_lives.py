"""Workers come and go: one takes over from another that is killed, connections are lost, and a stop loses nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
from psycopg import sql

import likewise
from likewise.abc.embedder import Embedder
from likewise.embedding import HashingEmbedder
from likewise.errors import BackendError, BackendUnavailable, UnsupportedFeature
from likewise.worker import Exposing, Watching, Worker, WorkerThread, post
from worker.conftest import ROOT, Told, process, says, wait_until

Client = psycopg.Connection[Any]


def ask(client: Client, text: str, model: str = "hashing:16") -> list[float]:
    row = client.execute("select likewise.embed(%s, %s)::real[]", [text, model]).fetchone()
    assert row is not None
    found: list[float] = row[0]
    return found


class Asking(threading.Thread):
    """One caller in a thread; ``result`` is the vector or the error."""

    def __init__(self, url: str, text: str, model: str) -> None:
        super().__init__()
        self._url, self._text, self._model = url, text, model
        self.result: list[float] | psycopg.Error | None = None
        self.start()

    def run(self) -> None:
        with psycopg.connect(self._url, autocommit=True) as connection:
            connection.execute("set likewise.embed_timeout = '15s'")
            try:
                self.result = ask(connection, self._text, self._model)
            except psycopg.Error as error:
                self.result = error


def test_another_worker_takes_over_at_once_with_the_requests_of_the_first(url: str, client: Client) -> None:
    with process(url, "--model", "hashing:16") as first:
        says(first, "answering")
        with process(url, "--model", "hashing:16") as second:
            says(second, "ready to take over")
            # The first one is stopped in the middle: its requests are read, and not answered.
            first.send_signal(signal.SIGSTOP)
            callers = [Asking(url, f"unanswered {i}", "hashing:16") for i in range(5)]
            time.sleep(0.3)
            assert all(caller.is_alive() for caller in callers)
            first.kill()
            began = time.monotonic()
            for i, caller in enumerate(callers):
                caller.join()
                assert isinstance(caller.result, list), caller.result
                assert np.allclose(caller.result, HashingEmbedder(16).embed_queries([f"unanswered {i}"])[0])
            assert time.monotonic() - began < 8  # less than who asks waits
            wait_until(lambda: client.execute("select count(*) from pg_replication_slots").fetchone() == (1,))
            second.send_signal(signal.SIGTERM)
            assert second.wait(10) == 0
    wait_until(lambda: client.execute("select count(*) from pg_replication_slots").fetchone() == (0,))


def test_a_caller_whose_only_worker_is_killed_gets_an_error_at_once(url: str, client: Client) -> None:
    with process(url, "--model", "hashing:16") as only:
        says(only, "answering")
        only.send_signal(signal.SIGSTOP)
        caller = Asking(url, "lost", "hashing:16")
        time.sleep(0.3)
        only.kill()
        began = time.monotonic()
        caller.join()
        assert isinstance(caller.result, psycopg.Error)
        assert caller.result.sqlstate == "LW001"
        assert time.monotonic() - began < 8  # less than who asks waits
    wait_until(lambda: client.execute("select count(*) from pg_replication_slots").fetchone() == (0,))


def test_a_worker_that_is_started_again_in_time_answers_who_waits(url: str, client: Client) -> None:
    client.execute("set likewise.embed_timeout = '15s'")
    with process(url, "--model", "hashing:16") as first:
        says(first, "answering")
        first.send_signal(signal.SIGSTOP)
        with process(url, "--model", "hashing:16") as second:
            says(second, "ready to take over")
            caller = Asking(url, "patient", "hashing:16")
            time.sleep(0.2)
            first.kill()
            caller.join()
            assert isinstance(caller.result, list)


def test_connections_that_are_lost_are_made_again(worker: Worker, client: Client, told: Told) -> None:
    for _ in range(2):
        lost = worker.counts.reconnected
        client.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'likewise worker%'"
            " and datname = current_database()"
        )
        wait_until(lambda before=lost: worker.counts.reconnected > before)  # type: ignore[misc]
        wait_until(lambda: worker.leads)
        assert ask(client, f"again {lost}", "told")
    slots = "select count(*) from pg_replication_slots where database = current_database()"
    wait_until(lambda: client.execute(slots).fetchone() == (1,))


def test_a_stop_answers_what_is_being_embedded(url: str, models: Callable[[str], Embedder], told: Told) -> None:
    thread = WorkerThread(Worker(url, embedders=models, models=["told"])).start()
    told.gate.clear()
    caller = Asking(url, "on its way", "told")
    wait_until(lambda: bool(told.calls))
    closing = threading.Thread(target=thread.close)
    closing.start()
    time.sleep(0.2)
    assert closing.is_alive()
    told.gate.set()
    closing.join()
    caller.join()
    assert isinstance(caller.result, list)
    thread.close()


def test_one_answers_and_all_are_seen(
    url: str, worker: Worker, models: Callable[[str], Embedder], client: Client
) -> None:
    with WorkerThread(Worker(url, embedders=models)) as other:
        seen = "select count(*), count(*) filter (where leads) from likewise.worker"
        wait_until(lambda: client.execute(seen).fetchone() == (2, 1), 10)
        assert not other.worker.leads
    wait_until(lambda: client.execute("select count(*) from likewise.worker").fetchone() == (1,))


def test_counts_and_health_over_http(url: str, models: Callable[[str], Embedder], client: Client) -> None:
    worker = Worker(url, embedders=models, models=["told"])
    exposing = Exposing("127.0.0.1", 0, worker.metrics, worker.ready.is_set)
    worker.add(exposing)
    with WorkerThread(worker):
        wait_until(lambda: exposing.address is not None)
        assert exposing.address is not None
        base = "http://{}:{}".format(*exposing.address)
        ask(client, "counted", "told")
        wait_until(lambda: "likewise_worker_answered_total 1\n" in read(f"{base}/metrics"))
        assert read(f"{base}/health") == "ok\n"
        for path in ("/", "/metrics/../x", "/x"):
            with pytest.raises(urllib.error.HTTPError, match="404"):
                read(base + path)


def read(url: str) -> str:
    with urllib.request.urlopen(url, timeout=5) as response:
        text: str = response.read().decode()
    return text


def test_a_port_that_is_taken(url: str, models: Callable[[str], Embedder]) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        worker = Worker(url, embedders=models)
        worker.add(Exposing("127.0.0.1", taken.getsockname()[1], worker.metrics, worker.ready.is_set))
        with pytest.raises(BackendUnavailable, match="cannot listen"), WorkerThread(worker):
            pass


def test_a_database_without_likewise(fresh_database_url: str, models: Callable[[str], Embedder]) -> None:
    with (
        pytest.raises(BackendError, match="likewise install"),
        WorkerThread(Worker(fresh_database_url, embedders=models)),
    ):
        pass


def test_a_role_that_may_not_replicate(url: str, models: Callable[[str], Embedder]) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("create role no_replication login password 'x'")
        connection.execute("grant usage on schema likewise to no_replication")
        connection.execute("grant all on all tables in schema likewise to no_replication")
        connection.execute("grant all on all sequences in schema likewise to no_replication")
        info = connection.info
        address = f"host={info.host} port={info.port} dbname={info.dbname} user=no_replication password=x"
    try:
        with (
            pytest.raises((BackendError, BackendUnavailable), match=r"(?i)replication"),
            WorkerThread(Worker(address, embedders=models)),
        ):
            pass
    finally:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("drop owned by no_replication; drop role no_replication")


def test_a_server_that_decodes_nothing(tmp_path: Path, models: Callable[[str], Embedder]) -> None:
    from likewise.backends.postgres.embedded import EmbeddedServer

    tmp_path.chmod(0o711)
    for parent in tmp_path.parents[:3]:
        parent.chmod(0o711)
    with EmbeddedServer(tmp_path / "postgres") as server:
        with psycopg.connect(server.url(), autocommit=True) as connection:
            connection.execute("alter system set wal_level = replica")
    with EmbeddedServer(tmp_path / "postgres") as server:
        with likewise.connect(server.url()) as store:
            store.install()  # type: ignore[attr-defined]
        with psycopg.connect(server.url(), autocommit=True) as connection:
            with pytest.raises(psycopg.Error) as caught:
                ask(connection, "x")
            assert caught.value.sqlstate == "LW004"
            assert "wal_level = logical" in (caught.value.diag.message_hint or "")
        with (
            pytest.raises(BackendError, match="wal_level is replica"),
            WorkerThread(Worker(server.url(), embedders=models)),
        ):
            pass


def test_a_transaction_that_writes_keeps_a_worker_waiting_and_it_can_be_stopped(
    url: str, models: Callable[[str], Embedder]
) -> None:
    with psycopg.connect(url) as writing:
        writing.execute("create table long_one (n int)")
        thread = WorkerThread(Worker(url, embedders=models))
        with pytest.raises(BackendUnavailable, match="transaction that writes"):
            thread.start(1.0)
        assert not thread._thread.is_alive()
        writing.rollback()


class TestConnect:
    def test_a_worker_beside_a_store(self, fresh_database_url: str) -> None:
        with likewise.connect(fresh_database_url, worker=True) as store:
            with store.transaction() as connection:
                assert connection.execute("select vector_dims(likewise.embed('x'))").fetchone() == (384,)
        with psycopg.connect(fresh_database_url, autocommit=True) as connection:
            with pytest.raises(psycopg.Error) as caught:
                ask(connection, "y", "mini")
        assert caught.value.sqlstate == "LW001"

    async def test_beside_an_asynchronous_one(self, fresh_database_url: str) -> None:
        async with await likewise.connect_async(fresh_database_url, worker=True) as store:
            async with store.transaction() as connection:
                cursor = await connection.execute("select vector_dims(likewise.embed('x'))")
                assert await cursor.fetchone() == (384,)

    def test_not_where_there_is_no_sql(self) -> None:
        with pytest.raises(UnsupportedFeature):
            likewise.connect("memory://", worker=True)


class TestCommand:
    def test_it_says_what_it_does_and_what_it_has_done(self, url: str, client: Client) -> None:
        with process(url, "--model", "hashing:16", "--metrics", "127.0.0.1:0", "--warm-up", "--json") as running:
            wait_until(lambda: client.execute("select count(*) from likewise.worker where leads").fetchone() == (1,))
            ask(client, "counted")
            running.send_signal(signal.SIGINT)
            out, _ = running.communicate(timeout=20)
            assert running.returncode == 0
            assert json.loads(out)["counts"]["answered"] == 1

    @pytest.mark.parametrize(
        "arguments", [["--metrics", "nowhere"], ["--metrics", "a:99999"], ["--model", "no-such-model"]]
    )
    def test_what_it_refuses(self, url: str, arguments: list[str]) -> None:
        with process(url, *arguments) as running:
            _, err = running.communicate(timeout=30)
            assert running.returncode in (1, 5)
            assert "error" in err

    def test_watch_waits_for_the_worker(self, url: str, client: Client) -> None:
        client.execute("create table goods (id int primary key, name text)")
        client.execute("insert into goods select n, 'thing ' || n from generate_series(1, 700) as n")
        with process(url):
            command = [
                sys.executable,
                "-m",
                "likewise.cli.main",
                "watch",
                "goods",
                "--content",
                "name",
                "--model",
                "hashing:16",
            ]
            done = subprocess.run(
                [*command, "--wait", "--json", "--database", url],
                env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
                capture_output=True,
                text=True,
                check=True,
                timeout=60,
            )
            assert json.loads(done.stdout)["state"] == "ready"
            assert client.execute("select count(*) from goods_embeddings").fetchone() == (700,)

    def test_not_without_sql(self) -> None:
        with process("memory://") as running:
            running.communicate(timeout=30)
            assert running.returncode == 5


def test_the_doctor_knows_the_workers(url: str, worker: Worker, client: Client) -> None:
    seen = "select count(*) from likewise.worker where leads"
    wait_until(lambda: client.execute(seen).fetchone() == (1,), 10)
    command = [sys.executable, "-m", "likewise.cli.main", "doctor", "--json", "--database", url]
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": str(ROOT / "src")}, capture_output=True, text=True, check=False
    )
    findings = {f["check"]: f for f in json.loads(done.stdout)["findings"]}
    assert findings["embed() in SQL"] == {
        "check": "embed() in SQL",
        "status": "ok",
        "detail": "requests go over the log; model mini unless named",
    }
    assert "answers" in findings["workers"]["detail"]


def test_a_database_and_a_worker_of_a_role_that_is_no_superuser(
    fresh_database_url: str, models: Callable[[str], Embedder]
) -> None:
    """As on a rented server: the role owns the database and may replicate, and somebody else has put pgvector there."""
    with psycopg.connect(fresh_database_url, autocommit=True) as connection:
        connection.execute("create extension vector")
        connection.execute("create role renter login replication password 'rent'")
        name = connection.info.dbname
        connection.execute(sql.SQL("alter database {} owner to renter").format(sql.Identifier(name)))
        connection.execute("grant all on schema public to renter")
        info = connection.info
        address = f"host={info.host} port={info.port} dbname={name} user=renter password=rent"
    try:
        with likewise.connect(address) as store:
            store.install()  # type: ignore[attr-defined]
        worker = Worker(address, embedders=models, models=["told"], watching=Watching(address, embedders=models))
        with WorkerThread(worker), psycopg.connect(address, autocommit=True) as connection:
            assert ask(connection, "of a renter", "told")
            connection.execute("create table goods (id int primary key, name text)")
            connection.execute("insert into goods values (1, 'a red dress')")
            connection.execute("select likewise.watch('goods', content => 'name', model => 'hashing:16')")
            state = "select state from likewise.watches"
            wait_until(lambda: connection.execute(state).fetchone() == ("ready",))
            assert connection.execute("select id from goods_search('red dress', 0)").fetchall() == [(1,)]
    finally:
        with psycopg.connect(fresh_database_url, autocommit=True) as connection:
            connection.execute("reassign owned by renter to current_user; drop owned by renter; drop role renter")


def test_another_worker_takes_over_from_one_that_hangs(
    url: str, client: Client, models: Callable[[str], Embedder], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(post, "HUNG_SECONDS", 1.0)
    with WorkerThread(Worker(url, embedders=models, models=["told"])) as first:
        wait_until(lambda: first.worker.leads)
        with WorkerThread(Worker(url, embedders=models, models=["told"])) as second:
            assert not second.worker.leads
            assert first._loop is not None
            first._loop.call_soon_threadsafe(time.sleep, 8)
            began = time.monotonic()
            client.execute("set likewise.embed_timeout = '20s'")
            assert ask(client, "while one hangs", "told")
            assert time.monotonic() - began < 7.5  # the first one hangs still
            assert second.worker.leads
