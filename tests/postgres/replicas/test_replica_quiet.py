"""A replica of a database in which nothing happens is left alone; one of a database that says nothing is given up."""

from __future__ import annotations

import os
import signal
import time

import psycopg
import pytest

from likewise import Record
from likewise.backends.faiss import following

from .helpers import eventually, open_store, things


def test_a_quiet_database_is_not_a_dead_one(fresh_database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "_QUIET", 0.1)
    monkeypatch.setattr(following, "_DEAD", 1.5)
    with open_store(fresh_database_url) as store:
        collection = things(store)
        collection.upsert(Record("a", [1, 0, 0, 0]))
        collection.replica_wait()
        time.sleep(4)
        status = store.replicas()["things"]
        assert (status.state, status.built) == ("following", 1)


def test_a_server_that_says_nothing_is_given_up(fresh_database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "_QUIET", 0.1)
    monkeypatch.setattr(following, "_DEAD", 0.5)
    with open_store(fresh_database_url, patience=0.2) as store:
        collection = things(store)
        collection.upsert(Record("a", [1, 0, 0, 0]))
        collection.replica_wait()
        with psycopg.connect(fresh_database_url, autocommit=True) as connection:
            ((pid,),) = connection.execute(
                "select active_pid from pg_replication_slots where database = current_database()"
            ).fetchall()
        try:
            os.kill(pid, signal.SIGSTOP)
        except PermissionError:
            pytest.skip("the server's processes are another user's")
        try:
            eventually(lambda: store.replicas()["things"].state == "failed", 5)
            assert "told nothing" in store.replicas()["things"].notes[0]
            # Nobody has an older answer: the database gives it.
            found = collection.search_by_vector([1, 0, 0, 0])
            assert [r.id for r in found] == ["a"]
            assert str(found.explain().by).startswith("database")
        finally:
            os.kill(pid, signal.SIGCONT)
        collection.replica_wait()
        assert collection.search_by_vector([1, 0, 0, 0]).explain().by == "replica"
