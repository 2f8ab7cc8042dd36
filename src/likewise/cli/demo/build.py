"""Fills a database with the demo: a collection and a table of products, in one transaction.

Embedding comes first, so that the transaction is short; if anything is interrupted, nothing at all is stored. A mark in the
comment on the table says from which data and model it was filled; a second run finds it and has nothing to do.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from likewise.abc.models import AbsentEmbedder
from likewise.abc.stores import Collection
from likewise.abc.validation import chunks
from likewise.abc.vector_stores import VectorStore
from likewise.cli.demo.catalog import Catalog
from likewise.errors import CollectionNotFound, InvalidArgument, SchemaMismatch, UnsupportedFeature
from likewise.records import Record
from likewise.schema import CollectionSpec, Gin, Hnsw

__all__ = ["COLLECTION", "TABLE", "Built", "build", "remove"]

COLLECTION = "demo"
TABLE = "products"
MODEL = "mini"
#: Changed when what is stored of the data changes.
_FORMAT = 1
_MARK = "Likewise demo"
_BATCH = 16

#: Opens a progress bar: ``with progress("embedding photographs", 280) as advance: advance(16)``.
Progress: TypeAlias = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]


@dataclass(frozen=True, slots=True)
class Built:
    """What there is now. ``seconds`` are by step; a step that had nothing to do is missing."""

    collection: Collection
    reused: bool
    photographs: int
    texts: int
    products: int
    seconds: dict[str, float]


def build(store: VectorStore, catalog: Catalog, progress: Progress) -> Built:
    """The demo's collection and table, filled if they are not.

    ``InvalidArgument`` if the database has a table ``products`` that is not the demo's, ``SchemaMismatch`` if it has another
    collection ``demo``.
    """
    if store.capabilities.backend != "postgres":
        raise UnsupportedFeature(
            "the demo", backend=store.capabilities.backend, hint="it joins with a table, so it needs PostgreSQL"
        )
    seconds: dict[str, float] = {}
    with store.transaction() as connection:
        mark = _read_mark(connection)
    collection = _ensure(store, mark)
    assert collection.embedder is not None
    wanted = f"{_MARK} {_FORMAT} {catalog.fingerprint} {MODEL} {collection.embedder.card.revision}"
    records = list(_records(catalog))
    reused = mark == wanted and collection.count() == len(records)
    if not reused:
        started = time.perf_counter()
        embedded = _embed(collection, records, progress)
        seconds["embed"] = time.perf_counter() - started
        started = time.perf_counter()
        _fill(store, collection, catalog, embedded, wanted)
        seconds["store"] = time.perf_counter() - started
    started = time.perf_counter()
    collection.ensure_indexes(vector=Hnsw(), metadata=Gin())
    seconds["index"] = time.perf_counter() - started
    return Built(collection, reused, len(catalog.photographs), len(catalog.texts), len(catalog.products), seconds)


def _ensure(store: VectorStore, mark: str | None) -> Collection:
    spec = CollectionSpec(COLLECTION, embedder=MODEL)
    try:
        return store.ensure_collection(spec)
    except SchemaMismatch:
        stored = store.collection(COLLECTION)
        if mark is None or stored.spec.embedder != MODEL or not isinstance(stored.embedder, AbsentEmbedder):
            raise
    # The demo's own, by another revision of its model: made anew, as after any other change of the demo.
    store.drop_collection(COLLECTION)
    return store.ensure_collection(spec)


def remove(store: VectorStore) -> None:
    """Drop the demo's collection and table, if they are there and the demo's."""
    with store.transaction() as connection:
        if _read_mark(connection) is not None:
            connection.execute("drop table public.products")
    try:
        specification = store.collection(COLLECTION).spec
    except CollectionNotFound:
        return
    if specification.embedder != MODEL:
        raise InvalidArgument(f"collection {COLLECTION!r} was not made by the demo; it is left as it is")
    store.drop_collection(COLLECTION, missing_ok=True)


def _read_mark(connection: Any) -> str | None:
    """What the comment on the table says; None if there is no table; ``InvalidArgument`` if it is somebody else's."""
    row = connection.execute(
        "select obj_description(c.oid, 'pg_class') from pg_catalog.pg_class c "
        "where c.relnamespace = to_regnamespace('public') and c.relname = 'products'"
    ).fetchone()
    if row is None:
        return None
    if not (row[0] or "").startswith(_MARK):
        raise InvalidArgument(
            "this database has a table public.products of its own, which the demo will not touch: use another database "
            "(without --database the demo has one to itself)"
        )
    return str(row[0])


def _records(catalog: Catalog) -> Iterator[Record]:
    products = {product.id: product for product in catalog.products}
    for photo in catalog.photographs:
        photo_id = str(photo["id"])
        product = products.get(photo_id)
        metadata: dict[str, Any] = {"category": photo["category"], "file": str(photo["image"])}
        if product is not None:
            metadata |= {
                "category": product.category,
                "name": product.name,
                "brand": product.brand,
                "price": float(product.price),
            }
        yield Record(
            photo_id,
            image=catalog.image(photo_id),
            content=photo["caption"],
            metadata=metadata,
            modality="image",
            content_id=photo_id,
        )
    for text in catalog.texts:
        yield Record(
            str(text["id"]),
            content=f"{text['title']}. {text['text']}",
            metadata={"category": text["category"], "title": text["title"]},
            modality="text",
            content_id=str(text["id"]),
        )


def _embed(collection: Collection, records: Sequence[Record], progress: Progress) -> list[Record]:
    """The records with their vectors, so that the pictures need not be opened inside the transaction."""
    embedder = collection.embedder
    assert embedder is not None
    result: list[Record] = []
    with progress("embedding photographs and texts", len(records)) as advance:
        for kind in ("image", "text"):
            for batch in chunks((r for r in records if r.modality == kind), _BATCH):
                if kind == "image":
                    vectors = embedder.embed_images([r.image for r in batch if r.image is not None])
                else:
                    vectors = embedder.embed_texts([r.content or "" for r in batch])
                result += [replace(r, vector=v, image=None) for r, v in zip(batch, vectors, strict=True)]
                advance(len(result))
    return result


def _fill(store: VectorStore, collection: Collection, catalog: Catalog, records: Sequence[Record], mark: str) -> None:
    """The rows of the business and their vectors: both are there afterwards, or neither."""
    with store.transaction() as connection:
        connection.execute("drop table if exists public.products")
        connection.execute(
            "create table public.products (id text primary key, name text not null, category text not null, brand text not null, "
            "price numeric(10, 2) not null check (price >= 0), stock int not null check (stock >= 0), "
            "in_stock boolean generated always as (stock > 0) stored)"
        )
        with connection.cursor() as cursor:
            cursor.executemany(
                "insert into public.products (id, name, category, brand, price, stock) values (%s, %s, %s, %s, %s, %s)",
                [(p.id, p.name, p.category, p.brand, p.price, p.stock) for p in catalog.products],
            )
        inside = collection.using(connection)
        inside.delete(where={})
        inside.upsert(records)
        _mark(connection, mark)


def _mark(connection: Any, mark: str) -> None:
    # COMMENT takes no parameters, so the server itself writes the statement.
    comment = connection.execute("select format('comment on table public.products is %%L', %s::text)", [mark])
    connection.execute(comment.fetchone()[0])
