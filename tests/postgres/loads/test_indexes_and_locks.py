"""Loads among others: indexes as they were, locks that somebody has, roles with few rights, connections that are lent."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import psycopg
import pytest
from psycopg_pool import ConnectionPool

import likewise
from likewise import (
    Collection,
    CollectionSpec,
    Gin,
    Hnsw,
    InvalidArgument,
    InvalidRecord,
    IvfFlat,
    Record,
    RecordExists,
    VectorStore,
)

from .helpers import as_role, contents, indexes_of, quiet, rows

# Indexes.


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize(
    "index",
    [Hnsw(m=8, ef_construction=32), IvfFlat(lists=5), Hnsw(quantization="half"), Hnsw(quantization="binary")],
    ids=str,
)
def test_indexes_of_an_empty_table_are_there_afterwards(
    store: VectorStore, ways: list[str], index: Hnsw | IvfFlat, lazy: bool
) -> None:
    things = quiet(store, CollectionSpec("things", dimension=16))
    things.ensure_indexes(vector=index)
    things.ensure_indexes(metadata=Gin())
    before = indexes_of(store)
    vectors = np.random.default_rng(0).normal(size=(2_000, 16)).astype(np.float32)
    given = [Record(f"r{i:05}", v, {"n": i}) for i, v in enumerate(vectors)]
    assert things.upsert(iter(given) if lazy else given) == 2_000
    assert ways == (["by_stage", "build"] if lazy else ["into_table", "build"])
    after = indexes_of(store)
    assert {n: (d, v) for n, (_, d, v) in after.items()} == {n: (d, v) for n, (_, d, v) in before.items()}
    built = next(i for i in things.indexes() if i.method in ("hnsw", "ivfflat"))
    assert after[built.name][0] != before[built.name][0], "it was built anew"
    with store.transaction() as connection:
        connection.execute("set local enable_seqscan = off")
        column = {"half": "vector::halfvec(16)", "binary": "binary_quantize(vector)::bit(16)"}.get(
            built.quantization, "vector"
        )
        query, operator = "'[" + ",".join(["1"] * 16) + "]'", "<=>"
        if built.quantization == "binary":
            query, operator = f"B'{'1' * 16}'", "<~>"
        elif built.quantization == "half":
            query += "::halfvec"
        plan = connection.execute(
            f"explain select id from things order by ({column}) {operator} {query} limit 5"
        ).fetchall()
    assert built.name in str(plan)
    assert things.recall(k=5, sample=20, ef_search=200) > 0.5
    assert contents(things) == given


@pytest.mark.parametrize(("known", "new", "rebuilt"), [(600, 1_500, True), (3_000, 600, True), (3_600, 600, False)])
def test_an_index_over_rows_is_built_anew_only_if_that_pays(
    store: VectorStore, things: Collection, ways: list[str], known: int, new: int, rebuilt: bool
) -> None:
    things.ensure_indexes(vector=Hnsw())
    # Small calls only, so that the server has no idea of how many rows there are.
    for low in range(0, known, 300):
        things.upsert(rows(300, start=low))
    before = indexes_of(store)
    given = rows(new, start=known - 100, version=1)
    assert things.upsert(given) == new
    after = indexes_of(store)
    assert (after != before) is rebuilt
    assert [d for _, d, _ in after.values()] == [d for _, d, _ in before.values()]
    assert contents(things) == [*rows(known - 100), *given]
    assert ways == ["by_stage", *(["build"] if rebuilt else [])]


def test_an_index_that_somebody_changed_meanwhile_stays_as_it_is_now(store: VectorStore, things: Collection) -> None:
    things.ensure_indexes(vector=Hnsw())
    with store.transaction() as connection:
        connection.execute("drop index idx_things_vector_hnsw")
    assert things.upsert(rows(700)) == 700
    assert "idx_things_vector_hnsw" not in indexes_of(store)
    things.delete(where={})
    with store.transaction() as connection:
        connection.execute("create index idx_things_vector_hnsw on things using hnsw (vector vector_l2_ops)")
    assert things.upsert(rows(700)) == 700
    assert "vector_l2_ops" in indexes_of(store)["idx_things_vector_hnsw"][1]


def test_an_index_with_a_comment_is_not_dropped(store: VectorStore, things: Collection) -> None:
    things.ensure_indexes(vector=Hnsw())
    with store.transaction() as connection:
        connection.execute("comment on index idx_things_vector_hnsw is 'mine'")
    before = indexes_of(store)
    assert things.upsert(rows(700)) == 700
    assert indexes_of(store) == before


def test_an_iterable_may_read_the_collection_it_is_written_to(things: Collection) -> None:
    things.ensure_indexes()

    def given() -> Iterator[Record]:
        for i, record in enumerate(rows(1_400)):
            if i % 100 == 0:
                assert things.count() == 0
                assert things.get_many([record.id]) == []
            yield record

    with likewise.deadline(60):
        assert things.upsert(given()) == 1_400


def test_an_iterable_that_writes_to_the_collection_it_is_written_to_is_refused(things: Collection) -> None:
    def given(write: Any) -> Iterator[Record]:
        for i, record in enumerate(rows(1_400)):
            if i == 1_000:
                write()
            yield record

    with likewise.deadline(60):
        for write in (lambda: things.upsert(rows(1)), lambda: things.delete("r"), lambda: things.upsert(rows(600))):
            with pytest.raises(InvalidArgument, match="writes to it as well"):
                things.upsert(given(write))
        assert things.count() == 0
        assert things.upsert(rows(1)) == 1
        # A table that is not empty is not had alone.
        assert things.upsert(given(lambda: things.upsert(Record("other", [1, 0, 0])))) == 1_400
        assert things.count() == 1_401


# Locks, rights, lenders.


def test_a_table_in_use_is_loaded_by_a_stage(store: VectorStore, things: Collection, ways: list[str]) -> None:
    things.ensure_indexes()
    with store.transaction() as other:
        things.using(other).upsert(Record("theirs", [1, 0, 0]))
        assert things.upsert(rows(800)) == 800
        assert ways == ["by_stage"]
        assert things.count() == 800
    assert things.count() == 801
    things.delete(where={})
    with store.transaction() as reader:
        reader.execute("select count(*) from things").fetchone()
        assert things.upsert(rows(800)) == 800
    assert ways == ["by_stage", "by_stage"], "a reader must not be kept off an index that is dropped"


def test_row_level_security_is_obeyed(
    store: VectorStore, things: Collection, ways: list[str], fresh_database_url: str, role: str
) -> None:
    with store.transaction() as connection:
        connection.execute(f"grant select, insert, update on things to {role}")
        connection.execute("alter table things enable row level security")
        connection.execute(
            f"create policy mine on things to {role} using (true) with check (metadata ->> 'n' <> '777')"
        )
    with likewise.connect(as_role(fresh_database_url, role)) as theirs:
        collection = theirs.collection("things")
        assert collection.upsert(rows(700)) == 700
        with pytest.raises(likewise.BackendError, match="row-level security"):
            collection.upsert(rows(800))
    assert ways == ["by_stage", "by_stage"]
    assert contents(things) == rows(700)


@pytest.mark.parametrize("rights", ["select, insert", "select, insert, update, delete, truncate"])
def test_a_role_that_does_not_own_the_table_may_load_it(
    store: VectorStore, things: Collection, ways: list[str], fresh_database_url: str, role: str, rights: str
) -> None:
    things.ensure_indexes()
    before = indexes_of(store)
    with store.transaction() as connection:
        connection.execute(f"grant {rights} on things to {role}")
    with likewise.connect(as_role(fresh_database_url, role)) as theirs:
        collection = theirs.collection("things")
        assert collection.insert(rows(700)) == 700
        assert collection.insert(rows(700, start=700)) == 700
    assert contents(things) == rows(1_400)
    assert indexes_of(store) == before
    assert "build" not in ways


def test_a_lent_connection_is_loaded_by_a_stage(
    store: VectorStore, things: Collection, ways: list[str], fresh_database_url: str
) -> None:
    with psycopg.connect(fresh_database_url) as connection:
        assert things.using(connection).upsert(rows(700)) == 700
        assert things.count() == 0
        connection.rollback()
        assert things.count() == 0
        with pytest.raises(InvalidRecord):
            things.using(connection).upsert([*rows(700), Record("bad", [1, 0, float("nan")])])
        with pytest.raises(RecordExists):
            things.using(connection).insert([*rows(700), *rows(1)])
        assert things.using(connection).insert(rows(700)) == 700
        connection.commit()
    assert contents(things) == rows(700)
    with store.transaction() as connection:
        assert things.using(connection).upsert(rows(700, version=1)) == 700
        assert things.using(connection).upsert(rows(700, start=700)) == 700
    with ConnectionPool(fresh_database_url, min_size=1, max_size=1) as pool:
        assert likewise.attach(pool).collection("things").upsert(rows(700, start=1_400)) == 700
    assert contents(things) == [*rows(700, version=1), *rows(1_400, start=700)]
    assert set(ways) == {"by_stage"}


@pytest.mark.parametrize("indexed", [False, True])
def test_several_connections_may_load_at_once(things: Collection, indexed: bool) -> None:
    if indexed:
        things.ensure_indexes()
    barrier, failures = threading.Barrier(4), list[BaseException]()

    def work(number: int) -> None:
        try:
            barrier.wait()
            for turn in range(2):
                given = rows(1_200, start=300 * number, version=number)
                things.upsert(given if turn else reversed(given))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert [r.id for r in contents(things)] == [f"r{i:06}" for i in range(2_100)]
    if indexed:
        assert all(index.valid for index in things.indexes())
