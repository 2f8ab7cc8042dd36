"""Loads in parts: killed and resumed, two with one token, within a transaction of the caller's, and what the database knows of them."""

from __future__ import annotations

import random
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import psycopg
import pytest

import likewise
from likewise import (
    BackendConflict,
    Collection,
    CollectionSpec,
    LoadProgress,
    LoadReport,
    Record,
    RecordExists,
    SchemaMismatch,
    VectorStore,
)
from likewise.abc import loading as long_loading
from likewise.backends.postgres import loading
from likewise.records import Include

SPEC = CollectionSpec("things", dimension=3)
EVERYTHING: Include = ("vector", "metadata", "content")


@pytest.fixture
def store(fresh_database_url: str) -> Iterator[VectorStore]:
    with likewise.connect(fresh_database_url) as store:
        yield store


@pytest.fixture
def things(store: VectorStore) -> Collection:
    return store.ensure_collection(SPEC)


def given(count: int) -> Iterator[Record]:
    """Records of which some come twice, in one part or in two."""
    for i in range(count):
        yield Record(f"r{i % (count - 700):05}", [1, i % 7, i], {"n": i}, f"text {i}")


def contents(collection: Collection) -> list[Record]:
    return list(collection.scan(limit=100_000, include=EVERYTHING))


LOADER = """
import sys, likewise
from likewise import Record

def given(count):
    for i in range(count):
        yield Record(f"r{i % (count - 700):05}", [1, i % 7, i], {"n": i}, f"text {i}")

with likewise.connect(sys.argv[1]) as store:
    things = store.collection("things")
    print("ready", flush=True)
    report = things.load(given(20_000), token="nightly", part_rows=600)
    print(report.resumed_at, report.read, flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("indexed", [False, True])
def test_a_load_that_is_killed_again_and_again_ends_as_if_it_had_not_been(
    store: VectorStore, things: Collection, fresh_database_url: str, indexed: bool
) -> None:
    seed = secrets.randbits(32)
    print(f"seed {seed}")
    draw = random.Random(seed)
    if indexed:
        things.ensure_indexes()
    whole = store.ensure_collection(CollectionSpec("whole", dimension=3))
    whole.upsert(given(20_000))
    killed, places = 0, [0]
    while True:
        with subprocess.Popen(
            [sys.executable, "-c", LOADER, fresh_database_url], stdout=subprocess.PIPE, text=True
        ) as loader:
            assert loader.stdout is not None
            assert loader.stdout.readline() == "ready\n"
            if killed < 6:
                time.sleep(draw.uniform(0.0, 0.4))
                loader.send_signal(signal.SIGKILL)
            said = loader.stdout.readline()
        if said:
            break
        killed += 1
        with store.transaction() as connection:
            # The server may still be busy with what a dead client has sent.
            connection.execute(
                "select pg_terminate_backend(pid, 5000) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
                " and query like 'COPY%'"
            )
            mark = connection.execute("select position, last_id, finished from likewise.load").fetchone()
        place = 0 if mark is None else int(mark[0])
        assert place >= places[-1]
        places.append(place)
        if mark is not None:
            assert mark[1:] == (f"r{(place - 1) % 19_300:05}", False)
    resumed_at, read = map(int, said.split())
    assert resumed_at + read == 20_000
    assert killed
    assert contents(things) == contents(whole)


def test_two_loads_with_one_token_do_not_both_go_on(things: Collection) -> None:
    def other() -> Iterator[Record]:
        for i, record in enumerate(given(3_000)):
            if i == 1_500:
                assert things.load(given(3_000), token="t", part_rows=1_000).written
            yield record

    with pytest.raises(BackendConflict, match="token") as caught:
        things.load(other(), token="t", part_rows=1_000)
    assert caught.value.retryable
    assert things.load(given(3_000), token="t") == LoadReport(0, 0, (), 3_000)
    assert things.count() == 2_300


def test_a_mark_is_stored_with_its_part_or_not_at_all(things: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    things.load(given(2_000), token="t", part_rows=1_000)
    things.delete(where={})
    things.upsert(Record("r00100", [1, 0, 0]))
    records = list(given(2_000))
    with pytest.raises(RecordExists):
        things.load(records, token="u", part_rows=100, replace=False)
    assert things.count() == 101
    things.delete("r00100")
    assert things.load(records[:1_300], token="u", part_rows=100, replace=False).resumed_at == 100
    with pytest.raises(RecordExists):
        # Records come twice in this input.
        things.load(records, token="v", part_rows=100, replace=False)


def test_parts_belong_to_the_callers_transaction(store: VectorStore, things: Collection) -> None:
    with pytest.raises(ZeroDivisionError), store.transaction() as connection:
        report = things.using(connection).load(given(2_000), token="t", part_rows=600)
        assert (report.read, things.using(connection).count(), things.count()) == (2_000, 1_300, 0)
        raise ZeroDivisionError
    assert things.count() == 0
    with store.transaction() as connection:
        assert things.using(connection).load(given(2_000), token="t", part_rows=600).resumed_at == 0
    assert things.load(given(2_000), token="t").resumed_at == 2_000
    assert things.count() == 1_300


def test_a_part_is_written_as_any_write_is(things: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[str] = []
    for name in ("_into_table", "_by_stage"):
        original = getattr(loading.Load, name)

        def spied(self: Any, *args: Any, name: str = name, original: Any = original) -> Any:
            taken.append(name)
            return original(self, *args)

        monkeypatch.setattr(loading.Load, name, spied)
    told: list[LoadProgress] = []
    report = things.load((r for r in given(3_000)), part_rows=1_000, progress=told.append)
    assert taken == ["_into_table", "_by_stage", "_by_stage"]
    assert (report.read, report.written) == (3_000, 3_000)
    assert [p.rows for p in told if p.phase == "move"] == [2_000, 3_000]
    assert told[-1] == LoadProgress("done", 3_000)


def test_a_part_of_large_records_ends_early(things: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_loading, "PART_BYTES", 10_000)
    records = [Record(f"r{i}", [1, 0, i], {}, "x" * 100) for i in range(2_000)]
    records[1_700] = Record("bad", [1, 0])
    with pytest.raises(likewise.DimensionMismatch):
        things.load(records)
    assert things.count() == 1_500


def test_a_token_is_forgotten_with_its_table(store: VectorStore, things: Collection) -> None:
    things.load(given(1_000), token="t")
    store.drop_collection("things")
    things = store.ensure_collection(SPEC)
    assert things.load(given(1_000), token="t").read == 1_000
    with store.transaction() as connection:
        connection.execute("drop table things")
    things = store.ensure_collection(SPEC)
    assert things.load(given(1_000), token="t").read == 1_000
    with store.transaction() as connection:
        assert connection.execute("select count(*) from likewise.load").fetchone() == (1,)


def test_a_database_of_an_older_version_says_what_to_do(store: VectorStore, things: Collection) -> None:
    with store.transaction() as connection:
        connection.execute("drop table likewise.load")
        connection.execute("delete from likewise.migration where number = 2")
    assert things.load(given(1_000)).read == 1_000
    with pytest.raises(SchemaMismatch, match="likewise install"):
        things.load(given(1_000), token="t")
    store.install()  # type: ignore[attr-defined]
    assert things.load(given(1_000), token="t").read == 1_000


def test_a_lost_connection_keeps_the_parts_before(
    things: Collection, fresh_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut() -> Iterator[Record]:
        for i, record in enumerate(given(3_000)):
            if i == 2_500:
                with psycopg.connect(fresh_database_url, autocommit=True) as other:
                    other.execute(
                        "select pg_terminate_backend(pid, 5000) from pg_stat_activity"
                        " where datname = current_database() and pid <> pg_backend_pid()"
                    )
            yield record

    with pytest.raises(likewise.BackendUnavailable):
        things.load(cut(), token="t", part_rows=1_000)
    assert things.load(given(3_000), token="t", part_rows=1_000).resumed_at == 2_000
    assert things.count() == 2_300


@pytest.mark.parametrize("url", ["memory://", None])
def test_bad_texts_are_left_out_and_the_others_embedded_once_more_at_most(
    url: str | None, fresh_database_url: str
) -> None:
    with likewise.connect(url or fresh_database_url) as store:
        notes = store.ensure_collection(CollectionSpec("notes", embedder="hashing"))
        records: list[Any] = [Record(f"n{i}", content=f"the text of note {i}") for i in range(1_300)]
        records[600] = Record("nothing")
        records[601] = Record("number", content=5)  # type: ignore[arg-type]
        records[1_299] = Record("metadata", content="text", metadata={"x": np.int64(1)})
        report = notes.load(iter(records), skip_invalid=True, part_rows=700)
        assert [(r.position, r.id) for r in report.rejected] == [(600, "nothing"), (601, "number"), (1_299, "metadata")]
        assert notes.count() == report.written == 1_297
        assert notes.search("note 7", top_k=1)[0].id
