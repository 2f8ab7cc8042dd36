"""``likewise.watch`` in SQL: what it makes and refuses, whose rights its expressions have, and what ``unwatch`` leaves."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

import likewise
from likewise.embedding import HashingEmbedder

from .watch_helpers import STAND_IN, Database, assert_embedded, working


@pytest.fixture
def roles(database: Database) -> Iterator[tuple[str, str]]:
    """Two ordinary roles: one that owns tables, and one that only writes them."""
    database.run("create role shopkeeper login password 'x'")
    database.run("create role clerk login password 'x'")
    database.run("grant usage, create on schema public to shopkeeper")
    database.run("grant usage on schema likewise to shopkeeper")
    database.run(
        "grant select on likewise.watches, likewise.pending, likewise.watch_errors, likewise.registry to shopkeeper"
    )
    yield "shopkeeper", "clerk"
    for role in ("clerk", "shopkeeper"):
        database.run(f"drop owned by {role} cascade")
        database.run(f"drop role {role}")


def as_role(database: Database, role: str) -> Database:
    info = database.connection.info
    return Database(f"host={info.host} port={info.port} dbname={info.dbname} user={role} password=x")


CATALOG = """
select 'class', relname::text, relacl::text from pg_class where relname not like 'pg_toast%' and relname <> 'queries'
union all select 'proc', p.oid::regprocedure::text, proacl::text from pg_proc p
union all select 'trigger', tgname::text, null from pg_trigger
union all select 'type', typname::text, null from pg_type where typname not like '%toast%'
union all select 'constraint', conname::text, null from pg_constraint
union all select 'namespace', nspname::text, nspacl::text from pg_namespace
union all select 'description', description, null from pg_description
union all select 'rows', 'queue', count(*)::text from likewise.queue
union all select 'rows', 'watch', count(*)::text from likewise.watch
union all select 'rows', 'walk', count(*)::text from likewise.walk
union all select 'rows', 'failure', count(*)::text from likewise.failure
union all select 'rows', 'registry', count(*)::text from likewise.registry
order by 1, 2, 3
"""


def test_unwatch_leaves_no_trace(database: Database) -> None:
    database.run("create table products (id bigint primary key, name text)")
    database.run("insert into products select i, 'thing ' || i from generate_series(1, 30) i")
    before = database.rows(CATALOG)
    database.watch("products", content="name")
    with working(database.url):
        database.settled()
        database.run("update products set name = name || '!'")
    assert database.rows(CATALOG) != before
    database.run("select likewise.unwatch('products')")
    assert database.rows(CATALOG) == before
    database.run("insert into products values (100, 'written as before')")
    with pytest.raises(psycopg.errors.UndefinedObject, match="there is no watch 'products'"):
        database.run("select likewise.unwatch('products')")
    database.watch("products", content="name")
    with working(database.url):
        database.settled()
    database.run("select likewise.unwatch('products', keep_vectors => true)")
    assert database.one("select count(*) from products_embeddings") == 31


def test_a_table_that_is_dropped_is_noticed_and_cleared_away(database: Database) -> None:
    database.run("create table products (id bigint primary key, name text)")
    before = database.rows(CATALOG.replace("relname <> 'queries'", "relname not like 'products%'"))
    database.watch("products", content="name")
    with working(database.url):
        database.settled()
        database.run("insert into products values (1, 'never embedded')")
        database.run("drop table products")
        database.run("select likewise.resync('products')")
        assert "is gone" in database.error_of("products")
        assert database.one("select state from likewise.watches") == "gone"
        database.run("select likewise.unwatch('products')")
    left = database.rows(CATALOG)
    assert [row for row in left if row[0] != "description" and "products" in str(row[1])] == []
    assert len(left) < len(before)


def test_a_search_gives_the_tables_own_key(database: Database) -> None:
    database.run(STAND_IN)
    for text in ("red dress", "blue kettle"):
        vector = str(HashingEmbedder(32).embed_queries([text])[0].tolist())
        database.run("insert into queries values (%s, %s)", text, vector)
    database.run("create table products (id bigint primary key, name text, price int)")
    database.run("insert into products values (1, 'a red dress', 10), (2, 'red dress', 200), (3, 'blue kettle', 20)")
    database.watch("products", content="name")
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match="no worker has begun") as caught:
        database.rows("select * from products_search('red dress')")
    assert "likewise worker" in str(caught.value.diag.message_hint)
    with working(database.url):
        database.settled()
    query = "select p.*, s.similarity from products p join products_search('red dress', 0.5) s using (id) where p.price < 100"
    ((key, name, _, similarity),) = database.rows(query)
    assert (key, name) == (1, "a red dress")
    assert 0.5 < similarity < 1
    found = database.rows("select id, similarity from products_search('red dress', 0, 2)")
    assert [row[0] for row in found] == [2, 1]
    assert found[0][1] == pytest.approx(1)
    assert database.one("select pg_typeof(id)::text from products_search('red dress', 0, 1)") == "bigint"


@pytest.mark.parametrize(
    ("table", "arguments", "said"),
    [
        (
            "create table t (a int, b int, name text, primary key (a, b))",
            "content => 'name'",
            r"its primary key is \(a, b\)",
        ),
        ("create table t (a int, name text)", "content => 'name'", "it has no primary key"),
        (
            "create table t (a int primary key deferrable initially deferred, name text)",
            "content => 'name'",
            "checked at once",
        ),
        (
            "create table t (a timestamptz primary key, name text)",
            "content => 'name'",
            "of type timestamp with time zone",
        ),
        ("create table t (distance int primary key, name text)", "content => 'name'", "is called distance too"),
        ("create temp table t (a int primary key, name text)", "content => 'name'", "temporary table"),
        (
            "create view t as select 1 as a, 'x'::text as name",
            "content => 'name'",
            "a view: watch the table that it reads",
        ),
        (
            "create table up (a int primary key, name text); create table t () inherits (up)",
            "name => 'x', content => 'name'",
            "it has no primary key",
        ),
        (
            "create table t (a int primary key, name text); create table low () inherits (t)",
            "content => 'name'",
            "inherited from",
        ),
        (
            "create table up (a int primary key) partition by hash (a); create table t partition of up for values with (modulus 1, remainder 0)",
            "content => 'name'",
            "watch the partitioned table",
        ),
        (
            "create table t (a int primary key, name text)",
            "content => 'nme'",
            'content cannot be evaluated on t: column "nme" does not exist',
        ),
        (
            "create table t (a int primary key, name text)",
            "content => 'count(*)'",
            "aggregate functions are not allowed",
        ),
        (
            "create table t (a int primary key, name text[])",
            "content => 'unnest(name)'",
            "set-returning functions are not allowed",
        ),
        ("create table t (a int primary key, name text)", "content => 'name', filter => 'a'", "must be type boolean"),
        ("create table t (a int primary key, name text)", "image => 'a'", "image is of type integer"),
        ("create table t (a int primary key, name text)", "filter => 'a > 1'", "nothing to embed"),
        (
            "create table t (a int primary key, name text)",
            "content => 'name', name => 'my table'",
            "cannot name a watch",
        ),
        (
            "create table t (a int primary key, name text); create table t_embeddings ()",
            "content => 'name'",
            "t_embeddings is there already",
        ),
        (
            "create table t (a int primary key, name text); create function t_search() returns int return 1",
            "content => 'name'",
            "is there already",
        ),
    ],
)
def test_what_cannot_be_watched_is_refused(database: Database, table: str, arguments: str, said: str) -> None:
    database.run(table)
    with pytest.raises(psycopg.Error, match=said):
        database.run(f"select likewise.watch('t', {arguments})")
    assert database.one("select count(*) from likewise.watch") == 0


@pytest.mark.parametrize(
    ("kind", "keys"),
    [
        ("uuid", ["00000000-0000-0000-0000-00000000000a", "ffffffff-0000-0000-0000-000000000000"]),
        ("text", ["a", "a#image", "a#text", "a#image#text", "with, comma", 'quote " and \\ {brace}', "null", " "]),
        ("numeric", ["1.0", "2.50", "-3"]),
        ("smallint", ["1", "2"]),
        ("char(5)", ["ab   ", "c    "]),
        ("colour", ["red", "green"]),
        ("short", ["one", "two"]),
    ],
)
def test_keys_of_any_type_with_a_faithful_text(database: Database, kind: str, keys: list[str]) -> None:
    database.run("create type colour as enum ('red', 'green'); create domain short as varchar(10) check (value <> '')")
    database.run(f"create table things (key {kind} primary key, name text)")
    database.watch("things", content="name")
    database.run(STAND_IN)
    database.run(
        "insert into queries values ('thing', %s)", str(HashingEmbedder(32).embed_queries(["thing"])[0].tolist())
    )
    with working(database.url):
        database.settled()
        for key in keys:
            database.run(f"insert into things values (%s::{kind}, %s)", key, f"thing {key}")
        database.settled()
        found = database.rows("select content_id, content from things_embeddings order by 1")
        assert found == sorted((key, f"thing {key}") for key in keys)
        assert database.one("select count(*) from things_search('thing', 0, 100) s join things using (key)") == len(
            keys
        )
        database.run("delete from things")
        database.settled()
    assert database.one("select count(*) from things_embeddings") == 0


def test_a_key_without_text_is_an_error_of_its_row(database: Database) -> None:
    database.run("create table things (key text primary key, name text)")
    database.run("insert into things values ('', 'nothing'), ('b', 'something')")
    database.watch("things", content="name")
    with working(database.url):
        database.settled()
    ((key, attempts, error),) = database.rows("select key, attempts, error from likewise.watch_errors")
    assert (key, attempts) == ("", 3)
    assert "id" in error
    assert_embedded(database, "things_embeddings", {"b": "something"})


def test_expressions_have_the_rights_of_the_tables_owner(database: Database, roles: tuple[str, str]) -> None:
    database.run("create table secret (word text); insert into secret values ('hidden')")
    shopkeeper = as_role(database, "shopkeeper")
    shopkeeper.run("create table products (id int primary key, name text); insert into products values (1, 'a thing')")
    shopkeeper.run("grant insert, update, delete, truncate, select on products to clerk")
    shopkeeper.run("create table seen (who text, session text); grant insert on seen to public")
    # What an expression of a role without rights could try, were it run with those of a superuser.
    shopkeeper.run("""
        create function describe(name text) returns text language plpgsql as $$
        begin
            begin
                perform set_config('role', 'none', true);
                return 'escaped: ' || current_user;
            exception when others then null;
            end;
            begin
                return (select word from secret);
            exception when insufficient_privilege then null;
            end;
            return name || ' of ' || current_user;
        end $$
    """)
    shopkeeper.watch("products", content="describe(name)")
    with working(database.url):
        database.settled()
        assert database.rows("select content from products_embeddings") == [("a thing of shopkeeper",)]
        # The owner of the function that reads can make it another one at any time.
        shopkeeper.run("""
            create or replace function products_watched(token uuid, source regclass, keys text[], after text, most int)
            returns table (key text, content text, image bytea, address text) language plpgsql security invoker as $$
            begin
                begin
                    execute 'reset role';
                    execute 'set session authorization default';
                    return query select unnest(keys), 'escaped: ' || current_user, null::bytea, null::text;
                exception when others then
                    return query select unnest(keys), 'held: ' || current_user, null::bytea, null::text;
                end;
            end $$
        """)
        shopkeeper.run("update products set name = 'other'")
        database.settled()
        assert database.rows("select content from products_embeddings") == [("held: likewise_nobody",)]
        shopkeeper.run("""
            create or replace function products_watched(token uuid, source regclass, keys text[], after text, most int)
            returns table (key text, content text, image bytea, address text) language plpgsql as $$
            begin
                insert into public.seen values (current_user, session_user);
                return query select unnest(keys), 'written', null::bytea, null::text;
            end $$
        """)
        shopkeeper.run("update products set name = 'third'")
        assert "read-only transaction" in database.error_of("products")
    assert database.rows("select * from seen") == []
    shopkeeper.connection.close()


def test_a_table_in_the_place_of_the_vectors_is_not_written_to(database: Database, roles: tuple[str, str]) -> None:
    shopkeeper = as_role(database, "shopkeeper")
    database.run("create schema shop authorization shopkeeper; grant usage on schema shop to likewise_nobody")
    shopkeeper.run("create table shop.products (id int primary key, name text); create table shop.seen (who text)")
    shopkeeper.watch("shop.products", content="name")
    with working(database.url):
        database.settled()
        shopkeeper.run("alter table shop.products add note text")
        # The owner of a schema may drop what is in it, and put something else there, with a trigger.
        shopkeeper.run("drop table shop.products_embeddings")
        shopkeeper.run("""
            create table shop.products_embeddings (id text primary key, vector vector(32) not null, metadata jsonb not null default '{}',
                content text, modality text not null default 'text', content_id text, embedded bytea);
            create function shop.steal() returns trigger language plpgsql as $$
            begin insert into shop.seen values (current_user); return new; end $$;
            create trigger steal before insert on shop.products_embeddings for each row execute function shop.steal()
        """)
        shopkeeper.run("insert into shop.products values (1, 'a thing')")
        assert "does not trust" in database.error_of("products")
    assert database.rows("select * from shop.seen") == []
    shopkeeper.connection.close()


def test_writers_need_no_rights_and_can_set_what_they_like(database: Database, roles: tuple[str, str]) -> None:
    shopkeeper = as_role(database, "shopkeeper")
    shopkeeper.run("create table products (id int primary key, name text)")
    shopkeeper.run("grant insert, update, delete, truncate, select on products to clerk")
    shopkeeper.watch("products", content="upper(name)")
    clerk = as_role(database, "clerk")
    database.run("create schema evil authorization clerk")
    clerk.run("""
        create function evil.format(text, anyelement) returns text language sql as $$ select 'taken' $$;
        create function evil.upper(text) returns text language sql as $$ select 'taken' $$;
        create function evil.lies(text, text) returns bool language sql as $$ select false $$;
        create operator evil.= (leftarg = text, rightarg = text, function = evil.lies);
        create table evil.queue (watch int, key text);
        set search_path = evil, pg_catalog, public;
        insert into public.products values (1, 'one'), (2, 'two'), (3, 'three'), (4, 'four');
        update public.products set name = 'second' where id operator(pg_catalog.=) 2;
        update public.products set id = 30 where id operator(pg_catalog.=) 3;
        delete from public.products where id operator(pg_catalog.=) 4
    """)
    assert clerk.rows("select * from evil.queue") == []
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        clerk.run("insert into likewise.queue (watch) values (1)")
    with working(
        database.url + "&options=-csearch_path%3Devil"
        if "?" in database.url
        else database.url + "?options=-csearch_path%3Devil"
    ):
        database.settled()
    assert_embedded(database, "products_embeddings", {"1": "ONE", "2": "SECOND", "30": "THREE"})
    for connection in (clerk, shopkeeper):
        connection.connection.close()


def test_only_the_owner_watches_and_unwatches(database: Database, roles: tuple[str, str]) -> None:
    shopkeeper, clerk = as_role(database, "shopkeeper"), as_role(database, "clerk")
    database.run(
        "grant usage on schema likewise to clerk; grant create on schema public to clerk; grant select on likewise.watches to clerk"
    )
    shopkeeper.run("create table products (id int primary key, name text); grant all on products to clerk")
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="products belongs to shopkeeper"):
        clerk.watch("products", content="name")
    shopkeeper.watch("products", content="name")
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="must be owner"):
        clerk.run("select likewise.unwatch('products')")
    identity = database.one("select id from likewise.watch")
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match=r"only likewise.unwatch\(\)"):
        clerk.run("select likewise.forget_watch(%s, false)", identity)
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match=r"only likewise.watch\(\)"):
        clerk.run(
            "select likewise.register_watch('products'::regclass, 'products', 'id', 'x', null, null, 'mini', gen_random_uuid())"
        )
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="permission denied"):
        clerk.run("select * from likewise.read_watched(%s, array['1'], true)", identity)
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="for the worker"):
        clerk.run("select * from products_watched(gen_random_uuid(), 'products', array['1'], null, null)")
    # A superuser may watch anybody's table; the expressions have the rights of its owner all the same.
    database.run("select likewise.unwatch('products')")
    database.watch("products", content="name || current_user")
    shopkeeper.run("insert into products values (1, 'by ')")
    with working(database.url):
        database.settled()
    assert database.rows("select content from products_embeddings") == [("by shopkeeper",)]
    for connection in (clerk, shopkeeper):
        connection.connection.close()


def test_who_installed_without_being_a_superuser_watches_their_own(fresh_database_url: str) -> None:
    opened = Database(fresh_database_url)
    opened.run("create extension vector; create role tenant login password 'x'; create role lodger login password 'x'")
    name = opened.one("select current_database()")
    opened.run(f"grant create on database {name} to tenant; grant usage, create on schema public to tenant, lodger")
    tenant, lodger = as_role(opened, "tenant"), as_role(opened, "lodger")
    try:
        with likewise.connect(tenant.url) as store:
            store.install()  # type: ignore[attr-defined]
        tenant.run("create table products (id int primary key, name text); insert into products values (1, 'a thing')")
        tenant.watch("products", content="name")
        with working(tenant.url):
            opened.settled()
        assert_embedded(opened, "products_embeddings", {"1": "a thing"})
        tenant.run("grant usage on schema likewise to lodger; grant select on likewise.watches to lodger")
        lodger.run("create table things (id int primary key, name text)")
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="only tables of tenant can be watched"):
            lodger.watch("things", content="name")
        tenant.run("select likewise.unwatch('products')")
    finally:
        tenant.connection.close()
        lodger.connection.close()
        opened.run("drop owned by lodger cascade; drop owned by tenant cascade; drop role lodger; drop role tenant")
        opened.connection.close()
