"""Tables as people have them: partitions, foreign keys, other transactions, names that change, dumps."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import psycopg
import pytest

import likewise
from likewise.backends.postgres.embedded.binaries import find_binaries
from likewise.testing.database import empty_database

from .watch_helpers import Database, assert_embedded, working


def test_a_partitioned_table_that_is_written_through_the_parent(database: Database) -> None:
    database.run("create table sales (id int primary key, name text) partition by range (id)")
    database.run("create table sales_1 partition of sales for values from (0) to (100)")
    database.run("create table sales_2 partition of sales for values from (100) to (200)")
    database.run("insert into sales values (1, 'one'), (150, 'late')")
    database.watch("sales", content="name")
    with working(database.url):
        database.settled()
        database.run("insert into sales values (2, 'two'), (3, 'three')")
        database.run("update sales set id = 160 where id = 1")  # moves it to the other partition
        database.run("delete from sales where id = 2")
        database.settled()
        assert_embedded(database, "sales_embeddings", {"160": "one", "150": "late", "3": "three"})
        database.run("insert into sales_1 values (4, 'unseen')")
        database.settled()
        assert database.one("select count(*) from sales_embeddings") == 3, "triggers of the parent do not hear of it"
        database.run("select likewise.resync('sales')")
        database.settled()
        assert_embedded(database, "sales_embeddings", {"160": "one", "150": "late", "3": "three", "4": "unseen"})
        database.run("drop table sales_2; select likewise.resync('sales')")
        database.settled()
        assert_embedded(database, "sales_embeddings", {"3": "three", "4": "unseen"})


def test_cascades_of_foreign_keys(database: Database) -> None:
    database.run("create table brands (id text primary key)")
    database.run(
        "create table products (name text primary key, brand text references brands on update cascade on delete cascade)"
    )
    database.run("insert into brands values ('a'), ('b'); insert into products values ('x', 'a'), ('y', 'b')")
    database.watch("products", content="name || ' by ' || brand")
    with working(database.url):
        database.settled()
        database.run("update brands set id = 'c' where id = 'a'; delete from brands where id = 'b'")
        database.settled()
    assert_embedded(database, "products_embeddings", {"x": "x by c"})


def test_statements_that_do_several_things(database: Database) -> None:
    database.run("create table things (id int primary key, name text)")
    database.watch("things", content="name")
    database.run("insert into things values (1, 'one'), (2, 'two')")
    database.run(
        "insert into things values (2, 'second'), (3, 'three') on conflict (id) do update set name = excluded.name"
    )
    database.run("""
        merge into things using (values (1, 'first'), (4, 'four')) as new (id, name) on things.id = new.id
        when matched then update set name = new.name when not matched then insert values (new.id, new.name)
    """)
    database.run(
        "with gone as (delete from things where id = 3 returning name) insert into things select 5, name from gone"
    )
    with database.connection.cursor().copy("copy things from stdin") as copy:
        copy.write_row((6, "six"))
    with working(database.url):
        database.settled()
    texts = {"1": "first", "2": "second", "4": "four", "5": "three", "6": "six"}
    assert_embedded(database, "things_embeddings", texts)


def test_a_transaction_older_than_the_watch_is_seen(database: Database) -> None:
    database.run("create table things (id int primary key, name text); create table other ()")
    with psycopg.connect(database.url) as older:
        older.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        older.execute("select from other")
        database.watch("things", content="name")
        with working(database.url):
            database.settled()
            older.execute("insert into things values (1, 'late')")
            older.commit()
            database.settled()
    assert_embedded(database, "things_embeddings", {"1": "late"})


def test_writers_do_not_wait_for_each_other(database: Database) -> None:
    database.run("create table things (id int primary key, name text); insert into things values (1, 'a'), (2, 'b')")
    database.watch("things", content="name")
    with psycopg.connect(database.url) as one, psycopg.connect(database.url) as two:
        for connection, order in ((one, (1, 2)), (two, (2, 1))):
            connection.execute("set lock_timeout = '3s'")
            connection.execute("update things set name = name || '!' where id = %s", (order[0],))
        one.execute("insert into things values (3, 'c')")
        two.execute("insert into things values (4, 'd')")
        with working(database.url):
            two.commit()
            one.commit()
            database.settled()
    assert_embedded(database, "things_embeddings", {"1": "a!", "2": "b!", "3": "c", "4": "d"})


def test_a_table_may_be_renamed_and_moved_and_a_column_is_asked_for_again(database: Database) -> None:
    database.run("create table things (id int primary key, name text); insert into things values (1, 'one')")
    database.watch("things", content="things.name")
    with working(database.url) as worker:
        database.settled()
        database.run("create schema shop; alter table things rename to goods; alter table goods set schema shop")
        database.run("insert into shop.goods values (2, 'two')")
        database.settled()
        assert_embedded(database, "things_embeddings", {"1": "one", "2": "two"})
        database.run("alter table shop.goods set schema public; alter table goods rename column name to title")
        database.run("update goods set title = 'second' where id = 2")
        assert "column things.name does not exist" in database.error_of("things")
        database.run("insert into goods values (3, 'three')")
        written = worker.written
        database.watch("goods", content="title", name="things")
        database.settled()
        assert worker.written == written + 2, "what was embedded stays"
        database.run("alter table goods rename column id to number")
        database.run("insert into goods values (4, 'four')")
        assert "does not exist" in database.error_of("things")
        database.watch("goods", content="title", name="things")
        database.settled()
    texts = {"1": "one", "2": "second", "3": "three", "4": "four"}
    assert_embedded(database, "things_embeddings", texts)


def test_only_columns_that_are_used_count(database: Database) -> None:
    database.run('create table things (id int primary key, name text, "in stock" int, price int, notes json)')
    database.run("insert into things values (1, 'one', 1, 1, '{}')")

    def queued(statement: str) -> int:
        database.run("delete from likewise.queue")
        database.run(statement)
        return int(database.one("select count(*) from likewise.queue"))

    database.watch("things", content="name || notes::text", filter='"in stock" > 0')
    assert queued("update things set price = 2") == 0
    assert queued("update things set name = name, notes = '{}'") == 0
    assert queued("update things set notes = '{\"a\": 1}'") == 1
    assert queued('update things set "in stock" = 0') == 1
    assert queued("update things set id = 2") == 2
    assert queued("delete from things where false") == 0
    database.watch("things", content="to_jsonb(things) ->> 'name'")
    assert queued("update things set price = 3") == 1
    assert queued("update things set price = 3") == 0


def test_rows_that_pass_the_filter_no_more(database: Database) -> None:
    database.run("create table things (id int primary key, name text, shown boolean)")
    database.run("insert into things values (1, 'one', true), (2, 'two', false), (3, 'three', null), (4, null, true)")
    database.watch("things", content="name", filter="shown -- those on sale")
    with working(database.url):
        database.settled()
        assert_embedded(database, "things_embeddings", {"1": "one"})
        database.run("update things set shown = not shown")
        database.settled()
    assert_embedded(database, "things_embeddings", {"2": "two"})


def test_orphans_and_lost_vectors_are_mended_by_resync(database: Database) -> None:
    database.run("create table things (id int primary key, name text)")
    database.run("insert into things select i, 'thing ' || i from generate_series(1, 20) i")
    database.watch("things", content="name")
    with working(database.url):
        database.settled()
        database.run("alter table things disable trigger user")
        database.run("delete from things where id < 5; insert into things values (50, 'unseen')")
        database.run("delete from things_embeddings where id = '10'")
        database.run("select likewise.resync('things')")
        database.settled()
        texts = {str(i): f"thing {i}" for i in range(5, 21)} | {"50": "unseen"}
        assert_embedded(database, "things_embeddings", texts)
        with likewise.connect(database.url) as store:
            store.drop_collection("things_embeddings")
        database.run("select likewise.resync('things')")
        database.settled()
    assert_embedded(database, "things_embeddings", texts)


def test_two_watches_of_one_table(database: Database) -> None:
    database.run("create table things (id int primary key, name text, description text)")
    database.watch("things", content="name", name="names")
    database.watch("things", content="description", name="descriptions", model="hashing:16")
    with working(database.url):
        database.run("insert into things values (1, 'one', 'the first')")
        database.settled()
        database.run("select likewise.unwatch('descriptions')")
        database.run("update things set name = 'other'")
        database.settled()
    assert_embedded(database, "names_embeddings", {"1": "other"})
    assert database.one("select to_regclass('descriptions_embeddings') is null")


def test_a_dump_is_restored_with_its_watches(database: Database, postgres_server: str, tmp_path: Path) -> None:
    database.run("create schema shop; grant usage on schema shop to likewise_nobody")
    database.run(
        "create table shop.things (id int primary key, gone int, name text); alter table shop.things drop column gone"
    )
    database.run("insert into shop.things select i, 'thing ' || i from generate_series(1, 50) i")
    database.watch("shop.things", content="name")
    with working(database.url):
        database.settled()
    database.run("insert into shop.things values (60, 'queued')")
    binaries = find_binaries()
    dump = tmp_path / "dump"

    def call(*arguments: str) -> None:
        environment = {**os.environ, "LD_LIBRARY_PATH": os.environ.get("LD_LIBRARY_PATH", "")}
        done = subprocess.run(arguments, capture_output=True, text=True, check=False, env=environment)
        assert (done.returncode, done.stderr) == (0, "")

    call(str(binaries.program("pg_dump")), "--format=custom", f"--file={dump}", database.url)
    with empty_database(postgres_server) as url:
        call(str(binaries.program("pg_restore")), f"--dbname={url}", str(dump))
        restored = Database(url)
        with working(url) as worker:
            restored.run("insert into shop.things values (70, 'new')")
            restored.run("update shop.things set name = 'changed' where id = 1; delete from shop.things where id = 2")
            restored.settled()
            assert worker.written == 3, "what was embedded is not embedded again"
        texts = {str(i): f"thing {i}" for i in range(3, 51)} | {"1": "changed", "60": "queued", "70": "new"}
        assert_embedded(restored, "shop.things_embeddings", texts)
        restored.run("select likewise.unwatch('things')")
        restored.connection.close()


@pytest.mark.parametrize("schema", ["shop", "Shop"])
def test_a_schema_that_the_worker_may_not_look_into(database: Database, schema: str) -> None:
    database.run(f'create schema "{schema}"; create table "{schema}".things (id int primary key, name text)')
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="may not look into") as caught:
        database.watch(f'"{schema}".things', content="name")
    database.run(str(caught.value.diag.message_hint))
    database.watch(f'"{schema}".things', content="name")
    with working(database.url):
        database.run(f"insert into \"{schema}\".things values (1, 'one')")
        database.settled()
    assert_embedded(database, f'"{schema}".things_embeddings', {"1": "one"})
