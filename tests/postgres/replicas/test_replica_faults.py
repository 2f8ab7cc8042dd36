"""Replicas and what goes wrong: connections, processes and files that are lost or damaged, in the midst of writes."""

from __future__ import annotations

import contextlib
import json
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest

import likewise
from likewise import BackendConflict, Record
from likewise.abc.feeds import Commit, Gone, Put
from likewise.backends.faiss import FaissCollection

from .helpers import SPEC, eventually, kill_followers, open_store, replica_url, slots, things

#: A program that keeps a replica, and prints its status whenever it is sent a line; it ends by being killed.
READER = """
import json, sys
import likewise
store = likewise.connect(sys.argv[1])
collection = store.collection("things")
for line in sys.stdin:
    status = collection.replica_wait(30)
    report = collection.verify_replica() if line.strip() == "verify" else None
    print(json.dumps({"built": status.built, "resumed": status.resumed, "rows": status.rows, "notes": status.notes,
        "sound": report and report.sound, "ids": report and report.ids}), flush=True)
"""


class Reader:
    """The program, running."""

    def __init__(self, url: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", READER, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, what: str = "status") -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{what}\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, "the reader ended"
        answer: dict[str, Any] = json.loads(line)
        return answer

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate()


@contextlib.contextmanager
def reading(url: str) -> Iterator[Reader]:
    reader = Reader(url)
    try:
        yield reader
    finally:
        reader.kill()


def rows(count: int, *, seed: int = 0) -> list[Record]:
    rng = np.random.default_rng(seed)
    return [Record(f"r{n}", rng.normal(size=4), {"n": n}, content=f"text {n}") for n in range(count)]


def write_at_random(url: str, changes: int, seed: int) -> None:
    """Insert, update and delete, one statement or a few in a transaction, some of which are rolled back."""
    drawn, rng = random.Random(seed), np.random.default_rng(seed)
    with psycopg.connect(url) as connection:
        done = 0
        while done < changes:
            try:
                for _ in range(drawn.choice([1, 1, 1, 5])):
                    record_id, vector = f"r{drawn.randrange(400)}", str(rng.normal(size=4).tolist())
                    match drawn.randrange(5):
                        case 0 | 1:
                            connection.execute(
                                "insert into things (id, vector, metadata, content) values (%s, %s, %s, %s)"
                                " on conflict (id) do update set vector = excluded.vector, metadata = excluded.metadata",
                                (record_id, vector, json.dumps({"n": done}), "x" * drawn.choice([5, 5_000])),
                            )
                        case 2:
                            connection.execute("update things set vector = %s where id = %s", (vector, record_id))
                        case 3:
                            connection.execute(
                                "update things set metadata = metadata || %s where id = %s",
                                (json.dumps({"seen": done}), record_id),
                            )
                        case _:
                            connection.execute("delete from things where id = %s", (record_id,))
                    done += 1
                if drawn.random() < 0.1:
                    connection.rollback()
                else:
                    connection.commit()
            except psycopg.errors.DeadlockDetected:
                connection.rollback()


@pytest.mark.slow
@pytest.mark.parametrize("follow", ["log", "triggers"])
def test_nothing_is_lost_or_invented_when_the_connection_is_killed_again_and_again(
    follow: str, fresh_database_url: str, tmp_path: Path
) -> None:
    with open_store(fresh_database_url, path=tmp_path, hold="metadata,content", follow=follow) as store:
        collection = things(store)
        collection.upsert(rows(200))
        collection.replica_wait()
        writers = [
            threading.Thread(target=write_at_random, args=(fresh_database_url, 1_250, seed)) for seed in range(4)
        ]
        for writer in writers:
            writer.start()
        enough = time.monotonic() + 60
        while any(writer.is_alive() for writer in writers) or store.replicas()["things"].resumed < 3:
            assert time.monotonic() < enough, store.replicas()["things"]
            time.sleep(0.15)
            kill_followers(fresh_database_url)
        for writer in writers:
            writer.join()
        status = collection.replica_wait()
        report = collection.verify_replica()
        assert report.sound, report
        assert report.undecided == 0
        assert report.rows == report.replica_rows == collection.count()
        # It went on from where it was: it was built once.
        assert status.built == 1


@pytest.mark.slow
@pytest.mark.parametrize("follow", ["log", "triggers"])
def test_a_reader_that_is_killed_goes_on_from_its_file(follow: str, fresh_database_url: str, tmp_path: Path) -> None:
    with likewise.connect(fresh_database_url) as plain:
        plain.ensure_collection(SPEC).upsert(rows(300))
    url = replica_url(fresh_database_url, path=tmp_path, patience=30, hold="metadata,content", follow=follow)
    with reading(url) as first:
        assert first.ask()["built"] == 1
        eventually(lambda: bool(list(tmp_path.glob("*.replica"))))
    writers = [threading.Thread(target=write_at_random, args=(fresh_database_url, 1_000, seed)) for seed in range(4)]
    for writer in writers:
        writer.start()
    for _ in range(2):
        with reading(url) as reader:
            status = reader.ask()
            assert (status["built"], status["resumed"]) == (0, 1), status
            time.sleep(0.3)
    for writer in writers:
        writer.join()
    with reading(url) as last:
        report = last.ask("verify")
        assert report["sound"], report
        assert (report["built"], report["resumed"]) == (0, 1)
    assert len(slots(fresh_database_url)) == (follow == "log")


def test_a_replica_goes_on_from_its_file_after_it_was_closed(fresh_database_url: str, tmp_path: Path) -> None:
    with open_store(fresh_database_url, path=tmp_path) as store:
        things(store).upsert(rows(50))
        assert things(store).replica_wait().built == 1
    with likewise.connect(fresh_database_url) as plain:
        plain.collection("things").delete(["r0", "r1"])
        plain.collection("things").upsert(Record("new", [1, 0, 0, 0]))
    for _ in range(2):
        with open_store(fresh_database_url, path=tmp_path) as store:
            collection = things(store)
            status = collection.replica_wait()
            assert (status.built, status.resumed, status.rows) == (0, 1, 49)
            found = collection.search_by_vector([1, 0, 0, 0], top_k=1)
            assert (found[0].id, found.explain().by) == ("new", "replica")
            assert collection.verify_replica().sound
            # Nothing is written to the collection, but much elsewhere: the slot does not stay behind.
    with psycopg.connect(fresh_database_url, autocommit=True) as connection:
        connection.execute("create table other as select repeat('x', 100) from generate_series(1, 10000)")
    with open_store(fresh_database_url, path=tmp_path) as store:
        things(store).replica_wait()
    eventually(lambda: kept_behind(fresh_database_url) < 500_000)


def kept_behind(url: str) -> int:
    """Bytes of the log between where the slot is and where the database is."""
    with psycopg.connect(url, autocommit=True) as connection:
        found = connection.execute(
            "select pg_current_wal_lsn() - confirmed_flush_lsn from pg_replication_slots where database = current_database()"
        ).fetchone()
    assert found is not None
    return int(found[0])


@pytest.mark.parametrize("damage", ["cut", "bit", "empty", "garbage"])
def test_a_damaged_file_is_noticed_and_the_replica_built_anew(
    damage: str, fresh_database_url: str, tmp_path: Path
) -> None:
    with open_store(fresh_database_url, path=tmp_path) as store:
        things(store).upsert(rows(50))
        things(store).replica_wait()
    (file,) = tmp_path.glob("*.replica")
    data = bytearray(file.read_bytes())
    match damage:
        case "cut":
            del data[len(data) // 2 :]
        case "bit":
            data[len(data) * 2 // 3] ^= 4
        case "empty":
            data.clear()
        case _:
            data[:] = random.Random(1).randbytes(len(data))
    file.write_bytes(data)
    with open_store(fresh_database_url, path=tmp_path) as store:
        collection = things(store)
        status = collection.replica_wait()
        assert (status.built, status.resumed, status.rows) == (1, 0, 50)
        (note,) = status.notes
        assert "could not be used" in note
        assert collection.verify_replica().sound
    with open_store(fresh_database_url, path=tmp_path) as store:
        assert things(store).replica_wait().resumed == 1
    assert len(slots(fresh_database_url)) == 1


def test_a_slot_that_is_gone_has_the_replica_built_anew(fresh_database_url: str, tmp_path: Path) -> None:
    with open_store(fresh_database_url, path=tmp_path) as store:
        things(store).upsert(rows(20))
        things(store).replica_wait()
    ((slot, _),) = slots(fresh_database_url)
    with psycopg.connect(fresh_database_url, autocommit=True) as connection:
        connection.execute("delete from things where id = 'r3'")
        connection.execute("select pg_drop_replication_slot(%s)", (slot,))
    with open_store(fresh_database_url, path=tmp_path) as store:
        status = things(store).replica_wait()
        assert (status.built, status.resumed, status.rows) == (1, 0, 19)
        assert things(store).verify_replica().sound


def test_a_second_store_has_its_replica_in_memory_only(fresh_database_url: str, tmp_path: Path) -> None:
    with open_store(fresh_database_url, path=tmp_path) as first:
        things(first).upsert(rows(20))
        assert things(first).replica_wait().file
        with open_store(fresh_database_url, path=tmp_path) as second:
            status = things(second).replica_wait()
            assert status.file is None
            (note,) = status.notes
            assert "belongs to process" in note
            assert things(second).verify_replica().sound
        assert things(first).verify_replica().sound
    with open_store(fresh_database_url, path=tmp_path) as third:
        assert things(third).replica_wait().resumed == 1


def test_a_folder_that_cannot_be_written_leaves_the_replica_in_memory(fresh_database_url: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with open_store(fresh_database_url, path=tmp_path / "file" / "below") as store:
        things(store).upsert(rows(20))
        status = things(store).replica_wait()
        assert status.file is None
        assert "cannot be kept in" in status.notes[0]
        assert "cannot be kept in" in store.info().warnings[0]


def test_a_file_that_cannot_be_written_is_said(
    fresh_database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from likewise.backends.faiss.image import Image

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image, "save", full)
    with open_store(fresh_database_url, path=tmp_path) as store:
        collection = things(store)
        collection.upsert(rows(20))
        eventually(lambda: bool(collection.replica_wait().notes))
        assert "No space left on device" in collection.replica_wait().notes[0]
        assert collection.search_by_vector([1, 0, 0, 0]).explain().by == "replica"


def test_a_busy_slot_is_waited_for(fresh_database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a reader that was killed had stays busy until the server notices; then it goes on from the file."""
    from likewise.backends.postgres.following.log import LogFeed

    with open_store(fresh_database_url, path=tmp_path) as store:
        things(store).upsert(rows(20))
        things(store).replica_wait()
    begin = LogFeed.begin
    refused: list[Any] = []

    async def busy(self: LogFeed, after: Any) -> bool:
        if len(refused) < 3:
            refused.append(after)
            raise BackendConflict("the slot is being read")
        return await begin(self, after)

    monkeypatch.setattr(LogFeed, "begin", busy)
    with open_store(fresh_database_url, path=tmp_path) as store:
        status = things(store).replica_wait()
        assert (status.built, status.resumed, status.notes) == (0, 1, ())
    assert len(refused) == 3


def wrong(collection: FaissCollection, *changes: Any) -> None:
    """Have the replica hold what the database does not."""
    image = collection._kept().image
    assert image is not None
    assert image.position is not None
    image.apply(Commit(image.position, changes))


def test_what_differs_is_found_and_mended(fresh_database_url: str) -> None:
    with open_store(fresh_database_url) as store:
        collection = things(store)
        collection.upsert(rows(100))
        collection.replica_wait()
        vector = np.ones(4, np.float32)
        wrong(
            collection,
            Gone("r1"),
            Put("invented", {"": vector}, {"metadata": b"{}"}),
            Put("r2", {"": vector}, {}),
            Put("r3", {}, {"metadata": b'{"n": 4}'}),
        )
        report = collection.verify_replica()
        assert not report.sound
        assert (report.missing, report.extra, report.different) == (1, 1, 2)
        assert report.ids == ("invented", "r1", "r2", "r3")
        collection.rebuild_replica()
        report = collection.verify_replica()
        assert report.sound
        assert report.rows == report.replica_rows == 100


def test_verifying_tells_what_is_on_its_way_from_what_is_wrong(fresh_database_url: str) -> None:
    with open_store(fresh_database_url) as store:
        collection = things(store)
        collection.upsert(rows(400))
        collection.replica_wait()
        writers = [threading.Thread(target=write_at_random, args=(fresh_database_url, 800, seed)) for seed in range(2)]
        for writer in writers:
            writer.start()
        reports = [collection.verify_replica()]
        while any(writer.is_alive() for writer in writers):
            reports.append(collection.verify_replica())
        assert [report for report in reports if not report.sound] == []
        wrong(collection, Gone(next(iter(collection.scan(limit=1))).id))
        assert collection.verify_replica().missing == 1


def test_what_does_not_fit_has_the_replica_built_anew(fresh_database_url: str) -> None:
    with open_store(fresh_database_url) as store:
        collection = things(store)
        collection.upsert(rows(10))
        collection.replica_wait()
        wrong(collection, Gone("r1"))
        # An update that leaves out a vector, which is unchanged where it is, of a row that is not here.
        with psycopg.connect(fresh_database_url, autocommit=True) as connection:
            connection.execute("alter table things alter column vector set storage external")
            connection.execute("update things set metadata = '{}' where id = 'r1'")
        eventually(lambda: collection.verify_replica().sound)


@pytest.mark.parametrize("follow", ["log", "triggers"])
def test_a_collection_that_is_dropped_elsewhere_leaves_nothing(
    follow: str, fresh_database_url: str, tmp_path: Path
) -> None:
    with open_store(fresh_database_url, path=tmp_path, follow=follow) as store:
        collection = things(store)
        collection.upsert(rows(20))
        collection.replica_wait()
        eventually(lambda: bool(list(tmp_path.glob("*.replica"))))
        with open_store(fresh_database_url, path=tmp_path, follow=follow) as other:
            with pytest.raises(BackendConflict, match="belongs to process"):
                things(other).drop_replica()
            other.drop_collection("things")
        eventually(lambda: [p.suffix for p in tmp_path.iterdir()] == [".lock"])
        assert slots(fresh_database_url) == []
        # It is made anew, by somebody else: a new replica begins.
        with likewise.connect(fresh_database_url) as plain:
            plain.ensure_collection(SPEC).upsert(rows(5))
        status = things(store).replica_wait()
        assert (status.rows, status.built) == (5, 1)


def test_files_are_for_nobody_else(fresh_database_url: str, tmp_path: Path) -> None:
    folder = tmp_path / "replicas"
    with open_store(fresh_database_url, path=folder) as store:
        things(store).upsert(rows(20))
        things(store).replica_wait()
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {p.suffix: p.stat().st_mode & 0o777 for p in folder.iterdir()} == {
        ".replica": 0o600,
        ".json": 0o600,
        ".lock": 0o600,
    }
