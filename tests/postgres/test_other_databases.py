"""Databases that are not as we make them: another order of text, pgvector in a schema of its own, a hostile search_path, old versions."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from psycopg import sql

import likewise
from likewise import BackendError, CollectionSpec, Metadata, Record, SchemaMismatch, VectorStore
from likewise.backends.postgres import store_async
from likewise.backends.postgres._table import Extension
from likewise.testing.database import empty_database

IDS = ["a", "B", "é", "Z", "10", "9", "_", "a b", "日", "\U0001f600", "A"]


def database(url: str, name: str) -> str:
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


@contextmanager
def libc_database(server: str, locale: str = "C.UTF-8") -> Iterator[str]:
    """A database whose text is ordered and lowered by the C library."""
    name = f"likewise_test_{secrets.token_hex(6)}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE template0 LOCALE_PROVIDER libc LOCALE {} ENCODING 'UTF8'").format(
                sql.Identifier(name), sql.Literal(locale)
            )
        )
    try:
        yield database(server, name)
    finally:
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def fill(store: VectorStore) -> likewise.Collection:
    things = store.ensure_collection(CollectionSpec("things", dimension=3, multimodal=True))
    things.upsert(Record(i, [1, n, 0], {"n": n, "word": "Été"}, "Été") for n, i in enumerate(IDS))
    return things


def exercise(store: VectorStore) -> None:
    """Every kind of statement once."""
    things = fill(store)
    things.ensure_indexes()
    assert [r.id for r in things.search_by_vector([1, 0, 0], top_k=2)] == ["a", "B"]
    assert [len(found) for found in things.search_many([[1, 0, 0], [0, 1, 0]], top_k=3, where=Metadata("n") > 1)] == [
        3,
        3,
    ]
    assert things.search_by_vectors({"": [1, 0, 0]}, top_k=1)[0].id == "a"
    assert things.recall(sample=5) == 1.0
    assert things.upsert(Record(f"many{i}", [1, i, 1]) for i in range(1100)) == 1100
    assert things.delete(where=likewise.StartsWith(likewise.Column("id"), "many")) == 1100
    assert things.count(likewise.TextMatch(likewise.Column("content"), "ÉTÉ")) == len(IDS)
    assert things.get("é", include=("vector",)).vector is not None
    with store.transaction() as connection:
        found = connection.execute(
            "select content_id from likewise.find_similar_multimodal((select vector from things where id = 'a'), 'text', 0, 1)"
        ).fetchone()
    assert found == ("a",)


def test_listings_are_by_code_point_where_the_database_orders_otherwise(postgres_server: str) -> None:
    with libc_database(postgres_server) as url, likewise.connect(url) as store:
        exercise(store)
        things = store.collection("things")
        assert [r.id for r in things.scan()] == sorted(IDS)
        page = things.scan(limit=4)
        assert [r.id for r in things.scan(cursor=page.cursor)] == sorted(IDS)[4:]
        with store.transaction() as connection:
            connection.execute("set local enable_seqscan = off")
            plan = str(
                connection.execute(
                    'explain select id from things where id collate "C" > \'a\' order by id collate "C" limit 3'
                ).fetchall()
            )
            assert "idx_things_id_order" in plan
            joined = connection.execute(
                "create table p (id text primary key); select count(*) from p join things using (id)"
            )
        assert joined is not None, "business tables with the database's own collation join without a word"


@pytest.mark.parametrize("version", [16, 18])
def test_words_are_matched_whatever_their_case_where_the_database_lowers_ascii_only(
    version: int, postgres_server: str, postgres_16_server: str
) -> None:
    server = postgres_16_server if version == 16 else postgres_server
    with libc_database(server, "C") as url, likewise.connect(url) as store:
        exercise(store)


def test_a_migration_that_was_applied_with_another_text_is_refused(fresh_database_url: str) -> None:
    with likewise.connect(fresh_database_url) as store:
        store.ensure_collection(CollectionSpec("things", dimension=3))
        with store.transaction() as connection:
            connection.execute("update likewise.migration set sha256 = 'other' where number = 1")
        with pytest.raises(SchemaMismatch, match=r"migration 1 .* another text"):
            store.install()  # type: ignore[attr-defined]


def test_pgvector_may_live_in_a_schema_off_the_search_path(fresh_database_url: str) -> None:
    with psycopg.connect(fresh_database_url, autocommit=True) as connection:
        connection.execute("create schema extensions")
        connection.execute("create extension vector schema extensions")
    with likewise.connect(fresh_database_url) as store:
        things = fill(store)
        things.ensure_indexes()
        assert things.search_by_vector([1, 0, 0], top_k=1)[0].id == "a"
        assert things.search_by_vectors({"": [1, 0, 0]}, top_k=1)[0].id == "a"
        things.ensure_indexes(vector=likewise.Hnsw(quantization="binary"))
        with store.transaction() as connection:
            found = connection.execute(
                "select content_id from likewise.find_similar_multimodal('[1,0,0]'::extensions.vector, null, 0, 1)"
            ).fetchone()
        assert found == ("a",)


def test_the_sql_function_tells_schemas_apart_and_forgets_tables_dropped_by_hand(fresh_database_url: str) -> None:
    with psycopg.connect(fresh_database_url, autocommit=True) as connection:
        connection.execute("create schema other")
    with likewise.connect(fresh_database_url) as store, likewise.connect(fresh_database_url, schema="other") as other:
        fill(store)
        other.ensure_collection(CollectionSpec("things", dimension=3)).upsert(Record("elsewhere", [1, 0, 0]))
        search = "select content_id from likewise.find_similar_multimodal('[1,0,0]', null, 0, 1, %s)"
        with store.transaction() as connection:
            with pytest.raises(psycopg.errors.AmbiguousParameter, match=r"other\.things, public\.things"):
                with connection.transaction():
                    connection.execute(search, ["things"])
            assert connection.execute(search, ["other.things"]).fetchone() == ("elsewhere",)
            assert connection.execute(search, [None]).fetchone() == ("a",), "the only one that is multimodal"
            connection.execute("drop table public.things")
            assert connection.execute(search, ["things"]).fetchone() == ("elsewhere",)


def test_a_hostile_search_path_changes_nothing(fresh_database_url: str) -> None:
    with likewise.connect(fresh_database_url) as store:
        exercise(store)
    with psycopg.connect(fresh_database_url, autocommit=True) as connection:
        connection.execute("""
            create schema evil;
            create function evil.lies(public.vector, public.vector) returns float8 language sql immutable as 'select 0::float8';
            create operator evil.<=> (leftarg = public.vector, rightarg = public.vector, function = evil.lies);
            create table evil.registry (schema_name text, name text, spec jsonb);
            create table evil.things (id text primary key);
        """)
    hostile = (
        fresh_database_url
        + ("&" if "?" in fresh_database_url else "?")
        + "options=-csearch_path%3Devil%2Cpublic%2Cpg_catalog"
    )
    with likewise.connect(hostile) as store:
        things = store.collection("things")
        assert [round(r.distance, 3) for r in things.search_by_vector([1, 0, 0], top_k=2, exact=True)] == [0.0, 0.293]
        with store.transaction() as connection:
            found = connection.execute(
                "select content_id, distance from likewise.find_similar_multimodal('[0,1,0]'::public.vector, null, 0, 1)"
            ).fetchone()
        assert found is not None
        assert found[1] > 0


def test_tables_made_by_hand_are_taken_over_or_refused_with_every_difference(fresh_database_url: str) -> None:
    with likewise.connect(fresh_database_url) as store:
        store.ensure_collection(CollectionSpec("first", dimension=3))
        with store.transaction() as connection:
            connection.execute(
                "create table plain (id text primary key, vector vector(3) not null, owner text default 'me')"
            )
            connection.execute("insert into plain (id, vector) values ('x', '[1,0,0]')")
            connection.execute(
                "create table wrong (key int primary key, vector vector(4), metadata text, owner text not null)"
            )
        with pytest.raises(SchemaMismatch, match="metadata") as caught:
            store.ensure_collection(CollectionSpec("plain", dimension=3))
        assert len(caught.value.differences) == 2
        plain = store.ensure_collection(CollectionSpec("plain", dimension=3, mode="auto_migrate"))
        assert plain.get("x").metadata == {}
        plain.upsert(Record("y", [0, 1, 0], {"n": 1}, "text"))
        assert plain.count() == 2
        for mode in ("strict", "auto_migrate"):
            with pytest.raises(SchemaMismatch) as caught:
                store.ensure_collection(CollectionSpec("wrong", dimension=3, mode=mode))
            text = " ".join(caught.value.differences)
            assert all(word in text for word in ("'id'", "dimension 4", "'metadata'", "primary key", "'owner'"))
        with store.transaction() as connection:
            columns = connection.execute(
                "select count(*) from pg_attribute where attrelid = 'wrong'::regclass and attnum > 0"
            ).fetchone()
        assert columns == (4,), "what is refused is not touched"


def test_what_people_create_without_a_schema_is_in_public(fresh_database_url: str) -> None:
    with likewise.connect(fresh_database_url) as store:
        store.ensure_collection(CollectionSpec("things", dimension=3, multimodal=True))
        with store.transaction() as connection:
            connection.execute("create table mine (id int)")
            found = connection.execute(
                "select relnamespace::regnamespace::text from pg_class where relname = 'mine'"
            ).fetchone()
        assert found == ("public",)


def test_every_database_is_brought_to_the_same_schema(postgres_server: str, fresh_database_url: str) -> None:
    def shape(url: str) -> list[tuple[object, ...]]:
        with psycopg.connect(url) as connection:
            return connection.execute("""
                select c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, null
                from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0
                where c.relnamespace = 'likewise'::regnamespace and c.relkind in ('r', 'v', 'c')
                union all
                select p.proname, null, pg_get_function_identity_arguments(p.oid), null, md5(p.prosrc)
                from pg_proc p where p.pronamespace = 'likewise'::regnamespace
                order by 1, 2, 3
            """).fetchall()

    with likewise.connect(fresh_database_url) as store:
        store.install()  # type: ignore[attr-defined]
        with store.transaction() as connection:
            connection.execute("update likewise.setting set value = 'old' where name = 'functions'")
            connection.execute("drop view likewise.collections")
        store.install()  # type: ignore[attr-defined]
    with empty_database(postgres_server) as other, likewise.connect(other) as store:
        store.ensure_collection(CollectionSpec("things", dimension=3))
        assert shape(other) == shape(fresh_database_url)
        assert len(shape(other)) > 10


@pytest.mark.parametrize(
    ("version", "outcome"),
    [("0.6.2", "too old"), ("0.7.4", "faults"), ("0.8.1", "faults"), ("0.8.4", ""), ("0.10.0", "")],
)
def test_old_versions_of_pgvector_are_refused_or_warned_of(
    fresh_database_url: str, monkeypatch: pytest.MonkeyPatch, version: str, outcome: str
) -> None:
    from likewise.backends.postgres import store as store_module

    found = Extension("public", version, {"vector": 1, "halfvec": 2})
    monkeypatch.setattr(store_module, "_extension", lambda state: found)
    assert store_async.SOUND_EXTENSION == (0, 8, 4)
    if outcome == "too old":
        with pytest.raises(BackendError, match="too old"):
            likewise.connect(fresh_database_url)
    elif outcome:
        with pytest.warns(UserWarning, match=outcome):
            likewise.connect(fresh_database_url).close()
    else:
        likewise.connect(fresh_database_url).close()


def test_without_iterative_scan_a_filtered_search_is_still_not_short(
    fresh_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with pgvector 0.7: the index gives up early, and the exact answer fills the result."""
    monkeypatch.setattr(Extension, "iterative_scan", False)
    with likewise.connect(fresh_database_url) as store:
        things = store.ensure_collection(CollectionSpec("things", dimension=8))
        things.upsert(Record(str(i), [((i * p) % 17) - 8.5 for p in range(1, 9)], {"n": i}) for i in range(3000))
        things.ensure_indexes()
        with store.transaction() as connection:
            connection.execute("analyze things")
        found = things.search_by_vector([1.0] * 8, top_k=50, where=Metadata("n") > 2900)
        assert len(found) == 50
        assert "hnsw.iterative_scan" not in found.explain().settings


def test_vectors_stay_in_the_row_where_there_is_room(fresh_database_url: str) -> None:
    def storage(table: str) -> dict[str, str]:
        with psycopg.connect(fresh_database_url) as connection:
            return dict(
                connection.execute(
                    "select attname, attstorage::text from pg_attribute where attrelid = %s::regclass and attnum > 0",
                    (table,),
                ).fetchall()
            )

    with likewise.connect(fresh_database_url) as store:
        store.ensure_collection(CollectionSpec("usual", dimension=1_536))
        assert storage("usual") == {"id": "x", "vector": "p", "metadata": "m", "content": "x"}
        store.ensure_collection(CollectionSpec("halves", dimension=3_072))
        assert storage("halves")["vector"] == "p"
        store.ensure_collection(CollectionSpec("large", dimension=2_000))
        assert storage("large")["vector"] == "e"
        # A row that is as large as rows can be.
        widest = store.ensure_collection(CollectionSpec("widest", dimension=1_748, multimodal=True))
        record_id = "\U0001f600" * 450
        random = "".join(secrets.token_hex(8) for _ in range(2_000))
        widest.upsert(
            Record(
                record_id, [1.0] * 1_748, {"a": random, "b": [secrets.token_hex(4)] * 99}, random, content_id=record_id
            )
        )
        found = widest.get(record_id)
        assert (found.content, found.metadata["a"], found.content_id) == (random, random, record_id)
