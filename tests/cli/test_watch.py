"""``likewise watch`` and ``likewise unwatch``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest

import likewise as library
from likewise.cli.exits import Exit

if TYPE_CHECKING:
    from cli.conftest import Likewise


@pytest.fixture
def url(fresh_database_url: str) -> str:
    with psycopg.connect(fresh_database_url, autocommit=True) as connection:
        connection.execute("create table products (id int primary key, name text, stock int)")
        connection.execute("insert into products select i, 'thing ' || i, i % 2 from generate_series(1, 40) i")
    return fresh_database_url


def test_a_table_is_watched_and_embedded_here(likewise: Likewise, url: str) -> None:
    made = likewise(
        "watch", "products", "--content", "name", "--filter", "stock > 0", "--model", "hashing:32", "--work", "--json"
    )
    assert made.code == Exit.OK
    wanted = {
        "name": "products",
        "state": "ready",
        "depth": 0,
        "failed": 0,
        "model": "hashing:32",
        "collection": "products_embeddings",
    }
    assert {key: made.json[key] for key in wanted} == wanted
    with library.connect(url) as store:
        assert store.collection("products_embeddings").count() == 20
    listed = likewise("watch")
    assert listed.out.splitlines()[0].split()[:4] == ["name", "source", "model", "state"]
    assert "products" in listed.out
    ended = likewise("unwatch", "products")
    assert (ended.code, ended.out) == (Exit.OK, "products is not watched any more\n")
    assert likewise("watch", "--json").json == {"watches": []}


def test_rows_that_cannot_be_embedded_are_told_of(likewise: Likewise, url: str) -> None:
    made = likewise("watch", "products", "--content", "name || 1 / stock", "--model", "hashing:32")
    assert made.code == Exit.OK
    assert "likewise worker" in made.err
    assert "products is watched as products: new" in made.out
    with psycopg.connect(url, autocommit=True) as connection:
        # As after the last of several tries, which take a while.
        connection.execute("delete from products where stock = 0 and id > 2")
        connection.execute(
            "insert into likewise.failure (watch, key, attempts, error) values (1, '77', 8, 'no picture')"
        )
    made = likewise("watch", "products", "--content", "name", "--model", "hashing:32", "--work")
    assert made.code == Exit.FAILURE
    assert "1 rows failed" in made.out
    assert "watch_errors" in made.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["watch", "nothing", "--content", "name"], 'relation "nothing" does not exist'),
        (["watch", "products", "--content", "nme"], 'column "nme" does not exist'),
        (["watch", "products"], "nothing to embed"),
        (["watch", "--content", "name"], "--content is given, but no table"),
        (["unwatch", "nothing"], "there is no watch 'nothing'"),
    ],
)
def test_what_is_refused(likewise: Likewise, url: str, arguments: list[str], said: str) -> None:
    done = likewise(*arguments, "--json")
    assert done.code == Exit.INVALID
    assert said in done.error["message"]


@pytest.mark.parametrize("command", [["watch", "products"], ["unwatch", "products"]])
def test_only_postgresql_watches(run: Likewise, command: list[str]) -> None:
    done = run(*command, "--database", "memory://", "--json")
    assert done.code == Exit.INVALID
    assert done.error["type"] == "UnsupportedFeature"
