"""What replicas leave behind in the database, in folders and in other processes, when something ends at a bad moment."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
from psycopg import sql

import likewise
from likewise import BackendError, BackendTimeout, Record
from likewise.abc.feeds import Position
from likewise.backends.faiss import FaissCollection, _folder, _renewal, following
from likewise.backends.faiss import image as image_module
from likewise.backends.faiss import index as index_module
from likewise.backends.faiss.file import save_image
from likewise.backends.faiss.image import Image
from likewise.backends.postgres.following.log import LogFeed

from .helpers import eventually, open_store, publications, slots, things


def rows(count: int) -> list[Record]:
    rng = np.random.default_rng(0)
    return [Record(f"r{n}", rng.normal(size=4), {"n": n}) for n in range(count)]


def stored(collection: FaissCollection, folder: Path) -> None:
    """Rows, and a replica of them that has its file."""
    collection.upsert(rows(20))
    collection.replica_wait()
    eventually(lambda: bool(list(folder.glob("*.replica"))))


def full(*_: object) -> None:
    raise OSError(28, "No space left on device")


@contextmanager
def slow_saving(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[threading.Event, threading.Event]]:
    """The first file that is written is begun (the first event), and goes on only when it may (the second)."""
    save = Image.save
    begun, may = threading.Event(), threading.Event()

    def slowly(image: Image, path: Path) -> Position:
        if not begun.is_set():
            begun.set()
            assert may.wait(20)
        return save(image, path)

    monkeypatch.setattr(Image, "save", slowly)
    try:
        yield begun, may
    finally:
        may.set()


@pytest.mark.parametrize("how", ["dropped", "renamed"])
def test_no_slot_stays_of_a_collection_that_is_no_more(how: str, fresh_database_url: str, tmp_path: Path) -> None:
    """A slot without a reader keeps the server's log until its disk is full."""
    with open_store(fresh_database_url, path=tmp_path) as store:
        stored(things(store), tmp_path)
        assert len(slots(fresh_database_url)) == 1
        with psycopg.connect(fresh_database_url, autocommit=True) as connection:
            connection.execute("drop table things" if how == "dropped" else "alter table things rename to others")
        eventually(lambda: store.replicas()["things"].state == "stopped")
        eventually(lambda: [p.suffix for p in tmp_path.iterdir()] == [".lock"])
        assert slots(fresh_database_url) == []
        assert publications(fresh_database_url) == []


def test_no_slot_stays_of_a_collection_that_was_dropped_between_two_connections(
    fresh_database_url: str, tmp_path: Path
) -> None:
    with open_store(fresh_database_url, path=tmp_path) as store:
        stored(things(store), tmp_path)
    with open_store(fresh_database_url, path=tmp_path) as store:
        collection = things(store)
        with likewise.connect(fresh_database_url) as plain:
            plain.drop_collection("things")
        store._follower.start(collection._kept())
        eventually(lambda: store.replicas()["things"].state == "stopped")
        eventually(lambda: [p.suffix for p in tmp_path.iterdir()] == [".lock"])
        assert slots(fresh_database_url) == []


def test_a_file_that_is_written_of_a_copy_that_was_given_up_is_not_taken_for_the_new_ones(
    fresh_database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "_NOTE_SECONDS", 0.1)
    monkeypatch.setattr(following, "_QUIET", 0.1)
    with slow_saving(monkeypatch) as (begun, may), open_store(fresh_database_url, path=tmp_path) as store:
        collection = things(store)
        collection.upsert(rows(20))
        collection.replica_wait()
        assert begun.wait(20)
        # The copy whose file is being written is of no use any more: the next one has a row that it has not.
        (publication,) = publications(fresh_database_url)
        with psycopg.connect(fresh_database_url) as connection:
            connection.execute(sql.SQL("drop publication {}").format(sql.Identifier(publication)))
            connection.execute("insert into things (id, vector) values ('new', '[1,0,0,0]')")
        threading.Timer(3, may.set).start()
        eventually(lambda: store.replicas()["things"].built == 2)
        assert may.wait(20)
        eventually(lambda: collection.replica_wait().rows == 21)
        eventually(lambda: bool(list(tmp_path.glob("*.replica"))))
        # It is noted that the file is what the collection is still.
        with psycopg.connect(fresh_database_url, autocommit=True) as connection:
            connection.execute("create table other as select repeat('x', 100) from generate_series(1, 1000)")
        collection.replica_wait()
    with open_store(fresh_database_url, path=tmp_path) as store:
        report = things(store).verify_replica()
        assert report.sound, report


def test_a_replica_that_is_dropped_while_its_file_is_written_leaves_none(
    fresh_database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with slow_saving(monkeypatch) as (begun, may), open_store(fresh_database_url, path=tmp_path) as store:
        collection = things(store)
        collection.upsert(rows(20))
        collection.replica_wait()
        assert begun.wait(20)
        threading.Timer(1, may.set).start()
        collection.drop_replica()
        assert may.wait(20)
    assert [p.suffix for p in tmp_path.iterdir()] == [".lock"]


def test_what_could_not_be_dropped_is_said_and_can_be_dropped_again(
    fresh_database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_store(fresh_database_url, path=tmp_path) as store:
        stored(things(store), tmp_path)

    async def refused(_: LogFeed) -> None:
        raise BackendError("the slot is being read")

    with monkeypatch.context() as patched, open_store(fresh_database_url, path=tmp_path) as store:
        patched.setattr(LogFeed, "forget", refused)
        with pytest.raises(BackendError, match="is being read"):
            things(store).drop_replica()
    assert len(slots(fresh_database_url)) == 1
    with open_store(fresh_database_url, path=tmp_path) as store:
        things(store).drop_replica()
    assert slots(fresh_database_url) == []
    assert [p.suffix for p in tmp_path.iterdir()] == [".lock"]


def test_who_waits_for_a_replica_that_was_dropped_is_told_at_once(fresh_database_url: str) -> None:
    with open_store(fresh_database_url) as store:
        collection = things(store)
        collection.replica_wait()
        collection.drop_replica()
        began = time.monotonic()
        with pytest.raises(BackendTimeout, match="stopped"):
            collection.replica_wait(30)
        assert time.monotonic() - began < 10


def test_a_file_is_not_held_by_a_child_that_was_forked(fresh_database_url: str, tmp_path: Path) -> None:
    told, tell = os.pipe()
    with open_store(fresh_database_url, path=tmp_path) as store:
        stored(things(store), tmp_path)
        child = os.fork()
        if child == 0:
            os.close(tell)
            os.read(told, 1)
            os._exit(0)
        # While the child lives, the files are its parent's.
        with open_store(fresh_database_url, path=tmp_path) as second:
            assert things(second).replica_wait().file is None
    try:
        with open_store(fresh_database_url, path=tmp_path) as store:
            status = things(store).replica_wait()
            assert (status.resumed, status.notes) == (1, ())
    finally:
        os.close(tell)
        os.close(told)
        os.waitpid(child, 0)


def test_files_that_cannot_be_locked_leave_the_replica_in_memory(
    fresh_database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nowhere(_: int) -> bool:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(_folder, "_taken", nowhere)
    with open_store(fresh_database_url, path=tmp_path) as store:
        collection = things(store)
        collection.upsert(rows(20))
        for built in (1, 2):
            status = collection.replica_wait(10)
            assert (status.state, status.file) == ("following", None)
            assert "No locks available" in status.notes[-1]
            if built == 1:
                collection.rebuild_replica()


def test_a_full_disk_does_not_have_the_replica_built_anew(
    fresh_database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "_NOTE_SECONDS", 0.1)
    monkeypatch.setattr(following, "_QUIET", 0.1)
    with open_store(fresh_database_url, path=tmp_path) as store:
        collection = things(store)
        stored(collection, tmp_path)
        with monkeypatch.context() as patched:
            patched.setattr(_folder.Place, "_write", full)
            with psycopg.connect(fresh_database_url, autocommit=True) as connection:
                connection.execute("create table other as select repeat('x', 100) from generate_series(1, 1000)")
            eventually(lambda: bool(store.replicas()["things"].notes))
            status = store.replicas()["things"]
            assert "No space left on device" in status.notes[0]
            assert (status.state, status.built) == ("following", 1)
        eventually(lambda: not store.replicas()["things"].notes)
        assert collection.replica_wait().built == 1


def test_what_waits_while_a_file_is_written_goes_into_the_graph_after(
    fresh_database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "_QUIET", 0.1)
    monkeypatch.setattr(index_module, "TAIL", 50)
    for module in (index_module, _renewal):
        monkeypatch.setattr(module, "GRAPH_FROM", 100)
    begun, may = threading.Event(), threading.Event()

    def slowly(*args: Any) -> None:
        begun.set()
        assert may.wait(20)
        save_image(*args)

    monkeypatch.setattr(image_module, "save_image", slowly)
    with open_store(fresh_database_url, path=tmp_path) as store:
        collection = things(store)
        collection.upsert(rows(200))
        collection.replica_wait()
        assert begun.wait(20)
        collection.upsert([Record(f"late {n}", [1, n, 0, 0]) for n in range(80)])
        collection.replica_wait()
        image = collection._kept().image
        assert image is not None
        (index,) = image._indexes.values()
        assert index.merging
        time.sleep(0.5)
        may.set()
        # Nobody writes anything more.
        eventually(lambda: not index.merging)
        assert index.slots.count - index.base <= 25
