"""Queries that are remembered in the database: shared by processes, bounded, and never in the way of a search or a caller's transaction."""

from __future__ import annotations

import hashlib
import json
import logging
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import psycopg
import psycopg_pool
import pytest
from psycopg import sql

import likewise
from likewise import CollectionSpec, ModelCard, QueryCacheUsage, Record, VectorStore
from likewise.abc import query_cache as in_process
from likewise.backends.postgres import PostgresStore, query_cache
from likewise.backends.postgres.query_cache import SharedQueryCache
from likewise.embedding import HashingEmbedder, load_embedder, register_embedder

if TYPE_CHECKING:
    from numpy.typing import NDArray

SPEC = CollectionSpec("notes", embedder="faraway")


class Faraway(HashingEmbedder):
    """A model that leaves the machine, as far as it says."""

    remote = True

    def __init__(self, revision: str = "1", query_prompt: str = "ask: ") -> None:
        super().__init__(16)
        self.asked: list[str] = []
        self._faraway = ModelCard("faraway é", 16, ("text",), revision=revision, query_prompt=query_prompt)

    @property
    def card(self) -> ModelCard:
        return self._faraway

    def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.asked += texts
        return super().embed_queries(texts)


def faraway(**arguments: Any) -> Faraway:
    """A new one, as in a process that has just begun."""
    model = Faraway(**arguments)
    register_embedder("faraway", lambda _: model)
    return model


@pytest.fixture
def url(fresh_database_url: str) -> str:
    faraway()
    with likewise.connect(fresh_database_url) as store:
        store.ensure_collection(SPEC).upsert([Record("a", content="a red dress"), Record("b", content="blue sky")])
    return fresh_database_url


@pytest.fixture
def role(url: str) -> Iterator[str]:
    """The URL for a role that may search, and nothing else; it has no rights on the cache."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("create role cache_reader login password 'reader'")
        connection.execute("grant usage on schema likewise to cache_reader")
        connection.execute("grant select on likewise.registry, notes to cache_reader")
        info = connection.info
        reader = f"host={info.host} port={info.port} dbname={info.dbname} user=cache_reader password=reader"
    yield reader
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("drop owned by cache_reader")
        connection.execute("drop role cache_reader")


def rows(url: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute("select model, query, vector, last_used from likewise.query_cache").fetchall()


def search(store: VectorStore, text: str = "red") -> list[str]:
    return [result.id for result in store.collection("notes").search(text, top_k=1)]


def test_what_one_process_asked_another_knows(url: str) -> None:
    first = faraway()
    with likewise.connect(url) as store:
        assert search(store) == ["a"]
        assert search(store) == ["a"]
        assert first.asked == ["red"]
        assert store.query_cache_usage == QueryCacheUsage(misses=1, stored=1)
    second = faraway()
    with likewise.connect(url) as store:
        assert search(store) == ["a"]
        assert store.query_cache_usage == QueryCacheUsage(hits=1)
    assert second.asked == []
    program = f"""
        import likewise
        from likewise import ModelCard
        from likewise.embedding import HashingEmbedder, register_embedder

        class Unreachable(HashingEmbedder):
            remote = True
            card = ModelCard("faraway é", 16, ("text",), query_prompt="ask: ")

            def embed_texts(self, texts):
                raise AssertionError("the model was asked")

        model = Unreachable(16)
        register_embedder("faraway", lambda _: model)
        with likewise.connect({url!r}) as store:
            print(store.collection("notes").search("red", top_k=1)[0].id)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=False)
    assert done.stdout == "a\n", done.stderr


def test_the_key_can_be_reckoned_in_sql_and_the_vector_is_the_model_s(url: str) -> None:
    model = faraway()
    with likewise.connect(url) as store:
        search(store, "Größe 日本 \U0001f600")
    ((key, query, vector, _),) = rows(url)
    assert json.loads(key) == ["faraway é", "1", 16, "ask: "]
    assert query == hashlib.sha256("Größe 日本 \U0001f600".encode()).digest()
    assert np.array_equal(np.array(vector, np.float32), model.embed_queries(["Größe 日本 \U0001f600"])[0])
    with psycopg.connect(url) as connection:
        found = connection.execute(
            """
            select q.vector::vector(16) <-> r.vector < 2 from likewise.query_cache as q,
                (select spec -> 'model' as model from likewise.registry where name = 'notes') as m, notes as r
            where q.query = sha256(convert_to(%s, 'UTF8')) and r.id = 'a' and q.model = jsonb_build_array(
                m.model -> 'name', m.model -> 'revision', m.model -> 'dimension', m.model -> 'query_prompt'
            )::text
            """,
            ["Größe 日本 \U0001f600"],
        ).fetchone()
    assert found == (True,)


@pytest.mark.parametrize("other", [{"revision": "2"}, {"query_prompt": ""}])
def test_another_revision_or_prompt_is_another_query(url: str, other: dict[str, str]) -> None:
    with likewise.connect(url) as store:
        search(store)
        model = faraway(**other)
        if "revision" in other:
            store.drop_collection("notes")
            store.ensure_collection(SPEC).upsert(Record("a", content="a red dress"))
        assert search(store) == ["a"]
    assert model.asked == ["red"]
    assert len(rows(url)) == 2


def test_it_is_for_models_that_leave_the_machine_unless_it_is_said(url: str) -> None:
    for on, kept in ((None, 0), (False, 0), (True, 1)):
        model = load_embedder("hashing")
        in_process.cache_of(model)._known.clear()
        with likewise.connect(url, query_cache=on) as store:
            store.ensure_collection(CollectionSpec("local", embedder="hashing")).search(f"words {on}")
            assert store.query_cache_usage.stored == kept
    faraway()
    with likewise.connect(url, query_cache=False) as store:
        assert search(store) == ["a"]
        assert store.query_cache_usage == QueryCacheUsage()
    with likewise.connect("memory://", query_cache=True) as store:
        assert store.query_cache_usage == QueryCacheUsage()


def test_the_queries_used_longest_ago_make_room(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query_cache, "_EVERY", 5)
    faraway()
    with likewise.connect(url) as store:
        assert isinstance(store, PostgresStore)
        store._queries._most = 10
        with store.transaction() as connection:
            connection.execute(
                "insert into likewise.query_cache select 'old', sha256(n::text::bytea), '{1}', now() - interval '2 days'"
                " from generate_series(1, 50) as n"
            )
        notes = store.collection("notes")
        for n in range(16):
            notes.search(f"words {n}")
        assert store.query_cache_usage == QueryCacheUsage(misses=16, stored=16)
    assert len(rows(url)) == 10
    assert {row[0] for row in rows(url)} == {'["faraway é", "1", 16, "ask: "]'}


def test_a_use_is_noted_to_the_hour(url: str) -> None:
    def age(hours: int) -> float:
        with psycopg.connect(url) as connection:
            connection.execute(
                "update likewise.query_cache set last_used = now() - make_interval(hours => %s)", [hours]
            )
        faraway()
        with likewise.connect(url) as store:
            search(store)
            assert store.query_cache_usage == QueryCacheUsage(hits=1)
        with psycopg.connect(url) as connection:
            found = connection.execute("select extract(epoch from now() - last_used) / 3600 from likewise.query_cache")
            return float(found.fetchall()[0][0])

    faraway()
    with likewise.connect(url) as store:
        search(store)
    assert age(30) < 0.1
    assert 0.0 <= age(0) < 0.1
    with psycopg.connect(url) as connection:
        connection.execute("update likewise.query_cache set last_used = now() - interval '30 minutes'")


@pytest.mark.parametrize(
    "broken", ["{1, 2}", "{}", "{" + ", ".join(["NaN"] * 16) + "}", "{" + ", ".join(["Infinity"] * 16) + "}"]
)
def test_what_somebody_else_has_put_there_is_not_believed(url: str, broken: str) -> None:
    faraway()
    with likewise.connect(url) as store:
        search(store)
    with psycopg.connect(url) as connection:
        connection.execute("update likewise.query_cache set vector = %s::real[]", [broken])
    model = faraway()
    with likewise.connect(url) as store:
        assert search(store) == ["a"]
        assert store.query_cache_usage == QueryCacheUsage(misses=1, stored=1)
    assert model.asked == ["red"]
    assert len(rows(url)[0][2]) == 16, "and it is mended"


def test_a_role_without_the_right_searches_all_the_same_and_it_is_said_once(
    url: str, role: str, caplog: pytest.LogCaptureFixture
) -> None:
    model = faraway()
    with caplog.at_level(logging.WARNING), likewise.connect(role) as store:
        assert [search(store, text) for text in ("red", "a red", "dress")] == [["a"]] * 3
        usage = store.query_cache_usage
    assert model.asked == ["red", "a red", "dress"]
    assert (usage.hits, usage.stored, usage.failures) == (0, 0, 2), "it is left alone after the first time"
    assert "42501" in usage.last_failure
    said = [record.getMessage() for record in caplog.records if "query_cache" in record.getMessage()]
    assert len(said) == 2
    assert "read" in said[0]
    assert "written" in said[1]
    assert "grant" in said[0]
    assert not any("red" in message.split() for message in said)


def test_a_role_that_may_read_it_reads_it(url: str, role: str) -> None:
    faraway()
    with likewise.connect(url) as store:
        search(store)
    with psycopg.connect(url) as connection:
        connection.execute("grant select on likewise.query_cache to cache_reader")
    model = faraway()
    with likewise.connect(role) as store:
        assert search(store) == ["a"]
        assert search(store, "blue") == ["b"]
        assert store.query_cache_usage.hits == 1
        assert store.query_cache_usage.failures == 1
    assert model.asked == ["blue"]


def test_it_is_tried_again_after_a_while(url: str, role: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query_cache, "_PAUSE_SECONDS", 0.0)
    faraway()
    with likewise.connect(role) as store:
        search(store)
        assert store.query_cache_usage.failures == 2
        with psycopg.connect(url) as connection:
            connection.execute("grant select, insert, update, delete on likewise.query_cache to cache_reader")
        search(store, "sky")
        assert (store.query_cache_usage.stored, store.query_cache_usage.failures) == (1, 2)


def test_a_read_only_database_is_searched(url: str) -> None:
    faraway()
    with likewise.connect(url) as store:
        search(store)
    model = faraway()
    read_only = url + ("&" if "?" in url else "?") + "options=-cdefault_transaction_read_only%3Don"
    with likewise.connect(read_only) as store:
        assert search(store) == ["a"]
        assert store.query_cache_usage == QueryCacheUsage(hits=1)
        assert search(store, "blue") == ["b"]
        assert store.query_cache_usage.failures == 1
        assert "25006" in store.query_cache_usage.last_failure
    assert model.asked == ["blue"]


def test_a_database_of_an_older_version_is_searched(url: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("drop table likewise.query_cache")
        connection.execute("delete from likewise.migration where number = 5")
    model = faraway()
    with likewise.connect(url) as store:
        assert search(store) == ["a"]
        assert store.query_cache_usage.failures == 2
        store.install()  # type: ignore[attr-defined]
    assert model.asked == ["red"]
    faraway()
    with likewise.connect(url) as store:
        search(store)
        assert store.query_cache_usage == QueryCacheUsage(misses=1, stored=1)


def test_nothing_of_it_is_in_a_caller_s_transaction(url: str) -> None:
    with psycopg.connect(url) as connection, likewise.connect(url) as store:
        faraway()
        for notes in (
            likewise.attach(connection, query_cache=True).collection("notes"),
            store.collection("notes").using(connection),
        ):
            model = faraway()
            notes._embedding.embedder = model
            connection.rollback()
            connection.execute("set transaction isolation level serializable read only")
            assert notes.search("red", top_k=1)[0].id == "a"
            found = connection.execute(
                "select count(*) from pg_locks where relation = 'likewise.query_cache'::regclass"
            ).fetchone()
            assert found == (0,)
            assert model.asked == ["red"]
        assert store.query_cache_usage == QueryCacheUsage()
    assert rows(url) == []


def test_a_lent_pool_remembers(url: str) -> None:
    model = faraway()
    with psycopg_pool.ConnectionPool(url, min_size=1, max_size=1, open=True) as pool:
        store = likewise.attach(pool)
        assert search(store) == ["a"]
        assert store.query_cache_usage == QueryCacheUsage(misses=1, stored=1)
    assert model.asked == ["red"]
    assert len(rows(url)) == 1


def test_one_connection_is_enough(url: str) -> None:
    faraway()
    with likewise.connect(url, max_connections=1) as store, likewise.deadline(10):
        assert search(store) == ["a"]
        assert store.query_cache_usage == QueryCacheUsage(misses=1, stored=1)


def test_a_lock_on_the_table_is_waited_for_as_long_as_the_deadline_says(url: str) -> None:
    faraway()
    with likewise.connect(url) as store:
        notes = store.collection("notes")
        with psycopg.connect(url) as blocker:
            blocker.execute("lock table likewise.query_cache in access exclusive mode")
            with likewise.deadline(0.3), pytest.raises(likewise.BackendTimeout):
                notes.search("red")
        assert notes.search("red", top_k=1)[0].id == "a"


def test_a_text_that_is_none_is_the_model_s_to_refuse(url: str) -> None:
    faraway()
    with likewise.connect(url) as store:
        notes = store.collection("notes")
        wrong: Any
        for wrong in (7, "half a \ud800 pair"):
            with pytest.raises(likewise.InvalidArgument):
                notes.search(wrong)
        assert store.query_cache_usage.failures == 0


async def test_tasks_share_it(url: str) -> None:
    import asyncio

    model = faraway()
    async with await likewise.connect_async(url) as store:
        notes = await store.collection("notes")
        found = await asyncio.gather(*(notes.search(f"red {n % 4}", top_k=1) for n in range(40)))
        assert {results[0].id for results in found} == {"a"}
    assert len(rows(url)) == 4
    assert set(model.asked) == {f"red {n}" for n in range(4)}


def test_evicting_does_not_wait_for_others(url: str) -> None:
    faraway()
    with likewise.connect(url) as store:
        assert isinstance(store, PostgresStore)
        search(store)
        shared: SharedQueryCache = store._queries
        shared._most = 0
        with psycopg.connect(url) as blocker:
            blocker.execute(sql.SQL("select from likewise.query_cache for update"))
            with likewise.deadline(5):
                assert shared._write("evict", {"most": 0})
        assert len(rows(url)) == 1
        assert shared._write("evict", {"most": 0})
        assert rows(url) == []
