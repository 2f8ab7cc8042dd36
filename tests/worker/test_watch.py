"""Watched tables: what is embedded, found and removed."""

from __future__ import annotations

import likewise
from likewise import CollectionSpec

from .watch_helpers import MODEL, Database, assert_embedded, working


def test_a_table_is_embedded_and_stays_so(database: Database) -> None:
    database.run("create table products (id bigint primary key, name text not null, description text, price int)")
    database.run("insert into products select i, 'thing ' || i, 'of sort ' || i % 7, i from generate_series(1, 1200) i")
    assert database.watch("products", content="name || '. ' || description") == "products"
    with working(database.url) as worker:
        database.settled()
        texts = {str(i): f"thing {i}. of sort {i % 7}" for i in range(1, 1201)}
        assert_embedded(database, "products_embeddings", texts)
        database.run("insert into products values (5000, 'a red dress', 'of silk', 1), (5001, 'nothing', null, 1)")
        database.run("update products set name = 'other ' || id where id <= 3")
        database.run("update products set id = 7000 where id = 4")
        database.run("delete from products where id between 10 and 20")
        database.settled()
        texts |= {"5000": "a red dress. of silk", "7000": "thing 4. of sort 4"}
        texts |= {str(i): f"other {i}. of sort {i % 7}" for i in (1, 2, 3)}
        texts = {i: t for i, t in texts.items() if i != "4" and not 10 <= int(i) <= 20}
        assert_embedded(database, "products_embeddings", texts)
        written = worker.written
        database.run("update products set price = price + 1")
        database.run("update products set name = name")
        assert database.one("select depth from likewise.pending") == 0, "what is not embedded does not matter"
        database.run("select likewise.resync('products')")
        database.settled()
        assert worker.written == written, "what has not changed is not written again"
        database.run("truncate products")
        database.settled()
        assert_embedded(database, "products_embeddings", {})
    with likewise.connect(database.url) as store:
        spec = store.collection("products_embeddings").spec
        again = store.ensure_collection(CollectionSpec("products_embeddings", embedder=MODEL))
        assert again.spec == spec
        (index,) = [i for i in again.indexes() if i.method == "hnsw"]
        assert "m='16', ef_construction='64'" in index.definition
