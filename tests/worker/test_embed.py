"""``embed()`` in SQL as its callers see it: the right vector, remembered; and for everything that can be wrong an error of its own."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import psycopg
import pytest
from psycopg import sql

import likewise
from likewise import CollectionSpec
from likewise.abc.embedder import Embedder
from likewise.embedding import HashingEmbedder
from likewise.worker import Worker, WorkerThread, answering
from worker.conftest import Told, wait_until

Client = psycopg.Connection[Any]


def embedded(client: Client, text: str, model: str | None = "told") -> list[float]:
    row = client.execute("select likewise.embed(%s, %s)::real[]", [text, model]).fetchone()
    assert row is not None
    found: list[float] = row[0]
    return found


def failing(client: Client, statement: str, *parameters: object) -> psycopg.Error:
    with pytest.raises(psycopg.Error) as caught:
        client.execute(statement, parameters)
    return caught.value


class TestVectors:
    def test_a_text_is_embedded_as_a_query_while_the_statement_runs(
        self, client: Client, worker: Worker, told: Told
    ) -> None:
        expected = told.embed_queries(["a red dress"])[0]
        assert np.allclose(embedded(client, "a red dress"), expected)
        wait_until(lambda: worker.counts.answered == 1)

    def test_what_was_embedded_is_remembered(self, client: Client, worker: Worker, told: Told) -> None:
        first = embedded(client, "twice")
        assert embedded(client, "twice") == first
        assert told.calls == [["ask: twice"]]
        cached = client.execute("select query, model from likewise.query_cache").fetchall()
        assert cached == [(hashlib.sha256(b"twice").digest(), '["told", "1", 16, "ask: "]')]

    def test_queries_from_python_and_from_sql_are_remembered_together(
        self, client: Client, url: str, worker: Worker
    ) -> None:
        embedded(client, "shared", "hashing:16")
        with likewise.connect(url, query_cache=True) as store:
            store.ensure_collection(CollectionSpec("notes", embedder="hashing:16")).search("shared")
            assert store.query_cache_usage.hits == 1

    def test_null_is_null(self, client: Client, worker: Worker) -> None:
        assert client.execute("select likewise.embed(null), likewise.embed_image(null)").fetchone() == (None, None)

    def test_the_empty_text_and_any_other_text(self, client: Client, worker: Worker, told: Told) -> None:
        for text in ("", " ", "'; drop table x; --", "\\", "ключ 🗝️", "a\nb", '"{}"', "x" * 100_000):
            assert np.allclose(embedded(client, text), told.embed_queries([text])[0])

    def test_inside_a_transaction_that_writes_and_is_rolled_back(self, client: Client, worker: Worker) -> None:
        with client.transaction(force_rollback=True):
            client.execute("create table t (v vector(16))")
            client.execute("insert into t values (likewise.embed('new here', 'told'))")
            assert client.execute("select count(*) from t").fetchone() == (1,)

    def test_in_a_read_only_transaction(self, client: Client, worker: Worker) -> None:
        with client.transaction():
            client.execute("set transaction read only")
            assert embedded(client, "only reading") is not None

    def test_inside_an_exception_block_and_a_loop(self, client: Client, worker: Worker) -> None:
        client.execute(
            "do $$ begin for i in 1..20 loop begin perform likewise.embed('loop ' || i, 'told'); exception when others then raise; end; end loop; end $$"
        )
        wait_until(lambda: worker.counts.answered == 20)

    def test_the_index_serves_an_order_by_an_embedded_text(self, client: Client, worker: Worker) -> None:
        client.execute("create table t (id int, v vector(16)); create index on t using hnsw (v vector_cosine_ops)")
        client.execute("set enable_seqscan = off")
        plan = client.execute(
            "explain select id from t order by v <=> (select likewise.embed('x', 'told')) limit 3"
        ).fetchall()
        assert any("Index Scan using t_v_idx" in row[0] for row in plan)

    def test_the_default_model_is_the_setting_or_mini(self, client: Client, worker: Worker) -> None:
        assert len(embedded(client, "by mini", None)) == 384
        client.execute("insert into likewise.setting values ('model', 'told')")
        assert len(embedded(client, "by told", None)) == 16

    def test_models_of_collections_are_offered(self, client: Client, worker: Worker, url: str) -> None:
        assert failing(client, "select likewise.embed('x', 'hashing:8')").sqlstate == "LW005"
        with likewise.connect(url) as store:
            store.ensure_collection(CollectionSpec("eight", embedder="hashing:8"))
        wait_until(lambda: _works(client, "hashing:8"), 5)

    def test_pictures(self, client: Client, worker: Worker) -> None:
        from io import BytesIO

        from PIL import Image

        from likewise.embedding import load_embedder

        file = BytesIO()
        Image.new("RGB", (40, 30), "orange").save(file, "PNG")
        for _ in range(2):
            row = client.execute("select likewise.embed_image(%s, 'mini')::real[]", [file.getvalue()]).fetchone()
            assert row is not None
            assert np.allclose(row[0], load_embedder("mini").embed_images([file.getvalue()])[0], atol=1e-5)
        wait_until(lambda: worker.counts.answered == 1)

    def test_eighty_at_once_are_answered_together_and_each_rightly(self, url: str, worker: Worker, told: Told) -> None:
        """No lost and no wrong answer; the model is called far less often than it is asked."""
        clients, texts = 80, 50
        wrong: list[str] = []

        def ask(number: int) -> None:
            with psycopg.connect(url, autocommit=True) as connection:
                for i in range(texts):
                    text = f"client {number} text {i}"
                    if not np.allclose(
                        embedded(connection, text), HashingEmbedder(16).embed_texts([f"ask: {text}"])[0]
                    ):
                        wrong.append(text)

        told.gate.clear()
        threads = [threading.Thread(target=ask, args=(n,)) for n in range(clients)]
        for thread in threads:
            thread.start()
        wait_until(lambda: worker.counts.waiting == clients)
        told.gate.set()
        for thread in threads:
            thread.join()
        assert wrong == []
        wait_until(lambda: worker.counts.answered == clients * texts)
        assert worker.counts.largest_batch >= 60
        assert worker.counts.batches < clients * texts / 2

    def test_the_same_text_of_many_is_embedded_once(self, url: str, worker: Worker, told: Told) -> None:
        told.gate.clear()
        found: list[list[float] | None] = []

        def ask() -> None:
            with psycopg.connect(url, autocommit=True) as connection:
                found.append(embedded(connection, "the same"))

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        wait_until(lambda: worker.counts.waiting == 8)
        told.gate.set()
        for thread in threads:
            thread.join()
        assert len(found) == 8
        assert sum(call.count("ask: the same") for call in told.calls) == 1


def _works(client: Client, model: str) -> bool:
    try:
        return embedded(client, "x", model) is not None
    except psycopg.Error:
        return False


class TestErrors:
    def test_no_worker(self, client: Client) -> None:
        error = failing(client, "select likewise.embed('x')")
        assert error.sqlstate == "LW001"
        assert error.diag.message_primary == "no worker is there to embed texts"
        assert "likewise worker" in (error.diag.message_hint or "")

    def test_too_late(self, client: Client, worker: Worker, told: Told) -> None:
        told.gate.clear()
        client.execute("set likewise.embed_timeout = '300ms'")
        began = time.monotonic()
        error = failing(client, "select likewise.embed('x', 'told')")
        assert error.sqlstate == "LW002"
        assert time.monotonic() - began < 8  # the model would not have answered at all
        told.gate.set()
        client.execute("set likewise.embed_timeout = '5s'")
        assert embedded(client, "x") is not None

    @pytest.mark.parametrize("level", ["repeatable read", "serializable"])
    def test_a_fixed_snapshot_sees_what_is_remembered_only(self, client: Client, worker: Worker, level: str) -> None:
        embedded(client, "remembered")
        with client.transaction(force_rollback=True):
            client.execute(sql.SQL("set transaction isolation level {}").format(sql.SQL(level)))
            assert embedded(client, "remembered") is not None
            error = failing(client, "select likewise.embed('new', 'told')")
        assert error.sqlstate == "LW003"
        assert level.upper() in (error.diag.message_primary or "")
        assert "READ COMMITTED" in (error.diag.message_hint or "")

    def test_a_model_that_is_not_offered(self, client: Client, worker: Worker) -> None:
        error = failing(client, "select likewise.embed('x', 'sentence-transformers:somebody/something')")
        assert error.sqlstate == "LW005"
        assert "told" in (error.diag.message_primary or "")
        assert "--model" in (error.diag.message_primary or "")

    def test_a_text_that_the_model_refuses_does_not_harm_the_others(self, url: str, worker: Worker, told: Told) -> None:
        told.gate.clear()
        texts = ["good 1", "refuse me", "good 2", "good 3"]
        states: dict[str, str | None] = {}

        def ask(text: str) -> None:
            with psycopg.connect(url, autocommit=True) as connection:
                try:
                    embedded(connection, text)
                    states[text] = None
                except psycopg.Error as error:
                    states[text] = error.sqlstate

        first = threading.Thread(target=ask, args=("first",))
        first.start()
        wait_until(lambda: bool(told.calls))
        threads = [threading.Thread(target=ask, args=(text,)) for text in texts]
        for thread in threads:
            thread.start()
        wait_until(lambda: worker.counts.waiting == 5)
        told.gate.set()
        for thread in [first, *threads]:
            thread.join()
        assert states == {"first": None, "good 1": None, "refuse me": "22023", "good 2": None, "good 3": None}

    def test_more_requests_than_are_kept(
        self, url: str, client: Client, worker: Worker, told: Told, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(answering, "_MOST_KEPT", 2)
        told.gate.clear()

        def ask(number: int) -> None:
            with psycopg.connect(url, autocommit=True) as connection:
                embedded(connection, f"waits {number}")

        threads = [threading.Thread(target=ask, args=(n,)) for n in range(2)]
        for thread in threads:
            thread.start()
        wait_until(lambda: worker.counts.waiting == 2)
        assert failing(client, "select likewise.embed('one too many', 'told')").sqlstate == "53000"
        told.gate.set()
        for thread in threads:
            thread.join()
        assert embedded(client, "one too many")

    def test_a_refusal_has_a_hint_only_if_there_is_something_to_say(self, client: Client, worker: Worker) -> None:
        refused = failing(client, "select likewise.embed('refuse it', 'told')")
        assert refused.diag.message_primary == "a text that is refused"
        assert refused.diag.message_hint is None
        not_offered = failing(client, "select likewise.embed('x', 'no such model')")
        assert not_offered.diag.message_hint == (
            "The model is loaded by the worker: run `likewise models list` where the worker runs."
        )

    def test_a_model_that_breaks_says_little_and_the_worker_goes_on(self, client: Client, worker: Worker) -> None:
        error = failing(client, "select likewise.embed('break it', 'told')")
        assert error.sqlstate == "LW006"
        assert "secret" not in str(error)
        assert embedded(client, "after it") is not None

    def test_a_model_without_pictures(self, client: Client, worker: Worker) -> None:
        assert failing(client, "select likewise.embed_image('\\x00', 'told')").sqlstate == "0A000"

    def test_a_picture_that_is_none(self, client: Client, worker: Worker) -> None:
        assert failing(client, "select likewise.embed_image('\\x0011', 'mini')").sqlstate == "22023"

    def test_more_than_a_text(self, client: Client, worker: Worker) -> None:
        assert failing(client, "select likewise.embed(repeat('x', 1000001), 'told')").sqlstate == "54000"
        assert worker.counts.requests == 0

    @pytest.mark.parametrize("setting", ["soon", "0", "-1s", "2 days", "99999999999s"])
    def test_a_timeout_that_is_none(self, client: Client, setting: str) -> None:
        client.execute("select set_config('likewise.embed_timeout', %s, false)", [setting])
        assert failing(client, "select likewise.embed('x')").sqlstate == "22023"

    def test_another_model_of_the_same_name(self, client: Client, worker: Worker, told: Told) -> None:
        error = failing(
            client,
            "select likewise.query_vector('x', %s)",
            '{"name": "c", "embedder": "told", "model": {"name": "told", "revision": "0", "dimension": 16, "query_prompt": "ask: "}}',
        )
        assert error.sqlstate == "LW005"
        assert "revision '0'" in (error.diag.message_primary or "")

    def test_a_cancelled_caller_leaves_nothing(self, client: Client, worker: Worker, told: Told, url: str) -> None:
        told.gate.clear()
        client.execute("set statement_timeout = '200ms'")
        assert failing(client, "select likewise.embed('x', 'told')").sqlstate == "57014"
        held = client.execute(
            "select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()"
        ).fetchone()
        assert held == (0,)
        assert client.execute("show lock_timeout").fetchone() == ("0",)
        told.gate.set()

    def test_waiting_leaves_no_setting_and_no_lock_in_the_transaction(self, client: Client, worker: Worker) -> None:
        with client.transaction():
            client.execute("set local lock_timeout = '7s'")
            embedded(client, "in a transaction")
            assert client.execute("show lock_timeout").fetchone() == ("7s",)
            locks = "select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()"
            assert client.execute(locks).fetchone() == (0,)

    def test_messages_of_others_do_no_harm(self, client: Client, worker: Worker) -> None:
        for content in ("", "{}", "[", "null", '{"kind": "text"}', "[" * 5_000):
            client.execute("select pg_logical_emit_message(false, 'likewise.embed', %s)", [content])
            client.execute("select pg_logical_emit_message(false, 'likewise.used', %s)", [content])
        client.execute("select pg_logical_emit_message(false, 'somebody else', 'x')")
        assert embedded(client, "still there") is not None
        assert worker.counts.malformed == 12


@pytest.fixture
def role(url: str) -> Iterator[str]:
    """A URL for a role that is a member of likewise_user and nothing else."""
    with psycopg.connect(url, autocommit=True) as connection:
        from likewise.backends.postgres._install import resource

        connection.execute(resource("role.sql"))
        connection.execute(resource("grants.sql"))
        connection.execute("create role embed_caller login password 'caller' in role likewise_user")
        info = connection.info
        address = f"host={info.host} port={info.port} dbname={info.dbname} user=embed_caller password=caller"
    yield address
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("drop owned by embed_caller")
        connection.execute("drop role embed_caller")
        connection.execute("drop owned by likewise_user")


class TestRoles:
    def test_an_ordinary_role_may_call_it(self, role: str, worker: Worker) -> None:
        with psycopg.connect(role, autocommit=True) as connection:
            assert embedded(connection, "from an ordinary role") is not None
            assert failing(connection, "select likewise.embed('refuse', 'told')").sqlstate == "22023"

    def test_it_reads_nothing_of_what_others_searched_for(self, role: str) -> None:
        with psycopg.connect(role, autocommit=True) as connection:
            for table in ("query_cache", "refusal"):
                statement = sql.SQL("select * from likewise.{}").format(sql.Identifier(table))
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    connection.execute(statement)

    def test_under_a_hostile_search_path(self, client: Client, role: str, worker: Worker) -> None:
        client.execute("create schema trap; grant all on schema trap to public")
        with psycopg.connect(role, autocommit=True) as connection:
            connection.execute(
                """
                create function trap.sha256(bytea) returns bytea language sql as 'select 1/0; select $1';
                create function trap.convert_to(text, name) returns bytea language sql as 'select 1/0; select null::bytea';
                create function trap.clock_timestamp() returns timestamptz language sql as 'select 1/0; select now()';
                create function trap.current_setting(text, boolean) returns text language sql as 'select 1/0; select null::text';
                create table trap.pg_locks ();
                create function trap.shouted(text, text) returns text language sql as 'select (1/0)::text';
                create operator trap.|| (leftarg = text, rightarg = text, function = trap.shouted);
                set search_path = trap, pg_catalog;
                """
            )
            connection.execute("create temp table model (name text, identity jsonb)")
            assert embedded(connection, "hostile") is not None
        client.execute("drop schema trap cascade")


def test_what_was_used_stays_remembered(
    client: Client, worker: Worker, models: Callable[[str], Embedder], url: str
) -> None:
    embedded(client, "old")
    client.execute("update likewise.query_cache set last_used = now() - interval '2 days'")
    embedded(client, "old")
    recent = "select count(*) from likewise.query_cache where last_used > now() - interval '1 minute'"
    wait_until(lambda: client.execute(recent).fetchone() == (1,))


def test_what_is_remembered_is_bounded(client: Client, url: str, models: Callable[[str], Embedder]) -> None:
    with WorkerThread(Worker(url, embedders=models, models=["told"], remember=5)):
        for i in range(9):
            embedded(client, f"text {i}")
        wait_until(lambda: client.execute("select count(*) from likewise.query_cache").fetchone() == (5,), 20)
        last = "select count(*) from likewise.query_cache where query = sha256('text 8')"
        assert client.execute(last).fetchone() == (1,)


def test_on_postgresql_16(database_16_url: str, models: Callable[[str], Embedder], told: Told) -> None:
    """Nothing flushes the message there, so the worker has it done."""
    with likewise.connect(database_16_url) as store:
        store.install()  # type: ignore[attr-defined]
    with WorkerThread(Worker(database_16_url, embedders=models, models=["told"])):
        with psycopg.connect(database_16_url, autocommit=True) as connection:
            for i in range(5):
                assert np.allclose(embedded(connection, f"text {i}"), told.embed_queries([f"text {i}"])[0])
            assert failing(connection, "select likewise.embed('refuse', 'told')").sqlstate == "22023"
