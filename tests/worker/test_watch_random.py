"""Random changes of a watched table while workers are killed: in the end every row has the vector of what it is, and nothing else is there."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import threading

import psycopg
import pytest

import likewise
from likewise.testing.database import empty_database

from .watch_helpers import Database, assert_embedded, working

#: A worker as a process of its own. It embeds slowly and in small batches, so that it is killed with something under way.
WORKER = """
import asyncio, sys, time
from likewise.embedding import HashingEmbedder
from likewise.worker import watching
from likewise.worker.writing import Patience

class Slow(HashingEmbedder):
    def embed_texts(self, texts):
        time.sleep(0.01)
        return super().embed_texts(texts)

watching.BATCH_ROWS = 20
model = Slow(32)
part = watching.Watching(sys.argv[1], embedders=lambda name: model, patience=Patience(most=50, first=0.05, longest=0.1))
print("ready", flush=True)
asyncio.run(part.run(asyncio.Event()))
"""
KEYS = 60


def start(url: str) -> subprocess.Popen[bytes]:
    process = subprocess.Popen([sys.executable, "-c", WORKER, url], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return process


def end(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


def change(connection: psycopg.Connection, draw: random.Random) -> None:
    """One to three statements in a transaction, which is rolled back now and then."""
    with contextlib.suppress(psycopg.errors.UniqueViolation, psycopg.errors.DeadlockDetected), connection.transaction():
        for _ in range(draw.randint(1, 3)):
            key, other = draw.randint(1, KEYS), draw.randint(1, KEYS)
            words = f"{draw.choice(['red', 'blue', 'green'])} {draw.randint(1, 99)}"
            kind = draw.random()
            if kind < 0.4:
                connection.execute(
                    "insert into things values (%s, %s, %s) on conflict (id) do update set name = excluded.name, shown = excluded.shown",
                    (key, words, draw.random() < 0.8),
                )
            elif kind < 0.6:
                connection.execute("update things set name = %s where id between %s and %s", (words, key, key + 5))
            elif kind < 0.7:
                connection.execute("update things set shown = not shown where id = %s", (key,))
            elif kind < 0.85:
                connection.execute("delete from things where id = %s", (key,))
            elif kind < 0.98:
                connection.execute("update things set id = %s where id = %s", (other, key))
            else:
                connection.execute("truncate things")
        if draw.random() < 0.1:
            raise psycopg.Rollback


def exercise(url: str, changes: int, seed: int) -> None:
    with likewise.connect(url) as store:
        store.install()  # type: ignore[attr-defined]
    database = Database(url)
    database.run("create table things (id int primary key, name text, shown boolean not null default true)")
    database.run("insert into things select i, 'old ' || i from generate_series(1, 40) i")
    database.watch("things", content="name", filter="shown")
    workers = [start(url), start(url)]
    draw = random.Random(seed)
    failed: list[BaseException] = []

    def write(number: int) -> None:
        try:
            own = random.Random(seed * 10 + number)
            with psycopg.connect(url, autocommit=True) as connection:
                for _ in range(changes // 2):
                    change(connection, own)
        except BaseException as error:
            failed.append(error)

    writers = [threading.Thread(target=write, args=(number,)) for number in range(2)]
    try:
        for writer in writers:
            writer.start()
        kills = 0
        while any(writer.is_alive() for writer in writers) or kills < 4:
            writers[0].join(draw.uniform(0.1, 0.8))
            place = draw.randrange(2)
            end(workers[place])
            kills += 1
            workers[place] = start(url)
        assert not failed, f"seed {seed}: {failed}"
        database.settled(seconds=120)
        texts = dict(database.rows("select id::text, name from things where shown and name is not null"))
        assert_embedded(database, "things_embeddings", texts)
        assert database.rows("select * from likewise.watch_errors") == []
    finally:
        for process in workers:
            end(process)
        database.connection.close()


@pytest.fixture
def seed() -> int:
    chosen = int(os.environ.get("LIKEWISE_TEST_SEED") or random.SystemRandom().randrange(10**6))
    print(f"LIKEWISE_TEST_SEED={chosen}")
    return chosen


@pytest.mark.slow
def test_a_thousand_changes_with_workers_killed(fresh_database_url: str, seed: int) -> None:
    exercise(fresh_database_url, 1_000, seed)


@pytest.mark.slow
def test_the_same_on_postgresql_16(postgres_16_server: str, seed: int) -> None:
    with empty_database(postgres_16_server) as url:
        exercise(url, 200, seed)


def test_two_workers_of_one_process_share_a_queue(fresh_database_url: str) -> None:
    with likewise.connect(fresh_database_url) as store:
        store.install()  # type: ignore[attr-defined]
    database = Database(fresh_database_url)
    database.run("create table things (id uuid primary key default gen_random_uuid(), name text)")
    database.watch("things", content="name")
    with working(database.url) as one, working(database.url) as two:
        for part in range(20):
            database.run(
                "insert into things (name) select %s || ' ' || i from generate_series(1, 300) i", f"part {part}"
            )
        database.settled()
    assert_embedded(database, "things_embeddings", dict(database.rows("select id::text, name from things")))
    assert one.written
    assert two.written
    database.connection.close()
