"""Models that cannot be made, and faults in the worker itself: callers are told, and the worker goes on."""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from likewise.abc.embedder import Embedder
from likewise.errors import BackendUnavailable, ModelNotAvailable
from likewise.worker import Worker, WorkerThread
from likewise.worker.post import Post
from likewise.worker.stream import LogStream
from worker.conftest import Told, wait_until

Client = psycopg.Connection[Any]


class Fails:
    """Stands in for a method: raises an error in its first calls, then does what the method does."""

    def __init__(self, patch: pytest.MonkeyPatch, owner: type, name: str, error: Exception, times: int = 1) -> None:
        self.calls: list[float] = []
        method = getattr(owner, name)

        async def called(*arguments: Any, **named: Any) -> Any:
            self.calls.append(time.monotonic())
            if len(self.calls) <= times:
                raise error
            return await method(*arguments, **named)

        patch.setattr(owner, name, called)


@pytest.fixture
def broken(models: Callable[[str], Embedder]) -> Callable[[str], Embedder]:
    """Makes no ``broken`` and no ``refused``, and of ``nothing`` what is no model."""

    def make(name: str) -> Embedder:
        if name == "broken":
            raise RuntimeError("a secret of the worker's machine")
        if name == "refused":
            raise ModelNotAvailable("weights are missing", model=name)
        return None if name == "nothing" else models(name)  # type: ignore[return-value]

    return make


def ask_until_answered(client: Client, text: str, model: str) -> list[float]:
    """A busy machine may need longer to connect again than who asks waits where nobody is there."""
    until = time.monotonic() + 20
    while True:
        try:
            return ask(client, text, model)
        except psycopg.Error as error:
            if error.sqlstate != "LW001" or time.monotonic() > until:
                raise


def ask(client: Client, text: str, model: str) -> list[float]:
    row = client.execute("select likewise.embed(%s, %s)::real[]", [text, model]).fetchone()
    assert row is not None
    found: list[float] = row[0]
    return found


def know(client: Client, *names: str) -> None:
    """Have the database know models, as if a worker had answered with them before."""
    for name in names:
        client.execute(
            "insert into likewise.model (name, identity, modalities) values (%s, %s, '{text}')",
            [name, f'["{name}", "0", 3, ""]'],
        )


@pytest.mark.parametrize(("name", "kind"), [("broken", "RuntimeError"), ("nothing", "AttributeError")])
def test_a_model_that_cannot_be_made_is_told_to_its_callers(
    url: str,
    client: Client,
    broken: Callable[[str], Embedder],
    caplog: pytest.LogCaptureFixture,
    name: str,
    kind: str,
) -> None:
    with WorkerThread(Worker(url, embedders=broken, models=["told", name])) as thread:
        for _ in range(2):
            with pytest.raises(psycopg.Error) as caught:
                ask(client, "x", name)
            assert caught.value.sqlstate == "LW006"
            assert caught.value.diag.message_primary == f"the model failed ({kind})"
            assert caught.value.diag.message_hint == "The worker's log has the details."
        assert ask(client, "x", "told")
        assert thread.worker.counts.reconnected == 0
    logged = [record for record in caplog.records if record.levelno == logging.ERROR]
    # Once for each call; and once more where it took a second, after which a caller repeats what may have been answered by then.
    assert 2 <= len(logged) <= 4
    assert name in logged[0].getMessage()
    assert logged[0].exc_info is not None
    assert type(logged[0].exc_info[1]).__name__ == kind


@pytest.mark.parametrize("answer", [None, [], "vectors", [[1.0], [2.0, 3.0]], [["a"] * 16]])
def test_a_model_that_answers_with_no_vectors_is_told_to_its_callers(
    url: str,
    client: Client,
    models: Callable[[str], Embedder],
    told: Told,
    monkeypatch: pytest.MonkeyPatch,
    answer: object,
) -> None:
    monkeypatch.setattr(told, "embed_texts", lambda _texts: answer)
    with WorkerThread(Worker(url, embedders=models, models=["told", "hashing:16"])) as thread:
        with pytest.raises(psycopg.Error) as caught:
            ask(client, "x", "told")
        assert caught.value.sqlstate in ("LW006", "22023")
        assert ask(client, "x", "hashing:16")
        assert thread.worker.counts.reconnected == 0


def test_models_that_cannot_be_made_do_not_stop_a_take_over(
    url: str, client: Client, broken: Callable[[str], Embedder]
) -> None:
    know(client, "broken", "nothing", "refused", "told")
    names = ["told", "broken", "nothing", "refused"]
    with WorkerThread(Worker(url, embedders=broken, models=names)) as thread:
        wait_until(lambda: thread.worker.leads)
        assert thread.worker.counts.reconnected == 0
        known = dict(client.execute("select name, identity ->> 1 from likewise.model").fetchall())
        assert known == {"broken": "0", "nothing": "0", "refused": "0", "told": "1"}


@pytest.mark.parametrize("method", ["introduce", "offered"])
def test_a_connection_that_is_lost_while_a_model_is_found_is_made_again(
    url: str, client: Client, models: Callable[[str], Embedder], monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    client.execute("insert into likewise.setting (name, value) values ('model', 'told')")
    with WorkerThread(Worker(url, embedders=models)) as thread:
        wait_until(lambda: thread.worker.leads)
        Fails(monkeypatch, Post, method, BackendUnavailable("the line is cut"))
        assert ask_until_answered(client, "x", "told")
        assert thread.worker.counts.reconnected == 1


def test_a_connection_that_is_lost_in_a_take_over_is_made_again(
    url: str, client: Client, models: Callable[[str], Embedder], monkeypatch: pytest.MonkeyPatch
) -> None:
    know(client, "told")
    Fails(monkeypatch, Post, "introduce", BackendUnavailable("the line is cut"))
    with WorkerThread(Worker(url, embedders=models, models=["told"])) as thread:
        wait_until(lambda: thread.worker.leads)
        assert thread.worker.counts.reconnected == 1
        assert client.execute("select identity ->> 1 from likewise.model").fetchall() == [("1",)]


@pytest.mark.parametrize("method", ["be_seen", "try_to_lead", "store", "remembered"])
@pytest.mark.parametrize("error", [RuntimeError("a fault"), BackendUnavailable("the line is cut")])
def test_a_fault_after_the_beginning_is_logged_and_the_worker_goes_on(
    url: str,
    client: Client,
    models: Callable[[str], Embedder],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    method: str,
    error: Exception,
) -> None:
    # In the very first session, whose readiness is all that tells its faults from those of the beginning.
    Fails(monkeypatch, Post, method, error)
    with WorkerThread(Worker(url, embedders=models, models=["told"])) as thread:
        assert ask_until_answered(client, "x", "told")
        assert thread.worker.counts.reconnected == 1
        assert thread.worker.ready.is_set()
    (record,) = [record for record in caplog.records if str(error) in caplog.handler.format(record)]
    assert (record.levelno, record.exc_info is not None) == (
        (logging.WARNING, False) if isinstance(error, BackendUnavailable) else (logging.ERROR, True)
    )


def test_a_fault_at_the_beginning_ends_the_worker(
    url: str, models: Callable[[str], Embedder], monkeypatch: pytest.MonkeyPatch
) -> None:
    failing = Fails(monkeypatch, LogStream, "open", RuntimeError("a fault"), times=100)
    with pytest.raises(RuntimeError, match="a fault"), WorkerThread(Worker(url, embedders=models)):
        pass
    assert len(failing.calls) == 1


def test_a_fault_that_stays_is_tried_less_and_less_often(
    url: str, models: Callable[[str], Embedder], monkeypatch: pytest.MonkeyPatch
) -> None:
    failing = Fails(monkeypatch, Post, "try_to_lead", RuntimeError("a fault"), times=4)
    with WorkerThread(Worker(url, embedders=models)) as thread:
        wait_until(lambda: thread.worker.leads)
    pauses = [after - before for before, after in itertools.pairwise(failing.calls)]
    assert len(pauses) == 4
    assert all(pause >= at_least for pause, at_least in zip(pauses, (0.1, 0.2, 0.4, 0.8), strict=True)), pauses
