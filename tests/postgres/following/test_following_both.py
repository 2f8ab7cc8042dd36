"""What both feeds promise: the snapshot and the commits after it are the table, whatever was done to it and by whom."""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
import time

import psycopg
import pytest
from psycopg.pq import TransactionStatus

from likewise import AsyncCollection, CollectionNotFound, InvalidArgument, Record, SchemaMismatch
from likewise.abc.feeds import Cleared, Commit, Gone, Position, Put

from .helpers import SPEC, How, following, opened, opened_store, run, stored

#: (what is done, in one transaction) to the rows r0..r9.
CHANGES = {
    "insert": [
        "insert into things (id, vector, content) values ('new', '[1,2,3]', 'text'), ('other', '[0,0,0]', null)"
    ],
    "update": ["update things set vector = '[9,9,9]', metadata = '{\"n\": 1.50}' where id in ('r1', 'r2')"],
    "named vector comes and goes": [
        "update things set vector_title = '[0.5,-2]' where id = 'r3'",
        "update things set vector_title = null where id = 'r4'",
    ],
    "update of nothing": ["update things set content = content where id = 'r1'"],
    "update of an unread column": ["alter table things add column mine int", "update things set mine = 3"],
    "delete": ["delete from things where id in ('r1', 'r9')"],
    "delete all": ["delete from things"],
    "truncate": ["truncate things"],
    "truncate and insert": ["truncate things", "insert into things (id, vector) values ('r1', '[5,5,5]')"],
    "insert and delete": [
        "insert into things (id, vector) values ('x', '[5,5,5]')",
        "delete from things where id = 'x'",
    ],
    "delete and insert": [
        "delete from things where id = 'r1'",
        "insert into things (id, vector) values ('r1', '[5,5,5]')",
    ],
    "upsert": [
        (
            "insert into things (id, vector) values ('r1', '[7,7,7]'), ('n1', '[8,8,8]')"
            " on conflict (id) do update set vector = excluded.vector"
        )
    ],
    "do nothing": ["insert into things (id, vector) values ('r1', '[7,7,7]') on conflict (id) do nothing"],
    "new id": ["update things set id = 'moved' where id = 'r5'"],
    "new id and more": ["update things set id = 'moved', vector = '[4,4,4]', content = 'c' where id = 'r5'"],
    "ids change places": [
        "update things set id = 'hold' where id = 'r5'",
        "update things set id = 'r5' where id = 'r6'",
        "update things set id = 'r6' where id = 'hold'",
    ],
    "old id again": [
        "update things set id = 'moved' where id = 'r5'",
        "insert into things (id, vector) values ('r5', '[1,1,1]')",
    ],
    "merge": [
        (
            "merge into things as t using (values ('r1'), ('m1')) as s(id) on t.id = s.id"
            " when matched then delete when not matched then insert (id, vector) values (s.id, '[2,2,2]')"
        )
    ],
    "savepoint": [
        "insert into things (id, vector) values ('kept', '[1,1,1]')",
        "savepoint one",
        "insert into things (id, vector) values ('lost', '[1,1,1]')",
        "update things set content = 'lost' where id = 'r1'",
        "rollback to savepoint one",
        "savepoint two",
        "update things set content = 'kept' where id = 'r2'",
        "release savepoint two",
    ],
    "not ASCII": [
        "insert into things (id, vector, metadata, content) values ('Ωmega', '[1,1,1]', '{\"ä\": \"\\u00f6 💡\"}', E'ß\\n💡')"
    ],
}


async def ten(collection: AsyncCollection) -> None:
    """Rows r0 to r9."""
    await collection.upsert(
        [
            Record(f"r{i}", [i, 1, 2], {"n": i}, f"text {i}", vectors={"title": [i, i]} if i % 2 else {})
            for i in range(10)
        ]
    )


@pytest.mark.parametrize("what", CHANGES)
async def test_what_a_transaction_did(url: str, how: How, what: str) -> None:
    async with opened(url, SPEC) as collection:
        await ten(collection)
        async with following(collection, how) as copy:
            assert copy.rows == stored(url)
            with psycopg.connect(url) as connection:
                for statement in CHANGES[what]:
                    connection.execute(statement)
            assert (await copy.at(await collection._position())).rows == stored(url)
            assert len([c for c in copy.commits if c.changes]) <= 1, "it is told whole"


async def test_copied_rows_and_a_large_transaction(url: str, how: How) -> None:
    async with opened(url, SPEC) as collection, following(collection, how) as copy:
        assert copy.rows == {}
        await collection.upsert([Record(f"a{i}", [i, 0, 1], {"n": i}, "c") for i in range(20_000)])
        assert (await copy.at(await collection._position())).rows == stored(url)
        assert [len(c.changes) for c in copy.commits if c.changes] == [20_000]


async def test_what_is_rolled_back_is_never_told(url: str, how: How) -> None:
    async with opened(url, SPEC) as collection:
        await ten(collection)
        async with following(collection, how) as copy:
            with psycopg.connect(url) as connection:
                connection.execute("update things set content = 'never'")
                connection.execute("insert into things (id, vector) values ('never', '[1,1,1]')")
                connection.execute("truncate things")
                connection.rollback()
            await collection.delete("r3")
            await copy.at(await collection._position())
            assert [c.changes for c in copy.commits if c.changes] == [[Gone("r3")]]


async def test_a_value_kept_out_of_line_stays(url: str, how: How) -> None:
    """A row whose content is large is updated elsewhere: the log has not the content then."""
    large = "".join(random.Random(1).choices("abcdefghijklmnopqrstuvwxyz0123456789", k=60_000))
    async with opened(url, SPEC) as collection:
        await collection.upsert([Record("big", [1, 1, 1], {"n": 1}, large), Record("other", [1, 1, 1], {}, large)])
        async with following(collection, how) as copy:
            run(url, "update things set vector = '[2,2,2]' where id = 'big'")
            run(url, "update things set id = 'renamed' where id = 'other'")
            assert (await copy.at(await collection._position())).rows == stored(url)
            assert copy.rows["big"]["content"] == copy.rows["renamed"]["content"] == large.encode()


async def test_only_what_is_asked_for_is_told(url: str, how: How) -> None:
    async with opened(url, SPEC) as collection:
        await ten(collection)
        async with following(collection, how, holds=frozenset()) as copy:
            assert set(copy.rows["r1"]) == {"vector ", "vector title"}
        feed = collection._feed(frozenset({"metadata"}), name=None, how=how)
        async with feed:
            assert not await feed.begin(None)
            parts = [rows async for rows in feed.snapshot()]
            assert [set(rows.payload) for rows in parts] == [{"metadata"}]
            assert sum(len(rows.ids) for rows in parts) == 10
        with pytest.raises(InvalidArgument, match="modality"):
            collection._feed(frozenset({"modality"}), name=None, how=how)


async def test_a_multimodal_collection(url: str, how: How) -> None:
    from likewise import CollectionSpec

    async with opened(url, CollectionSpec("pictures", dimension=2, multimodal=True)) as collection:
        await collection.upsert([Record("p", [1, 2], {}, None, modality="image", content_id="shop-1")])
        feed = collection._feed(frozenset({"modality", "content_id"}), name=None, how=how)
        async with feed:
            await feed.begin(None)
            (rows,) = [rows async for rows in feed.snapshot()]
            assert rows.payload == {"modality": [b"image"], "content_id": [b"shop-1"]}
            await collection.upsert([Record("t", [1, 2], {}, "text", modality="text", content_id="shop-1")])
            async for commits in feed.commits():
                if puts := [change for commit in commits for change in commit.changes]:
                    break
            (put,) = puts
            assert isinstance(put, Put)
            assert put.payload == {"modality": b"text", "content_id": b"shop-1"}


async def test_the_position_moves_where_nothing_happens(url: str, how: How) -> None:
    """Others write much in the same database; the copy has nothing to apply, and is up to date all the same."""
    async with opened(url, SPEC) as collection, following(collection, how) as copy:
        run(url, "create table elsewhere (n int)")
        for n in range(20):
            run(url, f"insert into elsewhere select generate_series(1, {n * 50})")
            await copy.at(await collection._position())
        assert not any(commit.changes for commit in copy.commits)


async def test_a_position_learnt_before_is_reached_at_once_and_one_from_after_is_not(url: str, how: How) -> None:
    async with opened(url, SPEC) as collection:
        await ten(collection)
        before = await collection._position()
        async with following(collection, how) as copy:
            assert copy.feed.reached(copy.feed.position, before)
            await collection.delete("r1")
            after = await collection._position()
            assert not copy.feed.reached(before, after)
            assert not copy.feed.reached(copy.feed.position, after)
            assert copy.feed.reached(after, before)
            with pytest.raises(InvalidArgument, match="no "):
                copy.feed.reached(copy.feed.position, Position("yesterday"))


async def test_the_sum_of_snapshot_and_commits_while_others_write(url: str, how: How) -> None:
    """Four connections write all the time, from before the snapshot until after; pairs of rows are always moved together."""
    async with opened(url, SPEC) as collection:
        await collection.upsert([Record(f"w{i}-{k}", [0, 1, k], {}, "") for i in range(4) for k in range(60)])
        stop = threading.Event()
        writers = [asyncio.create_task(asyncio.to_thread(write, url, i, stop)) for i in range(4)]
        await asyncio.sleep(0.2)
        async with following(collection, how) as copy:
            assert_pairs(copy.rows)
            seen = 0
            apply = copy.apply

            def checked(commit: Commit) -> None:
                nonlocal seen
                apply(commit)
                seen += 1
                if seen % 20 == 0:
                    assert_pairs(copy.rows)

            copy.apply = checked  # type: ignore[method-assign]
            await asyncio.sleep(1.5)
            stop.set()
            written = sum(await asyncio.gather(*writers))
            assert (await copy.at(await collection._position())).rows == stored(url)
            assert written > 100
            assert seen > 20


def write(url: str, number: int, stop: threading.Event) -> int:
    """Transactions of one connection, each of which gives both rows of a pair the same number; how many were committed."""
    drawn = random.Random(number)
    done = 0
    with psycopg.connect(url) as connection:
        while not stop.is_set():
            k = drawn.randrange(0, 60, 2)
            pair = [f"w{number}-{k}", f"w{number}-{k + 1}"]
            match drawn.randrange(4):
                case 0:
                    connection.execute("delete from things where id = any (%s)", (pair,))
                case _:
                    for id_ in pair:
                        connection.execute(
                            "insert into things (id, vector, content) values (%s, %s::vector, %s)"
                            " on conflict (id) do update set vector = excluded.vector, content = excluded.content",
                            (id_, f"[{done},0,{number}]", "x" * drawn.randrange(10)),
                        )
            if drawn.randrange(5) == 0:
                connection.rollback()
            else:
                connection.commit()
                done += 1
    return done


def assert_pairs(rows: dict[str, dict[str, object]]) -> None:
    for id_, held in rows.items():
        writer, k = id_.split("-")
        other = rows.get(f"{writer}-{int(k) ^ 1}")
        assert other is not None, "half of a transaction"
        assert other["vector "][0] == held["vector "][0], "half of a transaction"  # type: ignore[index]


@pytest.mark.parametrize("seed", range(4))
async def test_random_transactions(url: str, how: How, seed: int) -> None:
    """Two connections with open transactions, savepoints and errors; the copy is compared with the table again and again."""
    drawn = random.Random(seed)
    async with opened(url, SPEC) as collection:
        await ten(collection)
        with psycopg.connect(url) as one, psycopg.connect(url) as two:
            async with following(collection, how) as copy:
                for step in range(240):
                    connection = drawn.choice((one, two))
                    connection.execute("set local lock_timeout = '5ms'")
                    statement = drawn.choice(STATEMENTS)
                    values = {
                        "id": f"r{drawn.randrange(14)}",
                        "other": f"r{drawn.randrange(14)}",
                        "n": drawn.randrange(1, 99),
                    }
                    try:
                        with connection.transaction() if drawn.random() < 0.5 else contextlib.nullcontext():
                            connection.execute(statement, values)
                            if drawn.random() < 0.2:
                                raise psycopg.errors.RaiseException
                    except (
                        psycopg.errors.LockNotAvailable,
                        psycopg.errors.UniqueViolation,
                        psycopg.errors.RaiseException,
                    ):
                        if connection.info.transaction_status == TransactionStatus.INERROR or drawn.random() < 0.2:
                            connection.rollback()
                    # Nobody can look at the table before a TRUNCATE has ended.
                    if drawn.random() < 0.3 or statement.startswith("truncate"):
                        connection.commit()
                    if step % 8 == 0:
                        assert (await copy.at(await collection._position())).rows == stored(url)
                one.commit()
                two.commit()
                assert (await copy.at(await collection._position())).rows == stored(url)
                assert sum(len(commit.changes) for commit in copy.commits) > 20


STATEMENTS = [
    "insert into things (id, vector, content) values (%(id)s, array[%(n)s, 1, 1]::vector, 'new')",
    "insert into things (id, vector) values (%(id)s, array[%(n)s, 2, 2]::vector) on conflict (id) do update set vector = excluded.vector",
    "insert into things (id, vector) select x, array[%(n)s, 3, 3]::vector from unnest(array[%(id)s, %(other)s]) as x on conflict do nothing",
    "update things set content = repeat('x', %(n)s), metadata = jsonb_build_object('n', %(n)s) where id = %(id)s",
    "update things set vector_title = case when %(n)s > 50 then '[1,2]'::halfvec end where id >= %(id)s",
    "update things set id = %(other)s where id = %(id)s",
    "delete from things where id in (%(id)s, %(other)s)",
    "truncate things",
]


async def test_commits_come_in_their_order(url: str, how: How) -> None:
    """Each connection counts up in a row of its own and in one that all share: no copy ever sees a count go down."""
    async with opened(url, SPEC) as collection:
        await collection.upsert([Record(x, [0, 0, 1]) for x in ("shared", "a", "b", "c")])

        def count(name: str) -> None:
            with psycopg.connect(url, autocommit=True) as connection:
                for _ in range(50):
                    connection.execute(
                        "update things set metadata = jsonb_build_object('n', coalesce((metadata ->> 'n')::int, 0) + 1)"
                        " where id = any (%s)",
                        (sorted([name, "shared"], reverse=True),),
                    )

        async with following(collection, how) as copy:
            await asyncio.gather(*(asyncio.to_thread(count, name) for name in "abc"))
            await copy.at(await collection._position())
            assert copy.rows == stored(url)
            assert copy.rows["shared"]["metadata"] == b'{"n": 150}'
            last: dict[str, int] = {}
            for commit in copy.commits:
                for change in commit.changes:
                    assert isinstance(change, Put)
                    n = int((change.payload["metadata"] or b"").partition(b" ")[2][:-1])
                    assert n > last.get(change.id, 0)
                    last[change.id] = n


async def test_a_lost_update_of_the_reader_is_no_loss_of_the_copy(url: str, how: How) -> None:
    """A row that is deleted and comes again between two looks is there, as it is now."""
    async with opened(url, SPEC) as collection:
        await ten(collection)
        async with following(collection, how) as copy:
            for n in range(30):
                run(
                    url,
                    "delete from things where id = 'r1'",
                    f"insert into things (id, vector) values ('r1', '[{n},0,0]')",
                )
            assert (await copy.at(await collection._position())).rows == stored(url)


async def test_a_collection_that_is_dropped(url: str, how: How) -> None:
    async with opened_store(url) as store:
        collection = await store.collection("things")
        async with following(collection, how) as copy:
            await store.drop_collection("things")
            error = await copy.fails()
            assert isinstance(error, CollectionNotFound), error
        async with collection._feed(frozenset(), name=None, how=how) as feed:
            with pytest.raises(CollectionNotFound):
                await feed.begin(None)


async def test_a_collection_that_is_made_again(url: str, how: How) -> None:
    async with opened_store(url) as store:
        collection = await store.collection("things")
        async with following(collection, how) as copy:
            await store.drop_collection("things")
            again = await store.ensure_collection(SPEC)
            await again.upsert([Record("r", [1, 1, 1])])
            assert isinstance(await copy.fails(), CollectionNotFound)


async def test_a_column_of_another_type(url: str, how: How) -> None:
    async with opened(url, SPEC) as collection:
        await ten(collection)
        async with following(collection, how) as copy:
            run(
                url,
                "alter table things alter column vector type vector(2) using subvector(vector, 1, 2)",
                "insert into things (id, vector) values ('x', '[1,2]')",
            )
            error = await copy.fails()
            assert isinstance(error, SchemaMismatch), error
            assert "vector" in str(error) or "columns" in str(error)


async def test_a_column_that_is_added_is_nothing_to_the_copy(url: str, how: How) -> None:
    async with opened(url, SPEC) as collection:
        await ten(collection)
        async with following(collection, how) as copy:
            run(
                url,
                "alter table things add column mine text default 'x'",
                "insert into things (id, vector, mine) values ('new', '[1,2,3]', 'y')",
                "alter table things drop column mine",
                "update things set content = 'after' where id = 'r1'",
            )
            assert (await copy.at(await collection._position())).rows == stored(url)


async def test_it_can_be_closed_twice_and_at_any_time(url: str, how: How) -> None:
    async with opened(url, SPEC) as collection:
        await ten(collection)
        feed = collection._feed(frozenset(), name=None, how=how)
        await feed.aclose()
        await feed.hurry()
        await feed.begin(None)
        async for _ in feed.snapshot():
            break
        await feed.aclose()
        await feed.aclose()
        with pytest.raises(InvalidArgument, match="begin"):
            async for _ in feed.commits():
                pass
        # The server ends a connection that was closed a moment later.
        until = time.monotonic() + 20
        while left := connected(url):
            assert time.monotonic() < until, left
            await asyncio.sleep(0.02)


def connected(url: str) -> list[tuple[str, str]]:
    """The connections of copies to this database."""
    with psycopg.connect(url) as connection:
        return connection.execute(
            "select application_name, state from pg_stat_activity where application_name like 'likewise copy%'"
            " and datname = current_database()"
        ).fetchall()


async def test_nothing_is_told_twice_or_out_of_place_with_a_table_of_that_name_in_another_schema(
    url: str, how: How
) -> None:
    async with opened(url, SPEC) as collection:
        run(url, "create schema other", "create table other.things (like public.things including all)")
        async with following(collection, how) as copy:
            run(url, "insert into other.things (id, vector) values ('elsewhere', '[1,1,1]')", "truncate other.things")
            await collection.upsert([Record("here", [1, 1, 1])])
            await copy.at(await collection._position())
            changes = [change for commit in copy.commits for change in commit.changes]
            assert [type(c) for c in changes] == [Put]
            assert not any(isinstance(c, Cleared) for c in changes)
