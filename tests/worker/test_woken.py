"""Workers that read the log embed a change when it is committed, not when they look the next time."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest

from likewise.abc.embedder import Embedder
from likewise.worker import Watching, Worker, WorkerThread, watching
from worker.conftest import process, wait_until


def test_a_commit_wakes_the_worker(
    url: str, models: Callable[[str], Embedder], monkeypatch: pytest.MonkeyPatch
) -> None:
    with WorkerThread(Worker(url, embedders=models, watching=Watching(url, embedders=models))):
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("create table goods (id int primary key, name text)")
            connection.execute("select likewise.watch('goods', content => 'name', model => 'hashing:16')")
            state = "select state from likewise.watches"
            wait_until(lambda: connection.execute(state).fetchone() == ("ready",))
            # From now on it looks once in ten minutes, unless it is woken.
            monkeypatch.setattr(watching, "SOON", 600.0)
            monkeypatch.setattr(watching, "IDLE", 600.0)
            wait_until(lambda: pausing(connection))
            with connection.transaction():
                connection.execute("insert into goods values (1, 'a red dress'), (2, 'a blue hat')")
            rows = "select count(*) from goods_embeddings"
            wait_until(lambda: connection.execute(rows).fetchone() == (2,), 10)
            connection.execute("truncate goods")
            wait_until(lambda: connection.execute(rows).fetchone() == (0,), 10)


def pausing(connection: psycopg.Connection[tuple[object, ...]]) -> bool:
    """Whether the worker has looked for the last time of its own: nothing has been asked for a second."""
    found = connection.execute(
        "select coalesce(max(query_start), now()) < now() - interval '1 second' from pg_stat_activity"
        " where application_name like 'likewise%' and datname = current_database() and query like '%likewise.watch %'"
    ).fetchone()
    return found == (True,)


def test_what_is_fetched_or_paid_for_is_for_the_worker_to_allow(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("create table goods (id int primary key, name text)")
        connection.execute(
            "select likewise.watch('goods', content => 'name', model => 'openai:text-embedding-3-small')"
        )
        with process(url):
            error = "select error from likewise.watches where error is not null"
            wait_until(lambda: connection.execute(error).fetchone() is not None, 30)
            assert "--model openai:text-embedding-3-small" in str(connection.execute(error).fetchone())
