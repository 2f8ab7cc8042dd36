"""Replicas of collections: what is read, how new it is, who answers, and what is left behind."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

import likewise
from likewise import (
    And,
    BackendTimeout,
    CollectionSpec,
    Column,
    EndsWith,
    InvalidArgument,
    LikewiseError,
    Metadata,
    Record,
    StartsWith,
)
from likewise.backends.faiss import FaissCollection, FaissStore
from likewise.backends.faiss import _library as faiss_library
from likewise.errors import OptionalDependencyError
from likewise.ingest import ingest

from .helpers import SPEC, eventually, open_store, publications, replica_url, slots, things


@pytest.fixture(params=["log", "triggers"])
def follow(request: pytest.FixtureRequest) -> str:
    """How changes become known."""
    return str(request.param)


@pytest.fixture
def store(fresh_database_url: str, follow: str) -> Iterator[FaissStore]:
    with open_store(fresh_database_url, follow=follow) as store:
        yield store
    eventually(lambda: slots(fresh_database_url) == [])
    assert not [t for t in threading.enumerate() if t.name.startswith("likewise-replica")]


@pytest.fixture
def collection(store: FaissStore) -> FaissCollection:
    return things(store)


def nearest(collection: Any, **how: Any) -> list[str]:
    return [result.id for result in collection.search_by_vector([1, 0, 0, 0], **how)]


def by(collection: Any, **how: Any) -> str:
    return str(collection.search_by_vector([1, 0, 0, 0], **how).explain().by)


# --- how new an answer is --------------------------------------------------------------------------------------------------------


def test_a_program_reads_what_it_wrote(collection: FaissCollection) -> None:
    for n in range(200):
        collection.upsert(Record(f"r{n}", [1, n + 1, 0, 0]))
        assert nearest(collection, top_k=1, where=Column("id") == f"r{n}" if n % 2 else None, include=()) != []
        collection.upsert(Record("moving", [1, 0, n, 0], {"n": n}))
        found = collection.search_by_vector([1, 0, n, 0], top_k=1, where=Metadata("n") == n)
        assert [r.id for r in found] == ["moving"], n
        assert found.explain().by == "replica"
    collection.delete("moving")
    assert "moving" not in nearest(collection, top_k=1_000)


def test_what_is_written_in_a_transaction_of_the_store_is_read_after_it(
    store: FaissStore, collection: FaissCollection
) -> None:
    collection.replica_wait()
    for n in range(50):
        with store.transaction() as connection:
            inside = collection.using(connection)
            inside.upsert(Record(f"r{n}", [1, 0, 0, n]))
            assert f"r{n}" in nearest(inside, top_k=100)
            assert by(inside) == "database: inside a transaction"
            assert f"r{n}" not in nearest(collection, top_k=100)
        assert f"r{n}" in nearest(collection, top_k=100)
    assert by(collection) == "replica"


def test_a_position_is_seen_by_whoever_reads_at_least_it(fresh_database_url: str, collection: FaissCollection) -> None:
    collection.replica_wait()
    with open_store(fresh_database_url) as other:
        writer = things(other)
        for n in range(300):
            written: Any = writer.upsert(Record(f"r{n}", [1, n, 0, 0]))
            reader = collection.reading(at_least=written.position)
            found = reader.search_by_vector([1, n, 0, 0], top_k=1_000, include=())
            assert f"r{n}" in [r.id for r in found], n
            assert found.explain().by == "replica"


def test_the_newest_is_seen_whoever_wrote_it(fresh_database_url: str, collection: FaissCollection) -> None:
    newest, late = collection.reading(newest=True), collection.reading(within=0)
    with psycopg.connect(fresh_database_url, autocommit=True) as connection:
        for n in range(100):
            connection.execute("insert into things (id, vector) values (%s, '[1,0,0,0]')", (f"r{n}",))
            reader = newest if n % 2 else late
            assert f"r{n}" in nearest(reader, top_k=1_000)
            assert by(reader) == "replica"
        connection.execute("truncate things")
        assert nearest(newest) == []


def test_what_is_available_is_not_waited_for(collection: FaissCollection) -> None:
    collection.upsert(Record("a", [1, 0, 0, 0]))
    reader = collection.reading(available=True)
    began = time.monotonic()
    assert nearest(reader) == ["a"]  # By the database: the replica has only begun.
    collection.replica_wait()
    image = collection._kept().image
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(image), "apply", lambda *_: None)
        collection.upsert(Record("b", [1, 0, 0, 0]))
        assert nearest(reader) == ["a"]
        assert by(reader) == "replica"
    assert time.monotonic() - began < 10


def test_what_is_known_to_be_new_enough_is_not_asked_for_again(
    collection: FaissCollection, monkeypatch: pytest.MonkeyPatch
) -> None:
    collection.replica_wait()
    asked: list[float] = []
    ask = type(collection.inner)._position

    def counted(self: Any) -> Any:
        asked.append(time.monotonic())
        return ask(self)

    monkeypatch.setattr(type(collection.inner), "_position", counted)
    reader = collection.reading(within=0.4)
    began = time.monotonic()
    searches = 0
    while time.monotonic() < began + 1.3:
        nearest(reader)
        searches += 1
    assert 2 <= len(asked) <= 2 + (time.monotonic() - began) / 0.4
    assert searches > 10 * len(asked)


@pytest.mark.parametrize(
    "rule",
    [
        {},
        {"newest": False},
        {"at_least": "0/0", "newest": True},
        {"available": True, "newest": True},
        {"within": -1},
        {"within": "1"},
        {"at_least": 7},
        {"within": True},
    ],
)
def test_a_rule_that_is_none_is_refused(collection: FaissCollection, rule: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument):
        collection.reading(**rule)


def test_a_position_that_is_none_is_refused(collection: FaissCollection) -> None:
    reader = collection.reading(at_least="yesterday")
    for _ in range(2):  # while it is built, and afterwards
        with pytest.raises(InvalidArgument, match="yesterday"):
            nearest(reader)
        collection.replica_wait()


def test_what_is_rolled_back_is_never_seen(fresh_database_url: str, collection: FaissCollection) -> None:
    collection.upsert(Record("real", [0, 1, 0, 0]))
    collection.replica_wait()
    stop = threading.Event()
    seen: list[str] = []

    def look() -> None:
        while not stop.is_set():
            seen.extend(i for i in nearest(collection, top_k=1_000, include=()) if i != "real")

    threads = [threading.Thread(target=look) for _ in range(2)]
    for thread in threads:
        thread.start()
    with psycopg.connect(fresh_database_url) as connection:
        for n in range(60):
            connection.execute("insert into things (id, vector) values (%s, '[1,0,0,0]')", (f"ghost{n}",))
            connection.execute("update things set vector = '[1,0,0,0]' where id = 'real'")
            if n % 2:
                connection.execute("delete from things where id = 'real'")
            connection.rollback()
    stop.set()
    for thread in threads:
        thread.join()
    assert seen == []
    assert nearest(collection.reading(newest=True)) == ["real"]
    assert collection.verify_replica().sound


def test_a_commit_is_seen_whole(fresh_database_url: str, collection: FaissCollection) -> None:
    collection.upsert([Record("left", [1, 0, 0, 0], {"side": 0}), Record("right", [0, 1, 0, 0], {"side": 1})])
    collection.replica_wait()
    stop = threading.Event()
    torn: list[object] = []

    def look() -> None:
        while not stop.is_set():
            sides = [r.record.metadata["side"] for r in collection.search_by_vector([1, 1, 0, 0])]
            if sorted(sides) != [0, 1]:
                torn.append(sides)

    thread = threading.Thread(target=look)
    thread.start()
    with psycopg.connect(fresh_database_url, autocommit=True) as connection:
        for _ in range(150):
            connection.execute("update things set metadata = jsonb_build_object('side', 1 - (metadata->>'side')::int)")
    stop.set()
    thread.join()
    # Metadata is held, so the answers were the replica's, and each of one moment.
    assert by(collection, include=("metadata",)) == "replica"
    assert torn == []


# --- who answers -----------------------------------------------------------------------------------------------------------------


def test_rows_that_are_not_held_are_fetched_and_checked(fresh_database_url: str, collection: FaissCollection) -> None:
    collection.upsert([Record(f"r{n}", [1, n / 10, 0, 0], {"n": n}, content=f"text {n}") for n in range(40)])
    found = collection.search_by_vector([1, 0, 0, 0], top_k=3)
    assert [(r.id, r.record.content) for r in found] == [(f"r{n}", f"text {n}") for n in range(3)]
    assert found.explain().by == "replica"
    image = collection._kept().image
    assert image is not None
    # Rows go and change behind the replica's back: it is held where it is.
    apply = type(image).apply
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(image), "apply", lambda *_: None)
        with psycopg.connect(fresh_database_url, autocommit=True) as connection:
            connection.execute("delete from things where id in ('r0', 'r2')")
            connection.execute("update things set metadata = '{\"n\": 99}' where id = 'r1'")
        assert nearest(collection, top_k=3) == ["r1", "r3", "r4"]
        assert nearest(collection, top_k=3, where=Metadata("n") < 50) == ["r3", "r4", "r5"]
        assert by(collection, top_k=3) == "replica"
        # All that are near are gone: what is left in the database is not known here.
        with psycopg.connect(fresh_database_url, autocommit=True) as connection:
            connection.execute("delete from things where id <> 'r39'")
        assert nearest(collection, top_k=3) == ["r39"]
        assert by(collection, top_k=3) == "database: rows have changed since"
    assert type(image).apply is apply


def test_a_filter_about_what_is_not_held_never_leaves_a_result_short(collection: FaissCollection) -> None:
    words = ("red", "green")
    collection.upsert(
        [
            Record(f"r{n:04}", [1, n / 1000, 0, 0], content=f"{words[n % 2]} {n}{' rare' if n > 1990 else ''}")
            for n in range(2_000)
        ]
    )
    green = collection.search_by_vector([1, 0, 0, 0], top_k=5, where=StartsWith(Column("content"), "green"), include=())
    assert [r.id for r in green] == ["r0001", "r0003", "r0005", "r0007", "r0009"]
    assert all(r.record.content is None for r in green)
    assert green.explain().by == "replica"
    rare = collection.search_by_vector([1, 0, 0, 0], top_k=5, where=EndsWith(Column("content"), "rare"))
    assert [r.id for r in rare] == [f"r{n}" for n in range(1991, 1996)]
    assert "does not hold" in str(rare.explain().by)
    (many,) = collection.search_many([[1, 0, 0, 0]], top_k=5, where=EndsWith(Column("content"), "rare"))
    assert [r.id for r in many] == [r.id for r in rare]


def test_what_is_held_is_answered_without_the_database(fresh_database_url: str) -> None:
    with open_store(fresh_database_url, hold="metadata,content") as store:
        collection = things(store)
        record = Record("a", [1, 0.5, 0, 0], {"deep": {"n": [1, 2.5, None, "ä"]}}, content="text")
        collection.upsert(record)
        collection.replica_wait()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(type(collection.inner), "get_many", lambda *_, **__: pytest.fail("the database was asked"))
            (found,) = collection.search_by_vector([1, 0, 0, 0], include=("vector", "metadata", "content"))
        assert found.record == record
        assert collection.inner.search_by_vector([1, 0, 0, 0])[0].distance == pytest.approx(found.distance, abs=1e-6)


def test_what_the_replica_cannot_have_the_database_answers(fresh_database_url: str) -> None:
    role = "likewise_no_replication"
    with psycopg.connect(fresh_database_url, autocommit=True) as connection:
        connection.execute(sql.SQL("drop role if exists {}").format(sql.Identifier(role)))
        connection.execute(sql.SQL("create role {} login password 'secret'").format(sql.Identifier(role)))
        connection.execute(sql.SQL("grant all on schema public to {}").format(sql.Identifier(role)))
    with likewise.connect(fresh_database_url) as plain:
        plain.ensure_collection(SPEC).upsert(Record("a", [1, 0, 0, 0]))
    try:
        with psycopg.connect(fresh_database_url, autocommit=True) as connection:
            for schema in ("public", "likewise"):
                connection.execute(
                    sql.SQL("grant usage on schema {0} to {1}; grant all on all tables in schema {0} to {1}").format(
                        sql.Identifier(schema), sql.Identifier(role)
                    )
                )
        theirs = psycopg.conninfo.conninfo_to_dict(fresh_database_url)
        url = f"postgresql://{role}:secret@/{theirs['dbname']}?host={theirs['host']}&port={theirs['port']}"
        with open_store(url, follow="log", patience=10) as store:
            collection = store.collection("things")
            assert nearest(collection) == ["a"]
            eventually(lambda: store.replicas()["things"].state == "failed")
            began = time.monotonic()
            assert nearest(collection) == ["a"]
            assert time.monotonic() - began < 5  # what failed is not waited for
            assert by(collection).startswith("database: the replica failed")
            (warning,) = store.info().warnings
            assert "things" in warning
            assert "secret" not in warning
            with pytest.raises(BackendTimeout, match="things"):
                collection.replica_wait(0.2)
    finally:
        with psycopg.connect(fresh_database_url, autocommit=True) as connection:
            connection.execute(sql.SQL("drop owned by {0}; drop role {0}").format(sql.Identifier(role)))


def test_a_replica_that_is_behind_is_not_waited_for_for_ever(fresh_database_url: str) -> None:
    with open_store(fresh_database_url, patience=1.0) as store:
        collection = things(store)
        collection.upsert(Record("a", [1, 0, 0, 0]))
        collection.replica_wait()
        image = collection._kept().image
        assert image is not None
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(type(image), "apply", lambda *_: None)
            collection.upsert(Record("b", [1, 0, 0, 0]))
            began = time.monotonic()
            assert nearest(collection) == ["a", "b"]
            waited = time.monotonic() - began
            assert 0.9 < waited < 10
            began = time.monotonic()
            for _ in range(5):
                assert by(collection) == "database: the replica was behind"
            assert time.monotonic() - began < 4  # not a second for each
        # What it was not told of is not told again: it is built anew, and answers.
        collection.rebuild_replica()
        collection.replica_wait()
        assert nearest(collection) == ["a", "b"]
        assert by(collection) == "replica"


def test_a_deadline_is_kept_while_a_replica_is_waited_for(collection: FaissCollection) -> None:
    collection.replica_wait()
    image = collection._kept().image
    assert image is not None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(image), "apply", lambda *_: None)
        collection.upsert(Record("a", [1, 0, 0, 0]))
        began = time.monotonic()
        with pytest.raises(BackendTimeout), likewise.deadline(0.2):
            nearest(collection)
        assert time.monotonic() - began < 15  # not as long as its patience


async def test_reads_wait_without_holding_up_their_loop(fresh_database_url: str) -> None:
    store: Any = await likewise.connect_async(replica_url(fresh_database_url, patience=30))
    async with store:
        collection = await store.ensure_collection(SPEC)
        await collection.upsert(Record("a", [1, 0, 0, 0]))
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                await asyncio.sleep(0.005)
                ticks += 1

        ticking = asyncio.create_task(tick())
        found = await collection.search_by_vector([1, 0, 0, 0])  # waits until it is built
        assert found.explain().by == "replica"
        assert ticks > 3
        # One that is cancelled while it waits harms nobody.
        image = collection._kept().image
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(type(image), "apply", lambda *_: None)
            await collection.upsert(Record("b", [1, 0, 0, 0]))
            search = asyncio.create_task(collection.search_by_vector([1, 0, 0, 0]))
            await asyncio.sleep(0.1)
            search.cancel()
            with pytest.raises(asyncio.CancelledError):
                await search
        ticking.cancel()
        await collection.rebuild_replica()
        await asyncio.gather(*(collection.upsert(Record(f"r{n}", [1, 0, 0, n])) for n in range(8)))
        many = await asyncio.gather(*(collection.search_by_vector([1, 0, 0, 0], top_k=20) for _ in range(50)))
        assert {len(found) for found in many} == {10}
        assert {found.explain().by for found in many} == {"replica"}
    eventually(lambda: slots(fresh_database_url) == [])


# --- what is left behind ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("follow", ["log"], indirect=True)
def test_nothing_is_taken_before_the_first_search(fresh_database_url: str, store: FaissStore) -> None:
    collection = things(store)
    collection.upsert(Record("a", [1, 0, 0, 0]))
    assert collection.count() == 1
    assert slots(fresh_database_url) == []
    assert not [t for t in threading.enumerate() if t.name.startswith("likewise-replica")]
    assert store.replicas()["things"].state == "idle"
    nearest(collection)
    assert len(slots(fresh_database_url)) == 1


def test_a_collection_that_is_dropped_leaves_nothing(fresh_database_url: str, tmp_path: Path) -> None:
    for searched in (True, False):
        with open_store(fresh_database_url, path=tmp_path) as store:
            collection = things(store)
            collection.upsert(Record("a", [1, 0, 0, 0]))
            collection.replica_wait()
        assert [active for _, active in slots(fresh_database_url)] == [False]
        assert list(tmp_path.glob("*.replica"))
        with open_store(fresh_database_url, path=tmp_path) as store:
            if searched:
                things(store).replica_wait()
            store.drop_collection("things")
            assert slots(fresh_database_url) == []
            assert publications(fresh_database_url) == []
            assert [p.suffix for p in tmp_path.iterdir()] == [".lock"]


def test_a_collection_that_somebody_else_drops_is_not_answered_for(
    fresh_database_url: str, collection: FaissCollection
) -> None:
    collection.upsert(Record("a", [1, 0, 0, 0]))
    assert nearest(collection) == ["a"]
    with likewise.connect(fresh_database_url) as other:
        other.drop_collection("things")
        eventually(lambda: collection._kept().state == "stopped")
        with pytest.raises(LikewiseError):
            nearest(collection)
        other.ensure_collection(SPEC).upsert(Record("new", [1, 0, 0, 0]))


def test_a_collection_that_is_made_anew_has_a_replica_of_its_own(fresh_database_url: str, store: FaissStore) -> None:
    things(store).upsert(Record("old", [1, 0, 0, 0]))
    assert nearest(things(store)) == ["old"]
    store.drop_collection("things")
    again = store.ensure_collection(CollectionSpec("things", dimension=3))
    again.upsert(Record("new", [1, 0, 0]))
    found = again.search_by_vector([1, 0, 0])
    assert [r.id for r in found] == ["new"]
    assert found.explain().by == "replica"
    with psycopg.connect(fresh_database_url, autocommit=True) as connection:
        connection.execute("drop table things")
        connection.execute("delete from likewise.registry")
    eventually(lambda: store.replicas()["things"].state == "stopped")
    last = things(store)
    last.upsert(Record("last", [1, 0, 0, 0]))
    assert nearest(last) == ["last"]
    assert by(last) == "replica"


def test_a_column_that_is_added_is_in_the_next_replica(store: FaissStore, collection: FaissCollection) -> None:
    collection.upsert(Record("a", [1, 0, 0, 0]))
    assert by(collection) == "replica"
    wider = store.ensure_collection(
        CollectionSpec("things", dimension=4, vectors={"title": likewise.VectorField(2)}, mode="auto_migrate")
    )
    wider.upsert(Record("b", [0, 1, 0, 0], vectors={"title": [1, 0]}))
    found = wider.search_by_vector([1, 0], using="title")
    assert [r.id for r in found] == ["b"]
    assert found.explain().by == "replica"
    assert by(wider) == "replica"
    # Whoever holds on to the collection as it was is answered by the database.
    assert set(nearest(collection)) == {"a", "b"}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")
def test_a_child_that_was_forked_has_no_replica(collection: FaissCollection) -> None:
    collection.upsert(Record("a", [1, 0, 0, 0]))
    collection.replica_wait()
    child = os.fork()
    if child == 0:
        kept = collection._kept()
        os._exit(0 if kept.image is None and kept.state == "stopped" and kept.seconds() == 0 else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert by(collection) == "replica"


def test_faiss_is_an_extra(fresh_database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise OptionalDependencyError("faiss-cpu", extra="faiss")

    monkeypatch.setattr(faiss_library, "library", missing)
    with pytest.raises(OptionalDependencyError, match=r"likewise\[faiss\]"):
        likewise.connect(replica_url(fresh_database_url))


def test_a_closed_store_can_be_closed_again(fresh_database_url: str) -> None:
    store = open_store(fresh_database_url)
    collection = things(store)
    collection.upsert([Record("a", [1, 0, 0, 0]), Record("b", [0, 1, 0, 0])])
    assert nearest(collection, where=And()) == ["a", "b"]
    store.close()
    store.close()
    assert store.replicas()["things"].state == "stopped"


def test_documents_are_ingested_deleted_and_repaired_and_the_replica_has_it_at_once(
    store: FaissStore, tmp_path: Path
) -> None:
    collection = store.ensure_collection(CollectionSpec("papers", embedder="hashing"))
    (tmp_path / "crane.txt").write_text("How to fold a paper crane out of one sheet.")
    (tmp_path / "train.txt").write_text("Sleeping on trains that go through the night.")
    collection.replica_wait()

    def texts(words: str) -> list[str | None]:
        found = collection.search(words, top_k=5)
        assert found.explain().by == "replica"
        return [result.record.content for result in found]

    ingest(collection, [tmp_path])
    assert texts("paper crane")[0] == "How to fold a paper crane out of one sheet."
    documents = collection.documents()
    (crane,) = [each for each in documents.scan().documents if each.source.endswith("crane.txt")]
    assert documents.delete(crane.id) == 1
    assert texts("paper crane") == ["Sleeping on trains that go through the night."]
    (left,) = documents.scan().documents
    (chunk,) = documents.chunks(left.id)
    collection.inner.delete(chunk.id)
    assert documents.sync().restored == 1
    assert texts("night train") == ["Sleeping on trains that go through the night."]
    assert documents.stats().total_documents == 1
    assert collection.verify_replica().sound
