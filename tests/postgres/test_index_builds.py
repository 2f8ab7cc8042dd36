"""How indexes are built: beside writers, one at a time, in memory, watched, and never half."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import psycopg
import pytest

import likewise
from likewise import (
    BackendTimeout,
    Collection,
    CollectionSpec,
    Gin,
    Hnsw,
    IndexProgress,
    InvalidArgument,
    IvfFlat,
    Record,
    VectorStore,
)
from likewise.backends.postgres import _ddl, _indexing, indexing
from likewise.schema import VectorField


@pytest.fixture
def opened(fresh_database_url: str) -> Iterator[VectorStore]:
    with likewise.connect(fresh_database_url) as opened:
        yield opened


def filled(store: VectorStore, rows: int = 1_000, dimension: int = 16) -> Collection:
    collection = store.ensure_collection(CollectionSpec("c", dimension=dimension))
    vectors = np.random.default_rng(0).normal(size=(rows, dimension)).astype(np.float32)
    collection.upsert_columns(ids=[f"r{i}" for i in range(rows)], vectors=vectors)
    return collection


@contextmanager
def old_snapshot(url: str) -> Iterator[psycopg.Connection[Any]]:
    """A transaction that a build beside writers has to wait for."""
    with psycopg.connect(url) as connection:
        connection.execute("begin isolation level repeatable read")
        connection.execute("select 1")
        yield connection
        connection.rollback()


def waiting(url: str) -> bool:
    """Whether some build waits for older transactions."""
    with psycopg.connect(url, autocommit=True) as connection:
        found = connection.execute("select phase from pg_stat_progress_create_index").fetchall()
    return any("waiting" in row[0] for row in found)


def until(condition: Any, what: str, seconds: float = 20.0) -> None:
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends, f"{what} did not happen"
        time.sleep(0.02)


def names(collection: Collection) -> list[str]:
    return [index.name for index in collection.indexes()]


def test_others_write_while_an_index_is_built_concurrently(opened: VectorStore, fresh_database_url: str) -> None:
    collection = filled(opened)
    seen: list[IndexProgress] = []
    build = threading.Thread(
        target=lambda: collection.ensure_indexes(vector=Hnsw(), concurrently=True, progress=seen.append)
    )
    with old_snapshot(fresh_database_url):
        build.start()
        until(lambda: waiting(fresh_database_url), "the build's waiting")
        collection.upsert(Record("meanwhile", [1.0] * 16))
        until(lambda: any("waiting" in each.phase for each in seen), "the watcher's hearing of it")
        assert build.is_alive()
    build.join(60)
    assert names(collection) == ["idx_c_vector_hnsw"]
    assert all(index.valid for index in collection.indexes())
    found = collection.search_by_vector([1.0] * 16, top_k=1)
    assert (found[0].id, found.explain().index) == ("meanwhile", "idx_c_vector_hnsw")
    assert (seen[0].phase, seen[-1].phase) == ("begun", "done")
    assert {each.index for each in seen} == {"idx_c_vector_hnsw"}


def test_a_build_beside_others_is_chosen_where_it_matters(
    opened: VectorStore, fresh_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ways: list[bool] = []
    create = _ddl.create_index

    def spy(index: str, definition: Any, *, concurrently: bool) -> Any:
        ways.append(concurrently)
        return create(index, definition, concurrently=concurrently)

    monkeypatch.setattr(_ddl, "create_index", spy)
    collection = filled(opened, 200)
    with psycopg.connect(fresh_database_url, autocommit=True) as other:
        other.execute("select 1")
        collection.ensure_indexes(vector=Hnsw(name="small"))
        monkeypatch.setattr(indexing, "SMALL_TABLE", 100)
        collection.ensure_indexes(vector=Hnsw(name="large_and_shared"))
        collection.ensure_indexes(vector=Hnsw(name="as_told"), concurrently=False)
    assert ways == [False, True, False]


def test_a_build_that_is_broken_off_leaves_nothing(opened: VectorStore, fresh_database_url: str) -> None:
    collection = filled(opened)
    with old_snapshot(fresh_database_url), pytest.raises(BackendTimeout), likewise.deadline(1.0):
        collection.ensure_indexes(vector=IvfFlat(lists=300), concurrently=True)
    assert names(collection) == []
    with opened.transaction() as connection:
        settings = connection.execute(
            "select name, setting = reset_val from pg_settings where name in ('statement_timeout', 'maintenance_work_mem')"
        ).fetchall()
        locks = connection.execute("select count(*) from pg_locks where locktype = 'advisory'").fetchone()
    assert dict(settings) == {"statement_timeout": True, "maintenance_work_mem": True}
    assert locks == (0,)
    assert collection.ensure_indexes(vector=Hnsw(), concurrently=True)[0].valid


def test_a_cancelled_task_leaves_nothing(fresh_database_url: str) -> None:
    async def use() -> None:
        async with await likewise.connect_async(fresh_database_url) as store:
            collection = await store.ensure_collection(CollectionSpec("c", dimension=4))
            await collection.upsert(Record(f"r{i}", [1.0, i, 0.0, 0.0]) for i in range(100))
            with psycopg.connect(fresh_database_url) as other:
                other.execute("begin isolation level repeatable read")
                other.execute("select 1")
                build = asyncio.create_task(collection.ensure_indexes(vector=Hnsw(), concurrently=True))
                while not await asyncio.to_thread(waiting, fresh_database_url):
                    assert not build.done()
                    await asyncio.sleep(0.02)
                build.cancel()
                # Dropping what is unfinished waits for the same transaction as the build.
                await asyncio.sleep(0.2)
                other.rollback()
                with pytest.raises(asyncio.CancelledError):
                    await build
            assert await collection.indexes() == []
            heard: list[IndexProgress] = []
            (index,) = await collection.ensure_indexes(vector=Hnsw(), concurrently=True, progress=heard.append)
            assert index.valid
            assert heard[-1].phase == "done"

    asyncio.run(use())


@pytest.mark.parametrize("concurrently", [False, True])
def test_an_index_that_was_never_finished_is_built_anew(
    opened: VectorStore, concurrently: bool, caplog: pytest.LogCaptureFixture
) -> None:
    collection = filled(opened)
    collection.ensure_indexes(vector=Hnsw())
    with opened.transaction() as connection:
        # What a server leaves that was stopped in the middle of a build beside writers.
        connection.execute("update pg_index set indisvalid = false where indexrelid = 'idx_c_vector_hnsw'::regclass")
    assert [index.valid for index in collection.indexes()] == [False]
    with caplog.at_level(logging.WARNING, "likewise"):
        (index,) = collection.ensure_indexes(vector=Hnsw(), concurrently=concurrently)
    assert index.valid
    assert "never finished" in caplog.text


@pytest.mark.parametrize("concurrently", [False, True])
def test_many_build_the_same_index_at_once(opened: VectorStore, concurrently: bool) -> None:
    collection = filled(opened, 3_000)
    raised: list[BaseException] = []

    def build() -> None:
        try:
            collection.ensure_indexes(concurrently=concurrently)
        except BaseException as error:
            raised.append(error)

    threads = [threading.Thread(target=build) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not raised
    assert names(collection) == ["idx_c_metadata_gin", "idx_c_vector_hnsw"]


def test_a_store_with_a_single_connection_builds_and_watches(fresh_database_url: str) -> None:
    with likewise.connect(fresh_database_url, max_connections=1) as store:
        collection = filled(store)
        heard: list[IndexProgress] = []
        collection.ensure_indexes(concurrently=True, progress=heard.append)
        assert names(collection) == ["idx_c_metadata_gin", "idx_c_vector_hnsw"]
        assert [each.phase for each in heard if each.phase in ("begun", "done")] == ["begun", "done"] * 2


def test_inside_a_transaction_an_index_is_part_of_it(opened: VectorStore) -> None:
    collection = filled(opened)
    with pytest.raises(RuntimeError, match="undo"), opened.transaction() as connection:
        connection.execute("set local maintenance_work_mem = '1MB'")
        inside = collection.using(connection)
        heard: list[IndexProgress] = []
        assert [i.name for i in inside.ensure_indexes(vector=Hnsw(), progress=heard.append)] == ["idx_c_vector_hnsw"]
        assert [each.phase for each in heard] == ["begun", "done"]
        assert connection.execute("show maintenance_work_mem").fetchone() == ("1MB",)
        with pytest.raises(InvalidArgument, match="concurrently"):
            inside.ensure_indexes(metadata=Gin(), concurrently=True)
        raise RuntimeError("undo")
    assert names(collection) == []


def test_the_memory_is_raised_to_what_a_build_needs(
    opened: VectorStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    collection = filled(opened, 4_000, 64)
    with opened.transaction() as connection:
        connection.execute("select set_config('maintenance_work_mem', '1MB', false)")
        name = connection.execute("select quote_ident(current_database())").fetchone()
        assert name is not None
        connection.execute(
            psycopg.sql.SQL("alter database {} set maintenance_work_mem = '1MB'").format(psycopg.sql.SQL(name[0]))
        )
    with caplog.at_level(logging.WARNING, "likewise"):
        collection.ensure_indexes(vector=Hnsw(name="roomy"))
        assert "no longer fits" not in caplog.text
        collection.ensure_indexes(vector=IvfFlat(lists=200))
        monkeypatch.setattr(indexing, "room_for", lambda needed, *, allowed, shared_buffers, must: allowed)
        collection.ensure_indexes(vector=Hnsw(name="tight"))
    assert "no longer fits" in caplog.text, "what the server says of it is logged"


def test_a_load_that_builds_anew_takes_the_memory_and_does_without_workers_too(
    opened: VectorStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    collection = filled(opened)
    collection.ensure_indexes(vector=Hnsw(m=8, ef_construction=40))
    collection.ensure_indexes(vector=IvfFlat(lists=20))
    with opened.transaction() as connection:
        connection.execute("alter table c set (parallel_workers = 2)")
    reckoned: list[int] = []

    def huge(needed: int, **_: object) -> int:
        reckoned.append(needed)
        return 1 << 40

    monkeypatch.setattr(indexing, "room_for", huge)
    before = collection.indexes()
    vectors = np.random.default_rng(1).normal(size=(2_000, 16)).astype(np.float32)
    seen: set[str] = set()
    collection.upsert_columns(
        ids=[f"n{i}" for i in range(2_000)], vectors=vectors, progress=lambda p: seen.add(p.phase)
    )
    assert "index" in seen
    assert collection.indexes() == before
    assert len(reckoned) == 2
    with opened.transaction() as connection:
        left = connection.execute("show max_parallel_maintenance_workers").fetchone()
        assert left != ("0",)


def test_without_enough_shared_memory_a_build_does_without_parallel_workers(
    opened: VectorStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    collection = filled(opened)
    with opened.transaction() as connection:
        connection.execute("alter table c set (parallel_workers = 2)")
    monkeypatch.setattr(indexing, "room_for", lambda needed, *, allowed, shared_buffers, must: 1 << 40)
    (index,) = collection.ensure_indexes(vector=Hnsw())
    assert index.valid


def test_lists_from_the_size(opened: VectorStore) -> None:
    collection = filled(opened, 15_000, 4)
    with opened.transaction() as connection:
        connection.execute("analyze c")
    (index,) = collection.ensure_indexes(vector=IvfFlat(lists="auto"))
    assert "lists='15'" in index.definition
    assert collection.ensure_indexes(vector=IvfFlat(lists="auto")) == [index]
    assert (_indexing.lists_for(100), _indexing.lists_for(1_000_000), _indexing.lists_for(4_000_000)) == (
        10,
        1000,
        2000,
    )


@pytest.mark.parametrize(
    ("plan", "dimension", "rows", "fitted"),
    [
        # What pgvector 0.8.5 fitted into 32 MB, as it said itself.
        (Hnsw(), 64, 34_554, 32),
        (Hnsw(quantization="half"), 64, 39_809, 32),
        (Hnsw(m=32), 64, 22_638, 32),
        (Hnsw(), 384, 14_897, 32),
        (Hnsw(quantization="half"), 384, 22_623, 32),
        (Hnsw(m=32, ef_construction=64), 384, 12_144, 32),
        (Hnsw(), 1536, 4_879, 32),
    ],
)
def test_the_memory_reckoned_is_that_which_was_measured(plan: Hnsw, dimension: int, rows: int, fitted: int) -> None:
    reckoned = _indexing.build_memory(plan, VectorField(dimension), rows)
    assert fitted * 1.05 < (reckoned / (1 << 20)) - 8 < fitted * 1.2


def test_room() -> None:
    mb = 1 << 20
    assert _indexing.room_for(10 * mb, allowed=64 * mb, shared_buffers=128 * mb, must=False) == 64 * mb
    assert _indexing.room_for(100 * mb, allowed=64 * mb, shared_buffers=128 * mb, must=False) == 100 * mb
    assert _indexing.room_for(900 * mb, allowed=64 * mb, shared_buffers=128 * mb, must=False) == 128 * mb
    assert _indexing.room_for(900 * mb, allowed=256 * mb, shared_buffers=128 * mb, must=False) == 256 * mb
    assert _indexing.room_for(900 * mb, allowed=64 * mb, shared_buffers=128 * mb, must=True) == 900 * mb
