"""Records and business rows in one transaction: what the caller lends stays the caller's."""

from __future__ import annotations

import numpy as np
import psycopg
import psycopg_pool
import pytest
import sqlalchemy
import sqlalchemy.orm

import likewise
from likewise import CollectionSpec, InvalidArgument, Metadata, Record, RecordExists

SPEC = CollectionSpec("things", dimension=3)


@pytest.fixture
def url(fresh_database_url: str) -> str:
    with likewise.connect(fresh_database_url) as store:
        store.ensure_collection(SPEC).upsert([Record("known", [1, 0, 0], {"n": 1})])
        with store.transaction() as connection:
            connection.execute("create table product (id text primary key, price int)")
    return fresh_database_url


def ids(url: str) -> set[str]:
    with psycopg.connect(url) as connection:
        return {row[0] for row in connection.execute("select id from things")}


def products(url: str) -> set[str]:
    with psycopg.connect(url) as connection:
        return {row[0] for row in connection.execute("select id from product")}


def test_a_store_transaction_commits_records_and_rows_together(url: str) -> None:
    with likewise.connect(url) as store:
        things = store.collection("things")
        with store.transaction() as connection:
            connection.execute("insert into product values ('a', 5)")
            things.using(connection).upsert(Record("a", [0, 1, 0]))
            assert things.using(connection).count() == 2
            assert ids(url) == {"known"}, "nobody else sees half of it"
        assert ids(url) == {"known", "a"}
        assert products(url) == {"a"}


def test_a_store_transaction_that_fails_stores_neither(url: str) -> None:
    with likewise.connect(url) as store:
        things = store.collection("things")
        with pytest.raises(ZeroDivisionError), store.transaction() as connection:
            connection.execute("insert into product values ('a', 5)")
            things.using(connection).upsert(Record(str(i), [0, 1, i]) for i in range(1200))
            raise ZeroDivisionError
        assert ids(url) == {"known"}
        assert products(url) == set()


def test_a_refused_write_leaves_the_callers_transaction_usable(url: str) -> None:
    with psycopg.connect(url) as connection:
        things = likewise.attach(connection).collection("things")
        connection.execute("insert into product values ('a', 5)")
        with pytest.raises(RecordExists) as caught:
            things.insert([Record("known", [1, 0, 0]), Record("new", [1, 0, 0])])
        assert caught.value.record_ids == ("known",)
        connection.execute("insert into product values ('b', 6)")
    assert products(url) == {"a", "b"}
    assert ids(url) == {"known"}


def test_a_lent_connection_is_neither_committed_nor_rolled_back(url: str) -> None:
    connection = psycopg.connect(url)
    things = likewise.attach(connection).collection("things")
    things.upsert(Record("a", [0, 1, 0]))
    things.upsert([Record(f"many-{i}", [0, 1, i]) for i in range(1200)])
    assert len(things.search_by_vector([0, 1, 0], top_k=5)) == 5
    assert connection.info.transaction_status == psycopg.pq.TransactionStatus.INTRANS
    assert ids(url) == {"known"}
    connection.rollback()
    assert ids(url) == {"known"}
    things.upsert(Record("b", [0, 1, 0]))
    connection.commit()
    assert ids(url) == {"known", "b"}
    connection.close()
    with pytest.raises(InvalidArgument, match="closed"):
        things.count()


def test_a_search_leaves_no_setting_in_the_callers_transaction(url: str) -> None:
    with psycopg.connect(url) as connection:
        things = likewise.attach(connection).collection("things")
        things.ensure_indexes()
        connection.execute("select '[1]'::vector")
        settings = "select current_setting('hnsw.ef_search'), current_setting('hnsw.iterative_scan'), current_setting('statement_timeout')"
        before = connection.execute(settings).fetchone()
        with likewise.deadline(30):
            found = things.search_by_vector([1, 0, 0], top_k=1, ef_search=77)
            things.upsert(Record("x", [1, 1, 1]))
        assert found.explain().settings["hnsw.ef_search"] == "77"
        assert connection.execute(settings).fetchone() == before


def test_a_lent_pool_makes_each_call_a_transaction(url: str) -> None:
    with psycopg_pool.ConnectionPool(url, min_size=1, max_size=2, open=True) as pool:
        things = likewise.attach(pool).collection("things")
        things.upsert(Record("a", [0, 1, 0]))
        assert ids(url) == {"known", "a"}
        assert things.search_by_vector([0, 1, 0], top_k=1)[0].id == "a"


def sqlalchemy_url(url: str) -> str:
    return url.replace("postgresql://", "postgresql+psycopg://", 1)


def test_a_sqlalchemy_session_is_one_transaction(url: str) -> None:
    engine = sqlalchemy.create_engine(sqlalchemy_url(url))
    with sqlalchemy.orm.Session(engine) as session:
        things = likewise.attach(session).collection("things")
        session.execute(sqlalchemy.text("insert into product values ('a', 5)"))
        things.upsert(Record("a", [0, 1, 0]))
        assert ids(url) == {"known"}
        session.rollback()
        assert products(url) == set()
        session.execute(sqlalchemy.text("insert into product values ('b', 5)"))
        things.upsert(Record("b", [0, 1, 0]))
        session.commit()
    assert ids(url) == {"known", "b"}
    assert products(url) == {"b"}
    engine.dispose()


def test_a_sqlalchemy_connection_and_engine_can_be_lent(url: str) -> None:
    engine = sqlalchemy.create_engine(sqlalchemy_url(url))
    with engine.connect() as connection:
        likewise.attach(connection).collection("things").upsert(Record("a", [0, 1, 0]))
        assert ids(url) == {"known"}
        connection.commit()
    assert ids(url) == {"known", "a"}
    likewise.attach(engine).collection("things").upsert(Record("b", [0, 1, 0]))
    assert ids(url) == {"known", "a", "b"}
    engine.dispose()


async def test_async_lenders_work_alike(url: str) -> None:
    from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

    async with await psycopg.AsyncConnection.connect(url) as connection:
        things = await likewise.attach_async(connection).collection("things")
        await things.upsert(Record("a", [0, 1, 0]))
        assert ids(url) == {"known"}
    assert ids(url) == {"known", "a"}
    async with psycopg_pool.AsyncConnectionPool(url, min_size=1, open=False) as pool:
        things = await likewise.attach_async(pool).collection("things")
        await things.upsert(Record("b", [0, 1, 0]))
    engine = create_async_engine(sqlalchemy_url(url))
    async with AsyncSession(engine) as session:
        things = await likewise.attach_async(session).collection("things")
        await session.execute(sqlalchemy.text("insert into product values ('c', 5)"))
        await things.upsert(Record("c", [0, 1, 0]))
        assert ids(url) == {"known", "a", "b"}
        await session.commit()
    await likewise.attach_async(engine).drop_collection("nothing", missing_ok=True)
    await engine.dispose()
    assert ids(url) == {"known", "a", "b", "c"}


def test_what_cannot_be_lent_is_refused_with_what_can(url: str) -> None:
    with pytest.raises(InvalidArgument, match="psycopg"):
        likewise.attach(object())
    engine = sqlalchemy.create_engine("sqlite://")
    with pytest.raises(InvalidArgument, match="psycopg 3"):
        likewise.attach(engine)
    engine.dispose()


def test_collections_can_be_made_inside_a_lent_transaction(fresh_database_url: str) -> None:
    with psycopg.connect(fresh_database_url) as connection:
        store = likewise.attach(connection)
        things = store.ensure_collection(SPEC)
        things.upsert(Record(str(i), np.eye(3)[i % 3], {"i": i}) for i in range(9))
        assert things.count(Metadata("i") < 3) == 3
        connection.rollback()
        assert store.collections() == []


async def test_a_cancelled_call_frees_its_connection(url: str) -> None:
    import asyncio

    async with await likewise.connect_async(url) as store:
        things = await store.collection("things")
        async with store.transaction() as blocker:
            await blocker.execute("lock table things in access exclusive mode")
            task = asyncio.create_task(things.upsert(Record("late", [1, 1, 1])))
            await asyncio.sleep(0.2)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert await things.count() == 1


def test_json_of_other_tables_is_read_in_our_transactions(fresh_database_url: str) -> None:
    with likewise.connect(fresh_database_url) as store, store.transaction() as connection:
        for binary in (False, True):
            row = connection.execute("""select ' {"a": "é"} '::json, '[1, null]'::jsonb""", binary=binary).fetchone()
            assert row == ({"a": "é"}, [1, None])
