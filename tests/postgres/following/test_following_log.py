"""What is the log's own: slots that are kept, lost and shared, rights, positions, and how soon a commit is told."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

import likewise
from likewise import AsyncCollection, InvalidArgument, Record, SchemaMismatch, UnsupportedFeature
from likewise.abc.feeds import Position
from likewise.backends.postgres._install import resource
from likewise.backends.postgres.embedded import EmbeddedServer
from likewise.backends.postgres.following import _slots, log
from likewise.backends.postgres.following._positions import log_place, log_position
from likewise.errors import BackendConflict, BackendError, BackendUnavailable

from .helpers import ALL, SPEC, following, opened, opened_store, run, stored


def slots(url: str) -> list[str]:
    with psycopg.connect(url) as connection:
        found = connection.execute(
            "select slot_name::text from pg_replication_slots where database = current_database() order by 1"
        ).fetchall()
    return [name for (name,) in found]


def publications(url: str) -> list[str]:
    with psycopg.connect(url) as connection:
        found = connection.execute(
            "select pubname::text from pg_publication where pubname ~ '^likewise_' order by 1"
        ).fetchall()
    return [name for (name,) in found]


async def forget(collection: AsyncCollection, name: str = "mine") -> None:
    """Drop the copy's slot."""
    async with collection._feed(ALL, name=name, how="log") as feed:
        await feed.forget()


async def some(collection: AsyncCollection, first: int = 0, count: int = 10) -> None:
    await collection.upsert([Record(f"r{i}", [i, 1, 2], {"n": i}) for i in range(first, first + count)])


async def test_a_copy_goes_on_where_it_was(url: str) -> None:
    async with opened(url) as collection:
        await some(collection)
        async with following(collection, "log", name="mine") as copy:
            await some(collection, 10)
            await copy.at(await collection._position())
            await copy.feed.kept(copy.position)
        await some(collection, 20)
        run(url, "delete from things where id in ('r1', 'r11')")
        async with following(collection, "log", name="mine", of=copy, resumes=True) as again:
            assert (await again.at(await collection._position())).rows == stored(url)
            changed = sum(len(c.changes) for c in again.commits)
            assert changed == 12, "what it had before is not told again"
        assert len(slots(url)) == 1
        await forget(collection)
        assert not slots(url)
        assert not publications(url)


async def test_what_was_not_kept_is_told_again(url: str) -> None:
    """The file of a copy may be older than what it has read: it goes on from the file."""
    async with opened(url) as collection:
        await some(collection)
        async with following(collection, "log", name="mine") as copy:
            await copy.at(await collection._position())
            await copy.feed.kept(copy.position)
            kept, rows = copy.position, dict(copy.rows)
            await some(collection, 10)
            await copy.at(await collection._position())
            assert len(copy.rows) == 20
        copy.position, copy.rows = kept, rows
        async with following(collection, "log", name="mine", of=copy, resumes=True) as again:
            assert (await again.at(await collection._position())).rows == stored(url)
        await forget(collection)


async def test_a_copy_that_is_older_than_what_the_slot_has_begins_anew(url: str) -> None:
    async with opened(url) as collection:
        await some(collection)
        async with following(collection, "log", name="mine") as copy:
            old = copy.position
            await some(collection, 10)
            await copy.at(await collection._position())
            await copy.feed.kept(copy.position)
            with psycopg.connect(url) as connection:
                async with asyncio.timeout(30):
                    while connection.execute(
                        "select confirmed_flush_lsn::text from pg_replication_slots where slot_name = %s",
                        (slots(url)[0],),
                    ).fetchone() != (copy.position,):
                        connection.rollback()
                        await asyncio.sleep(0.01)
        copy.position = old
        async with following(collection, "log", name="mine", of=copy, resumes=False) as again:
            assert again.rows == stored(url)
        ahead = log_position(log_place(copy.position) + (1 << 40))
        copy.position = ahead
        async with following(collection, "log", name="mine", of=copy, resumes=False) as again:
            assert again.rows == stored(url), "a position of another server's history"
        assert len(slots(url)) == 1
        await forget(collection)


@pytest.mark.parametrize("gone", ["slot", "table", "publication"])
async def test_what_was_dropped_meanwhile_is_noticed(url: str, gone: str) -> None:
    async with opened_store(url) as store:
        collection = await store.collection("things")
        await some(collection)
        async with following(collection, "log", name="mine") as copy:
            await copy.feed.kept(copy.position)
        match gone:
            case "slot":
                run(url, f"select pg_drop_replication_slot('{slots(url)[0]}')")
            case "table":
                await store.drop_collection("things")
                collection = await store.ensure_collection(SPEC)
            case _:
                run(url, f"drop publication {publications(url)[0]}")
        await some(collection, 10)
        async with following(collection, "log", name="mine", of=copy, resumes=False) as again:
            await some(collection, 20)
            assert (await again.at(await collection._position())).rows == stored(url)
        assert len(slots(url)) == 1, "the slot that is of no use is gone"
        await forget(collection)


async def test_a_slot_that_the_server_gave_up(url: str) -> None:
    """With ``max_slot_wal_keep_size`` the server drops the log that a slot needs, when that is too much."""
    async with opened(url) as collection:
        await some(collection)
        async with following(collection, "log", name="mine") as copy:
            await copy.feed.kept(copy.position)
        run(url, "alter system set max_slot_wal_keep_size = '1MB'", "select pg_reload_conf()")
        try:
            run(url, "create table noise (n int)")
            for n in range(8):
                run(url, f"insert into noise values ({n})", "select pg_switch_wal()")
            run(url, "checkpoint")
            with psycopg.connect(url) as connection:
                found = connection.execute("select wal_status from pg_replication_slots").fetchall()
            assert ("lost",) in found, found
            async with following(collection, "log", name="mine", of=copy, resumes=False) as again:
                assert (await again.at(await collection._position())).rows == stored(url)
        finally:
            run(url, "alter system reset max_slot_wal_keep_size", "select pg_reload_conf()")
        await forget(collection)


async def test_what_is_kept_for_a_collection_goes_with_it(url: str) -> None:
    async with opened_store(url) as store:
        collection = await store.collection("things")
        async with following(collection, "log", name="mine"):
            pass
        await store.drop_collection("things")
        assert not publications(url)
        assert slots(url), "the slot is the copy's, and only its owner can say that it does not come again"
        await forget(collection)
        assert not slots(url)


async def test_a_beginning_that_is_broken_off_leaves_nothing(url: str) -> None:
    """A slot is made when the transactions that write have ended. Who does not wait for that has no slot."""
    async with opened(url) as collection:
        with psycopg.connect(url) as writing:
            writing.execute("create table long_one (n int)")
            feed = collection._feed(ALL, name="mine", how="log")
            beginning = asyncio.create_task(feed.begin(None))
            for _ in range(100):
                await asyncio.sleep(0.05)
                if slots(url):
                    break
            assert not beginning.done()
            beginning.cancel()
            with pytest.raises(asyncio.CancelledError):
                await beginning
            await feed.aclose()
        assert not slots(url)


async def test_two_cannot_share_a_name(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_slots, "_BUSY_SECONDS", 0.3)
    async with opened(url) as collection:
        await some(collection)
        async with following(collection, "log", name="mine") as copy:
            async with collection._feed(ALL, name="mine", how="log") as second:
                with pytest.raises(BackendConflict, match=r"likewise copy of things.*another"):
                    await second.begin(copy.position)
            async with following(collection, "log", name="other") as third, following(collection, "log") as fourth:
                await some(collection, 10)
                position = await collection._position()
                for each in (copy, third, fourth):
                    assert (await each.at(position)).rows == stored(url)
        await forget(collection)
        assert len(slots(url)) == 1
        assert publications(url), "the other copy needs it"
        await forget(collection, "other")
        assert not publications(url)


async def test_a_name_of_two_collections(url: str) -> None:
    """One process may use one name for all its copies."""
    async with await likewise.connect_async(url) as store:
        one, two = [await store.ensure_collection(likewise.CollectionSpec(n, dimension=3)) for n in ("one", "two")]
        feeds = [collection._feed(frozenset(), name="mine", how="log") for collection in (one, two)]
        for feed in feeds:
            assert not await feed.begin(None)
        assert len(slots(url)) == 2
        for feed in feeds:
            await feed.forget()
        assert not slots(url)


PROGRAM = """
import asyncio, sys
import likewise
async def main():
    async with await likewise.connect_async(sys.argv[1]) as store:
        collection = await store.collection("things")
        async with collection._feed(frozenset(), name="mine", how="log") as feed:
            await feed.begin(None)
            async for rows in feed.snapshot():
                pass
            async for commits in feed.commits():
                print(commits[-1].position, flush=True)
                await feed.kept(commits[-1].position)
asyncio.run(main())
"""


async def test_a_process_that_is_killed(url: str) -> None:
    async with opened(url) as collection:
        await some(collection)
        reader = await asyncio.create_subprocess_exec(
            sys.executable, "-c", PROGRAM, url, stdout=asyncio.subprocess.PIPE
        )
        assert reader.stdout is not None
        try:
            # What is committed before it follows is in its snapshot.
            last = await reader.stdout.readline()
            for n in range(1, 6):
                await some(collection, n)
                last = await reader.stdout.readline()
        finally:
            reader.send_signal(signal.SIGKILL)
            await reader.wait()
        # It may have been told of the last rows in several lines, and keeps no position that it has not said.
        last = ((await reader.stdout.read()).splitlines() or [last])[-1]
        rows = set(stored(url))
        await some(collection, 100)
        async with collection._feed(frozenset(), name="mine", how="log") as feed:
            assert await feed.begin(Position(last.decode().strip())), (
                "the server lets go of a slot whose reader was killed"
            )
            told = set()
            async with asyncio.timeout(30):
                async for commits in feed.commits():
                    told |= {change.id for commit in commits for change in commit.changes}  # type: ignore[union-attr]
                    if told >= {f"r{i}" for i in range(100, 110)}:
                        break
            assert rows | told == set(stored(url))
            await feed.forget()


async def test_a_connection_that_is_lost(url: str) -> None:
    async with opened(url) as collection:
        await some(collection)
        for _ in range(2):
            async with following(collection, "log") as copy:
                run(
                    url,
                    "select pg_terminate_backend(active_pid) from pg_replication_slots where database = current_database()"
                    " and active",
                )
                assert isinstance(await copy.fails(), BackendUnavailable)
        async with following(collection, "log") as copy:
            run(
                url,
                "select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'likewise copy%'"
                " and backend_type = 'client backend' and datname = current_database()",
            )
            assert isinstance(await copy.fails(), BackendUnavailable), "the connection that looks at the table"


async def test_a_publication_that_is_altered(url: str) -> None:
    """What the log no longer tells is not taken for nothing having happened."""
    async with opened(url) as collection:
        for change in (
            "drop publication {}",
            "alter publication {} set (publish = 'insert')",
            "alter publication {} drop table things",
        ):
            async with following(collection, "log") as copy:
                run(url, change.format(publications(url)[0]))
                error = await copy.fails()
                assert isinstance(error, SchemaMismatch | BackendError)
                assert "publication" in str(error)
            async with following(collection, "log") as copy:
                await some(collection)
                assert (await copy.at(await collection._position())).rows == stored(url), "it is made again"


async def test_a_row_is_known_by_its_id(url: str) -> None:
    async with opened(url) as collection:
        await some(collection)
        run(url, "alter table things replica identity full")
        async with following(collection, "log") as copy:
            run(
                url,
                "update things set id = 'moved', content = 'x' where id = 'r1'",
                "delete from things where id = 'r2'",
            )
            assert (await copy.at(await collection._position())).rows == stored(url)
        run(url, "alter table things replica identity nothing")
        async with collection._feed(ALL, name=None, how="log") as feed:
            with pytest.raises(SchemaMismatch, match="REPLICA IDENTITY DEFAULT"):
                await feed.begin(None)
        run(url, f"drop publication {publications(url)[0]}", "alter table things replica identity default")
        run(url, "alter table things set unlogged")
        async with collection._feed(ALL, name=None, how="log") as feed:
            with pytest.raises(SchemaMismatch, match="SET LOGGED"):
                await feed.begin(None)


async def test_tables_that_cannot_be_followed(url: str) -> None:
    async with opened(url) as collection, collection._feed(ALL, name=None, how="log") as feed:
        run(url, "alter table things enable row level security", "alter table things force row level security")
        with as_role(url, "looks_only", "superuser") as theirs:
            run(theirs, "select 1")
        with as_role(url, "plain", "replication") as theirs:
            run(url, "grant select on all tables in schema public, likewise to plain")
            run(url, "grant usage on schema likewise to plain")
            async with await likewise.connect_async(theirs) as store:
                hidden = await store.collection("things")
                async with hidden._feed(ALL, name=None, how="log") as refused:
                    with pytest.raises(UnsupportedFeature, match="BYPASSRLS"):
                        await refused.begin(None)
        assert not await feed.begin(None)


def test_a_hot_standby_is_refused(folder: Path) -> None:
    with EmbeddedServer(folder / "postgres") as server, likewise.connect(server.url()) as store:
        store.ensure_collection(SPEC)
    (configuration,) = (folder / "postgres").rglob("postgresql.conf")
    (configuration.parent / "standby.signal").touch(mode=0o644)
    with EmbeddedServer(folder / "postgres") as server:
        asyncio.run(_refused(server.url()))


async def _refused(url: str) -> None:
    async with await likewise.connect_async(url) as store:
        collection = await store.collection("things")
        assert log_place(await collection._position()) > 0
        for how in ("log", "triggers", None):
            async with collection._feed(ALL, name=None, how=how) as feed:
                with pytest.raises(UnsupportedFeature, match="connect to the primary"):
                    await feed.begin(None)


@contextlib.contextmanager
def as_role(url: str, name: str, rights: str = "") -> Iterator[str]:
    """The URL for a role of the test's own."""
    run(url, f"create role {name} login password 'x' {rights}")
    try:
        yield make_conninfo(url, user=name, password="x", passfile="")
    finally:
        run(url, f"drop owned by {name}", f"drop role {name}")


async def test_a_role_without_rights(url: str) -> None:
    async with opened(url):
        run(
            url,
            "grant usage on schema likewise to public",
            "grant select on all tables in schema public, likewise to public",
        )
        with as_role(url, "may_nothing") as theirs:
            async with await likewise.connect_async(theirs) as store:
                collection = await store.collection("things")
                async with collection._feed(ALL, name=None, how="log") as feed:
                    with pytest.raises(BackendError, match="ROLE … REPLICATION"):
                        await feed.begin(None)
        with as_role(url, "may_not_publish", "replication") as theirs:
            async with await likewise.connect_async(theirs) as store:
                collection = await store.collection("things")
                async with collection._feed(ALL, name=None, how="log") as feed:
                    with pytest.raises(BackendError, match=r"owner.*CREATE PUBLICATION likewise_"):
                        await feed.begin(None)
                async with opened(url) as theirs_too, following(theirs_too, "log"):
                    pass
                async with following(collection, "log") as copy:
                    assert copy.rows == {}, "who may not publish a table may read what is published"


def test_names_and_ways_are_checked(url: str) -> None:
    with likewise.connect(url) as store:
        collection = store.ensure_collection(SPEC)
        for name in ("", "Mine", "a-b", "x" * 33, "drop table"):
            with pytest.raises(InvalidArgument, match="lower-case"):
                collection._feed(ALL, name=name, how="log")
        with pytest.raises(InvalidArgument, match="how is"):
            collection._feed(ALL, name=None, how="mail")  # type: ignore[arg-type]
        with psycopg.connect(url) as connection, pytest.raises(UnsupportedFeature, match="lent"):
            collection.using(connection)._feed(ALL, name=None, how="log")
    with likewise.connect("memory://") as memory:
        notes = memory.ensure_collection(SPEC)
        with pytest.raises(UnsupportedFeature, match="the memory backend"):
            notes._feed(ALL, name=None)
        with pytest.raises(UnsupportedFeature, match="the memory backend"):
            notes._position()


@pytest.mark.parametrize("commit", ["on", "off", "local"])
@pytest.mark.parametrize("version", [16, 18])
async def test_a_position_is_never_too_early_and_soon_reached(
    request: pytest.FixtureRequest, commit: str, version: int
) -> None:
    """Whatever others see committed is in the copy that has reached the position; also if their commits need not be on disk yet."""
    url = request.getfixturevalue("url" if version == 18 else "url_16")
    async with opened(url) as collection, following(collection, "log") as copy:
        waits = []
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(f"set synchronous_commit = {commit}")
            for n in range(30):
                id_ = f"{commit}{n}"
                connection.execute("insert into things (id, vector) values (%s, '[1,1,1]')", (id_,))
                position = await collection._position()
                began = time.monotonic()
                await copy.at(position)
                waits.append(time.monotonic() - began)
                assert id_ in copy.rows
        waits.sort()
        assert waits[len(waits) // 2] < 0.1, "nobody waits for the server to write its log out when it likes"


@pytest.mark.parametrize(
    ("end", "position"),
    [
        ("0/2000028", "0/2000000"),
        ("0/2000030", "0/2000030"),
        ("0/2002018", "0/2002000"),
        ("0/2002020", "0/2002020"),
        ("0/2002028", "0/2002028"),
        ("0/2002000", "0/2002000"),
        ("1/2003FF8", "1/2003FF8"),
    ],
)
def test_a_position_behind_the_head_of_a_page_is_the_end_of_the_page_before(
    database_url: str, end: str, position: str
) -> None:
    """And the end of a record that has a few bytes on a page is none."""
    text = resource("position.sql").replace("@flushed@", "null")
    for function, place in (("pg_current_wal_insert_lsn", end), ("pg_current_wal_flush_lsn", "F/0")):
        assert f"pg_catalog.{function}()" in text
        text = text.replace(f"pg_catalog.{function}()", f"'{place}'::pg_lsn")
    with psycopg.connect(database_url) as connection:
        row = connection.execute(text).fetchone()
    assert row is not None
    assert row[0].partition(";")[0] == position


async def test_a_position_while_another_transaction_writes(url: str) -> None:
    """What is not committed is in the log, though not on disk; nobody waits for it."""
    async with opened(url) as collection, following(collection, "log") as copy:
        with psycopg.connect(url) as writing:
            for n in range(20):
                writing.execute("insert into things (id, vector) values (%s, '[1,1,1]')", (f"open{n}",))
                began = time.monotonic()
                await copy.at(await collection._position())
                assert time.monotonic() - began < 5.0
            assert not copy.rows
        assert len((await copy.at(await collection._position())).rows) == 20


async def test_a_large_transaction_is_kept_in_a_file(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "IN_MEMORY", 100_000)
    async with opened(url) as collection, following(collection, "log") as copy:
        with psycopg.connect(url) as connection:
            connection.execute(
                "insert into things (id, vector, content) select 'r' || i, array[i, 1, 2]::vector, repeat('x', 100)"
                " from generate_series(1, 5000) as i"
            )
            connection.execute("alter table things add column more int")
            connection.execute("update things set more = 1, vector = '[1,1,1]' where id < 'r2'")
            connection.execute("delete from things where id > 'r5'")
        assert (await copy.at(await collection._position())).rows == stored(url)
        (commit,) = [c for c in copy.commits if c.changes]
        assert not isinstance(commit.changes, list), "it was too large for memory"
        assert len(commit.changes) > 5_000
        assert commit.changes[0] is not commit.changes[-1]


@pytest.mark.slow
async def test_a_busy_reader_is_not_given_up(url: str) -> None:
    """The server ends a connection that says nothing for ``wal_sender_timeout``: it hears of us though nobody reads the commits."""
    run(url, "alter system set wal_sender_timeout = '5s'", "select pg_reload_conf()")
    beat, log._BEAT_SECONDS = log._BEAT_SECONDS, 0.5
    try:
        async with opened(url) as collection, collection._feed(ALL, name=None, how="log") as feed:
            await feed.begin(None)
            commits = aiter(feed.commits())
            await some(collection)
            assert (await anext(commits))[0].changes
            await asyncio.sleep(7)
            await some(collection, 10)
            async with asyncio.timeout(30):
                while not any(c.changes for c in await anext(commits)):
                    pass
    finally:
        log._BEAT_SECONDS = beat
        run(url, "alter system reset wal_sender_timeout", "select pg_reload_conf()")


async def test_a_commit_is_told_soon_under_load(url: str) -> None:
    """From the end of a commit to its being told, while three other connections write. The bound is generous: machines are shared."""
    async with opened(url) as collection, following(collection, "log") as copy:
        stop = asyncio.Event()

        async def load(number: int) -> None:
            async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
                n = 0
                while not stop.is_set():
                    n += 1
                    await connection.execute(
                        "insert into things (id, vector) values (%s, '[1,1,1]') on conflict (id) do update set content = %s",
                        (f"load{number}-{n % 500}", "x" * (n % 100)),
                    )

        writers = [asyncio.create_task(load(n)) for n in range(3)]
        waits = []
        for n in range(100):
            await collection.upsert([Record("mine", [1, 1, 1], {"n": n})])
            began = time.monotonic()
            await copy.at(await collection._position())
            waits.append(time.monotonic() - began)
            assert copy.rows["mine"]["metadata"] == b'{"n": %d}' % n
        stop.set()
        await asyncio.gather(*writers)
        waits.sort()
        print(f"p50 {waits[50] * 1000:.1f} ms, p95 {waits[95] * 1000:.1f} ms")
        assert waits[95] < 1.0
