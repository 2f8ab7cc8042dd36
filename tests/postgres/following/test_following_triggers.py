"""What is the triggers' own: copies that are registered and forgotten, notes that are kept and deleted, writers with any right and any snapshot."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

import likewise
from likewise import AsyncCollection, Record, SchemaMismatch
from likewise.abc.feeds import Position
from likewise.backends.postgres.embedded import EmbeddedServer
from likewise.backends.postgres.following import _notes, triggers
from likewise.backends.postgres.following._notes import TRIGGERS
from likewise.backends.postgres.following.log import LogFeed
from likewise.errors import BackendConflict, BackendError, BackendUnavailable

from .helpers import ALL, SPEC, Copy, following, opened, opened_store, run, stored


def one(url: str, query: str) -> object:
    with psycopg.connect(url) as connection:
        row = connection.execute(query).fetchone()
    return row and row[0]


def enabled(url: str) -> int:
    found = one(url, "select count(*) from pg_trigger where tgname like 'likewise_copies_%' and tgenabled = 'A'")
    assert isinstance(found, int)
    return found


async def some(collection: AsyncCollection, first: int = 0, count: int = 10) -> None:
    await collection.upsert([Record(f"r{i}", [i, 1, 2], {"n": i}) for i in range(first, first + count)])


async def forget(collection: AsyncCollection, name: str = "mine") -> None:
    """Register the copy no longer."""
    async with collection._feed(ALL, name=name, how="triggers") as feed:
        await feed.forget()


@pytest.fixture
def lively(monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies give a sign of life each time that they look."""
    monkeypatch.setattr(triggers, "_BEAT_SECONDS", 0.0)


async def test_triggers_note_while_there_is_a_copy(url: str, lively: None) -> None:
    async with opened(url) as collection:
        await some(collection)
        assert enabled(url) == 0
        async with following(collection, "triggers") as copy, following(collection, "triggers") as other:
            assert enabled(url) == 4
            await some(collection, 10)
            position = await collection._position()
            for each in (copy, other):
                assert (await each.at(position)).rows == stored(url)
            for _ in range(100):
                if one(url, "select count(*) from likewise.change") == 0:
                    break
                await asyncio.sleep(0.05)
            else:
                raise AssertionError("the notes that all have seen are still there")
        assert enabled(url) == 0
        assert one(url, "select count(*) from likewise.feed") == 0
        await some(collection, 20)
        assert one(url, "select count(*) from likewise.change") == 0
        async with following(collection, "triggers") as copy:
            assert copy.rows == stored(url)
            await some(collection, 30)
            assert (await copy.at(await collection._position())).rows == stored(url)


async def test_a_copy_goes_on_where_it_was(url: str, lively: None) -> None:
    async with opened(url) as collection:
        await some(collection)
        async with following(collection, "triggers", name="mine") as copy:
            await some(collection, 10)
            await copy.at(await collection._position())
            await copy.feed.kept(copy.position)
        await some(collection, 20)
        run(url, "delete from things where id in ('r1', 'r11')")
        assert enabled(url) == 4
        async with following(collection, "triggers"):
            await asyncio.sleep(0.5)
        async with following(collection, "triggers", name="mine", of=copy, resumes=True) as again:
            assert (await again.at(await collection._position())).rows == stored(url)
            changes = [change for commit in again.commits for change in commit.changes]
            assert len(changes) == 12, "and the other copy has not deleted what this one needs"
        await forget(collection)
        assert enabled(url) == 0
        assert one(url, "select count(*) from likewise.change") == 0


async def test_what_was_not_kept_is_told_again(url: str, lively: None) -> None:
    async with opened(url) as collection:
        await some(collection)
        async with following(collection, "triggers", name="mine") as copy:
            kept, rows = copy.position, dict(copy.rows)
            await some(collection, 10)
            await copy.at(await collection._position())
            await asyncio.sleep(0.3)
        copy.position, copy.rows = kept, rows
        async with following(collection, "triggers", name="mine", of=copy, resumes=True) as again:
            assert (await again.at(await collection._position())).rows == stored(url)
        await forget(collection)


@pytest.mark.parametrize(
    "done",
    [
        "alter table things disable trigger likewise_copies_update",
        "alter table things disable trigger all",
        "drop trigger likewise_copies_insert on things",
        "update likewise.feed set seen_at = now() - interval '1 hour'",
        "delete from likewise.feed",
        "update likewise.feed set origin = 'a server from which this one was restored'",
    ],
)
async def test_a_gap_in_the_notes_is_noticed(url: str, done: str) -> None:
    """Also if the triggers are as they were when the copy comes again."""
    async with opened(url) as collection:
        await some(collection)
        async with following(collection, "triggers", name="mine") as copy:
            pass
        run(url, done, "update things set content = 'unnoted'")
        if "disable" in done:
            run(url, *(f"alter table things enable always trigger {trigger}" for trigger in TRIGGERS))
        async with following(collection, "triggers", name="mine", of=copy, resumes=False) as again:
            assert again.rows == stored(url)
            await some(collection, 10)
            assert (await again.at(await collection._position())).rows == stored(url)
        await forget(collection)


async def test_triggers_altered_while_it_reads(url: str) -> None:
    async with opened(url) as collection, following(collection, "triggers") as copy:
        run(
            url,
            "alter table things disable trigger likewise_copies_insert",
            "insert into things (id, vector) values ('unnoted', '[1,1,1]')",
            "alter table things enable always trigger likewise_copies_insert",
        )
        error = await copy.fails()
        assert isinstance(error, SchemaMismatch), error
        assert "triggers" in str(error)


async def test_a_copy_that_was_not_seen_for_long_begins_anew(url: str, lively: None) -> None:
    async with opened(url) as collection, following(collection, "triggers", name="mine") as copy:
        run(url, "update likewise.feed set seen_at = now() - interval '1 hour'")
        assert isinstance(await copy.fails(), BackendConflict)
    async with opened(url) as collection:
        run(url, "select setval('likewise.copies_seen', 1)")
        await some(collection)
        assert one(url, "select count(*) from likewise.change") == 0, "nobody reads it: writers pay for nothing"
        async with following(collection, "triggers", name="mine", of=copy, resumes=False) as again:
            assert again.rows == stored(url)
            await some(collection, 10)
            assert (await again.at(await collection._position())).rows == stored(url)
        await forget(collection)


async def test_a_position_of_the_log_or_of_the_future(url: str) -> None:
    async with opened(url) as collection:
        await some(collection)
        for position in ("0/1", "99999999:99999999:"):
            copy = Copy(collection._feed(ALL, name="mine", how="triggers"))
            copy.position = Position(position)
            async with following(collection, "triggers", name="mine", of=copy, resumes=False) as again:
                assert again.rows == stored(url)
        await forget(collection)


async def test_two_cannot_share_a_name(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_notes, "_BUSY_SECONDS", 0.3)
    async with opened(url) as collection, following(collection, "triggers", name="mine") as copy:
        async with collection._feed(ALL, name="mine", how="triggers") as second:
            with pytest.raises(BackendConflict, match="another"):
                await second.begin(copy.position)
        await copy.feed.forget()


async def test_a_connection_that_is_lost(url: str) -> None:
    async with opened(url) as collection:
        await some(collection)
        async with following(collection, "triggers", name="mine") as copy:
            run(
                url,
                "select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'likewise copy%'"
                " and datname = current_database()",
            )
            assert isinstance(await copy.fails(), BackendUnavailable)
        await some(collection, 10)
        async with following(collection, "triggers", name="mine", of=copy, resumes=True) as again:
            assert (await again.at(await collection._position())).rows == stored(url)
        await forget(collection)


@pytest.mark.parametrize("isolation", ["read committed", "repeatable read", "serializable"])
async def test_writers_that_were_there_before_the_copy(url: str, isolation: str) -> None:
    """One has written and not committed; one has a snapshot from before and writes later. Neither is missed."""
    async with opened(url) as collection:
        await some(collection)
        with psycopg.connect(url) as wrote, psycopg.connect(url) as will_write:
            for connection in (wrote, will_write):
                connection.execute(f"set transaction isolation level {isolation}")
                connection.execute("select count(*) from likewise.collections")
            wrote.execute("insert into things (id, vector) values ('before', '[1,1,1]')")

            async def commit_soon() -> None:
                await asyncio.sleep(0.5)
                wrote.commit()

            committing = asyncio.create_task(commit_soon())
            async with following(collection, "triggers") as copy:
                assert committing.done(), "it waits for those who have written"
                assert "before" in copy.rows
                will_write.execute("insert into things (id, vector) values ('later', '[1,1,1]')")
                will_write.execute("update things set content = 'later' where id = 'r1'")
                will_write.commit()
                assert (await copy.at(await collection._position())).rows == stored(url)


async def test_a_writer_that_does_not_end_is_an_error_that_says_so(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_notes, "_LOCK_SECONDS", 0.1)
    monkeypatch.setattr(_notes, "_PATIENCE_SECONDS", 0.3)
    async with opened(url) as collection:
        with psycopg.connect(url) as writing:
            writing.execute("insert into things (id, vector) values ('open', '[1,1,1]')")
            async with collection._feed(ALL, name=None, how="triggers") as feed:
                with pytest.raises(BackendConflict, match="writing to it"):
                    await feed.begin(None)
        assert enabled(url) == 0


@contextlib.contextmanager
def as_role(url: str, name: str) -> Iterator[str]:
    """The URL for a role of the test's own."""
    run(url, f"create role {name} login password 'x'")
    try:
        yield make_conninfo(url, user=name, password="x", passfile="")
    finally:
        run(url, f"drop owned by {name}", f"drop role {name}")


async def test_writers_need_no_rights_but_those_on_the_table(url: str) -> None:
    async with opened(url) as collection:
        await some(collection)
        with as_role(url, "only_writes") as theirs:
            run(url, "grant select, insert, update, delete, truncate on things to only_writes")
            async with following(collection, "triggers") as copy:
                run(
                    theirs,
                    "set search_path = pg_temp",
                    "create temporary table change (source oid, id text)",
                    "insert into public.things (id, vector) values ('theirs', '[1,1,1]')",
                )
                run(theirs, "update things set id = 'moved' where id = 'r1'", "delete from things where id = 'r2'")
                assert (await copy.at(await collection._position())).rows == stored(url)
                run(theirs, "truncate things")
                assert (await copy.at(await collection._position())).rows == {}
            run(url, "grant usage on schema likewise to only_writes")
            run(url, "grant select on all tables in schema likewise to only_writes")
            async with await likewise.connect_async(theirs) as store:
                refused = await store.collection("things")
                async with refused._feed(ALL, name=None, how="triggers") as feed:
                    with pytest.raises(BackendError, match="owner"):
                        await feed.begin(None)


async def test_a_session_in_the_role_of_a_replica_notes_too(url: str) -> None:
    """Some loads set ``session_replication_role`` so that triggers do not fire."""
    async with opened(url) as collection, following(collection, "triggers") as copy:
        with psycopg.connect(url) as connection:
            connection.execute("set session_replication_role = replica")
            with connection.cursor().copy("copy things (id, vector) from stdin") as rows:
                rows.write_row(("copied", "[1,1,1]"))
        assert (await copy.at(await collection._position())).rows == stored(url)


async def test_an_id_of_another_type_does_not_hurt_writers(url: str) -> None:
    async with opened(url) as collection:
        await some(collection)
        async with following(collection, "triggers") as copy:
            run(
                url,
                "alter table things rename column id to ident",
                "insert into things (ident, vector) values ('x', '[1,1,1]')",
            )
            assert isinstance(await copy.fails(), SchemaMismatch)


async def test_unlogged_tables_can_be_followed(url: str) -> None:
    async with opened(url) as collection:
        run(url, "alter table things set unlogged")
        async with collection._feed(ALL, name=None) as feed:
            assert not await feed.begin(None)
            assert ":" in feed.position
        async with following(collection, "triggers") as copy:
            await some(collection)
            assert (await copy.at(await collection._position())).rows == stored(url)


async def test_an_older_schema_is_told_so(url: str) -> None:
    async with opened(url) as collection:
        run(url, "drop table likewise.change, likewise.feed", "drop sequence likewise.copies_seen")
        async with collection._feed(ALL, name=None, how="triggers") as feed:
            with pytest.raises(SchemaMismatch, match="likewise install"):
                await feed.begin(None)


async def test_the_way_is_chosen_by_what_is_allowed(url: str) -> None:
    async with opened_store(url) as store:
        collection = await store.collection("things")
        await some(collection)
        feed = collection._feed(ALL, name="mine")
        async with feed:
            assert not await feed.begin(None)
            assert "/" in feed.position
            assert feed.reached(feed.position, feed.position)
            await some(collection, 10)
            async for commits in feed.commits():
                await feed.kept(commits[-1].position)
                last = commits[-1].position
                break
            await feed.aclose()
            assert await feed.begin(last)
            await feed.forget()
        run(url, "create role owner_only login password 'x'", "alter table things owner to owner_only")
        run(
            url,
            "grant usage on schema likewise to owner_only",
            "grant all on all tables in schema likewise to owner_only",
        )
        run(url, "grant all on all sequences in schema likewise to owner_only")
        try:
            async with await likewise.connect_async(
                make_conninfo(url, user="owner_only", password="x", passfile="")
            ) as theirs:
                mine = await theirs.collection("things")
                async with mine._feed(ALL, name="mine") as other:
                    assert not await other.begin(last), "a place in the log is nothing to it"
                    assert ":" in other.position
                    assert other.reached(other.position, await mine._position())
                    await other.forget()
        finally:
            run(url, "reassign owned by owner_only to current_user", "drop owned by owner_only", "drop role owner_only")


def test_a_server_that_decodes_nothing(folder: Path) -> None:
    for level in ("replica", "minimal"):
        with (
            EmbeddedServer(folder / "postgres") as server,
            psycopg.connect(server.url(), autocommit=True) as connection,
        ):
            connection.execute(f"alter system set wal_level = {level}")
            connection.execute("alter system set max_wal_senders = 0")
        with EmbeddedServer(folder / "postgres") as server:
            asyncio.run(_follow(server.url(), level))


async def _follow(url: str, level: str) -> None:
    assert one(url, "show wal_level") == level
    async with opened(url, SPEC) as collection:
        await some(collection)
        log = collection._feed(ALL, name=None, how="log")
        assert isinstance(log, LogFeed)
        async with log:
            with pytest.raises(BackendError, match=r"wal_level is .*triggers"):
                await log.begin(None)
        async with collection._feed(ALL, name=None) as feed:
            await feed.begin(None)
            assert ":" in feed.position
        async with following(collection, "triggers") as copy:
            await some(collection, 10)
            assert (await copy.at(await collection._position())).rows == stored(url)
