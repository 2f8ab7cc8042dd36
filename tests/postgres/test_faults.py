"""What goes wrong around PostgreSQL: every driver error is ours, killed servers lose nothing, writers do not deadlock."""

from __future__ import annotations

import multiprocessing
import os
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psycopg
import psycopg_pool
import pytest

import likewise
from likewise import (
    BackendConflict,
    BackendError,
    BackendTimeout,
    BackendUnavailable,
    CollectionNotFound,
    CollectionSpec,
    InvalidArgument,
    LikewiseError,
    Metadata,
    Record,
    SchemaMismatch,
)
from likewise.backends.postgres._errors import translate
from likewise.backends.postgres._url import public_url
from likewise.backends.postgres.embedded import EmbeddedServer

SPEC = CollectionSpec("things", dimension=3)


def driver_errors() -> list[type[psycopg.Error]]:
    found: set[type[psycopg.Error]] = set()
    waiting: list[type[psycopg.Error]] = [psycopg.Error]
    while waiting:
        kind = waiting.pop()
        found.add(kind)
        waiting.extend(kind.__subclasses__())
    return sorted(found, key=lambda kind: kind.__name__)


def test_every_error_of_the_driver_becomes_one_of_ours() -> None:
    kinds = driver_errors()
    assert len(kinds) > 250
    for kind in kinds:
        ours = translate(kind("text of the driver"), collection="things")
        assert isinstance(ours, LikewiseError), kind
        assert isinstance(ours, BackendError | CollectionNotFound), kind
        assert str(ours), kind


@pytest.mark.parametrize(
    ("kind", "ours"),
    [
        (psycopg.errors.QueryCanceled, BackendTimeout),
        (psycopg.errors.DeadlockDetected, BackendConflict),
        (psycopg.errors.SerializationFailure, BackendConflict),
        (psycopg.errors.AdminShutdown, BackendUnavailable),
        (psycopg.errors.TooManyConnections, BackendUnavailable),
        (psycopg.errors.ConnectionFailure, BackendUnavailable),
        (psycopg.OperationalError, BackendUnavailable),
        (psycopg.InterfaceError, BackendUnavailable),
        (psycopg_pool.PoolTimeout, BackendUnavailable),
        (psycopg.errors.InsufficientPrivilege, BackendError),
        (psycopg.errors.UndefinedTable, CollectionNotFound),
    ],
)
def test_errors_that_can_be_retried_are_told_apart(kind: type[psycopg.Error], ours: type[LikewiseError]) -> None:
    translated = translate(kind("x"), collection="things")
    assert type(translated) is ours
    assert translated.retryable is (ours not in (BackendError, CollectionNotFound))


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://user:se%cret@host/db",
        "postgresql://user:secret@host/db?nonsense=secret",
        "postgresql://user:secret@[::1/db",
        "host=x password='secret",
    ],
)
def test_a_malformed_url_is_refused_without_its_secret(url: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        likewise.connect(url)
    error: BaseException | None = caught.value
    assert "cret" not in str(error)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_a_shown_url_has_no_secret() -> None:
    shown = public_url("postgresql://me:s3cret@host:5433/db?sslmode=require&sslpassword=s3cret", None)
    assert shown == "postgresql://me@host:5433/db?sslmode=require"
    assert "s3cret" not in public_url("host=/a/b user=x password=s3cret dbname=y", None)


def test_an_unreachable_server_is_named_as_such() -> None:
    with pytest.raises(BackendUnavailable, match="cannot be reached") as caught:
        likewise.connect("postgresql://nobody:s3cret@127.0.0.1:1/nothing")
    assert caught.value.retryable
    assert "s3cret" not in str(caught.value)


def test_an_unknown_scheme_names_the_known_ones() -> None:
    with pytest.raises(InvalidArgument, match="postgresql://"):
        likewise.connect("mysql://host/db")


def test_a_deadline_stops_a_waiting_write(fresh_database_url: str) -> None:
    with likewise.connect(fresh_database_url) as store:
        things = store.ensure_collection(SPEC)
        with store.transaction() as blocker:
            blocker.execute("lock table things in access exclusive mode")
            started = time.monotonic()
            with pytest.raises(BackendTimeout), likewise.deadline(0.3):
                things.upsert(Record("a", [1, 0, 0]))
            with pytest.raises(BackendTimeout), likewise.deadline(0.3):
                things.search_by_vector([1, 0, 0])
            assert time.monotonic() - started < 5
        assert things.count() == 0
        with store.transaction() as connection:
            found = connection.execute("select current_setting('statement_timeout')").fetchone()
        assert found == ("0",), "the deadline is not left on a pooled connection"


def test_a_passed_deadline_is_an_error_before_anything_is_sent(fresh_database_url: str) -> None:
    with likewise.connect(fresh_database_url) as store:
        things = store.ensure_collection(SPEC)
        with likewise.deadline(0.01):
            time.sleep(0.05)
            with pytest.raises(BackendTimeout):
                things.count()


def ensure_and_write(url: str, barrier: threading.Barrier, failures: list[BaseException]) -> None:
    try:
        with likewise.connect(url) as store:
            barrier.wait()
            store.ensure_collection(SPEC).ensure_indexes()
    except BaseException as error:
        failures.append(error)


def test_many_clients_may_ensure_the_same_collection_at_once(fresh_database_url: str) -> None:
    barrier, failures = threading.Barrier(6), list[BaseException]()
    threads = [
        threading.Thread(target=ensure_and_write, args=(fresh_database_url, barrier, failures)) for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    with likewise.connect(fresh_database_url) as store:
        assert [spec.name for spec in store.collections()] == ["things"]
        assert len(store.collection("things").indexes()) == 2


def process_ensures(url: str, barrier: threading.Barrier) -> None:
    with likewise.connect(url) as store:
        barrier.wait()
        store.ensure_collection(SPEC)


def test_two_processes_may_ensure_the_same_collection_at_once(fresh_database_url: str) -> None:
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(2)
    processes = [context.Process(target=process_ensures, args=(fresh_database_url, barrier)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]


def test_overlapping_upserts_in_any_order_never_deadlock(fresh_database_url: str) -> None:
    rng = np.random.default_rng(0)
    failures: list[BaseException] = []
    with likewise.connect(fresh_database_url) as store:
        things = store.ensure_collection(SPEC)

        def work(order: list[int], size: int) -> None:
            try:
                for _ in range(4):
                    things.upsert([Record(f"r{i}", [1, 0, i]) for i in order[:size]])
                    things.delete([f"r{i}" for i in order[:50]])
                    things.delete(where=Metadata("none") == 1)
            except BaseException as error:
                failures.append(error)

        threads = [
            threading.Thread(target=work, args=([int(i) for i in rng.permutation(1300)], size))
            for size in (400, 1300, 1300, 300, 1300)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures
        things.upsert([Record(f"r{i}", [1, 0, i]) for i in range(1300)])
        assert things.count() == 1300


@pytest.fixture
def own_server() -> Iterator[EmbeddedServer]:
    with tempfile.TemporaryDirectory(prefix="likewise-test-", ignore_cleanup_errors=True) as directory:
        Path(directory).chmod(0o711)
        with EmbeddedServer(Path(directory) / "postgres") as server:
            yield server


def postmaster(url: str) -> int:
    with psycopg.connect(url) as connection:
        found = connection.execute("select pg_read_file('postmaster.pid')").fetchone()
    assert found is not None
    return int(str(found[0]).splitlines()[0])


@pytest.mark.slow
def test_a_server_killed_during_an_upsert_leaves_nothing_of_it(own_server: EmbeddedServer) -> None:
    with likewise.connect(own_server.url()) as store:
        things = store.ensure_collection(SPEC)
        things.upsert(Record("before", [1, 0, 0]))
        victim = postmaster(own_server.url())

        def records() -> Iterator[Record]:
            for i in range(5_000):
                if i == 3_000:
                    os.kill(victim, signal.SIGKILL)
                    with pytest.raises(ProcessLookupError):
                        for _ in range(500):
                            os.kill(victim, 0)
                            time.sleep(0.01)
                    time.sleep(0.3)
                yield Record(f"r{i}", [1, 0, i])

        with pytest.raises(BackendUnavailable) as caught:
            things.upsert(records())
        assert caught.value.retryable
        with EmbeddedServer(own_server.directory) as again:
            again.start()
            assert things.count() == 1, "the same store works again, and nothing is half there"
            assert things.upsert(Record(f"r{i}", [1, 0, i]) for i in range(5_000)) == 5_000
            assert things.count() == 5_001


def test_a_connection_lost_in_the_pool_costs_one_retry(fresh_database_url: str) -> None:
    with likewise.connect(fresh_database_url) as store:
        things = store.ensure_collection(SPEC)
        things.upsert(Record("a", [1, 0, 0]))
        with psycopg.connect(fresh_database_url, autocommit=True) as other:
            other.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
            )
        with pytest.raises(BackendUnavailable):
            things.count()
        assert things.count() == 1


def test_a_collection_dropped_by_somebody_else_is_not_found(fresh_database_url: str) -> None:
    with likewise.connect(fresh_database_url) as store:
        things = store.ensure_collection(SPEC)
        with store.transaction() as connection:
            connection.execute("drop table things")
        with pytest.raises(CollectionNotFound, match="things"):
            things.count()
        assert store.collections() == []
        assert store.ensure_collection(SPEC).count() == 0


def test_a_read_only_role_can_open_and_search_but_is_told_why_it_cannot_write(fresh_database_url: str) -> None:
    with likewise.connect(fresh_database_url) as store:
        store.ensure_collection(SPEC).upsert(Record("a", [1, 0, 0]))
    read_only = (
        fresh_database_url
        + ("&" if "?" in fresh_database_url else "?")
        + "options=-cdefault_transaction_read_only%3Don"
    )
    with likewise.connect(read_only) as store:
        things = store.ensure_collection(SPEC)
        assert things.search_by_vector([1, 0, 0])[0].id == "a"
        with pytest.raises(BackendError, match="read-only"):
            things.upsert(Record("b", [1, 0, 0]))
        with pytest.raises(BackendError, match="read-only"):
            store.ensure_collection(CollectionSpec("others", dimension=3))


def test_a_database_set_up_by_a_newer_version_is_refused(fresh_database_url: str) -> None:
    with likewise.connect(fresh_database_url) as store:
        store.ensure_collection(SPEC)
        with store.transaction() as connection:
            connection.execute("insert into likewise.migration (number, name, sha256) values (9999, 'future', '')")
        with pytest.raises(SchemaMismatch, match="newer"):
            store.ensure_collection(CollectionSpec("others", dimension=3))
