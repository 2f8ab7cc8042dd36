"""The column ``embedded``: what it holds, what it saves, and what other programs may do to the table without being misled by it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psycopg
import pytest
from PIL import Image
from psycopg import sql

import likewise
from likewise import Collection, CollectionSpec, Record, SchemaMismatch, VectorField, VectorStore
from likewise.backends.postgres import connection as connections
from likewise.embedding import register_embedder
from likewise.testing.clauses_embedding import Counting, png, registered

if TYPE_CHECKING:
    from numpy.typing import NDArray

SPEC = CollectionSpec("things", embedder="contract")


@pytest.fixture
def opened(fresh_database_url: str) -> Iterator[VectorStore]:
    registered()
    with likewise.connect(fresh_database_url) as store:
        yield store


def asked(store: VectorStore) -> tuple[list[str], int]:
    embedder = store.collection("things").embedder
    assert isinstance(embedder, Counting)
    return embedder.asked()


def run(store: VectorStore, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
    with store.transaction() as connection:
        cursor = connection.execute(statement, parameters)
        return list(cursor.fetchall()) if cursor.description else []


def vector(collection: Collection, record_id: str) -> list[float]:
    found = collection.get(record_id, include=("vector",)).vector
    assert found is not None
    return [float(number) for number in found]


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is said to the server, a line for each statement."""
    told: list[str] = []

    def spy(name: str) -> Callable[..., Any]:
        real = getattr(connections, name)

        def told_of(connection: Any, statement: Any) -> Any:
            text = statement.text
            told.append(text.decode() if isinstance(text, bytes) else text.as_string(None))
            return real(connection, statement)

        return told_of

    from likewise.backends.postgres import loading

    for name in ("rows", "run"):
        patched = spy(name)
        for module in (connections, loading):
            monkeypatch.setattr(module, name, patched)
    return told


def test_a_lookup_is_one_statement_a_batch_and_only_where_something_is_to_be_embedded(
    opened: VectorStore, said: list[str]
) -> None:
    things = opened.ensure_collection(SPEC)
    own = np.eye(16)

    def lookups(write: Callable[[], object]) -> int:
        said.clear()
        write()
        return sum("embedded IS NOT NULL" in text for text in said)

    texts = [Record(f"r{i}", content=f"text {i}") for i in range(1_100)]
    given = [Record(f"v{i}", own[i % 16]) for i in range(1_100)]
    assert lookups(lambda: things.upsert(texts[0])) == 1
    assert lookups(lambda: things.upsert([texts[0], given[0], texts[1]])) == 1
    assert len(said) == 2, "one that looks, one that writes"
    assert lookups(lambda: things.upsert(texts)) == 3
    assert lookups(lambda: things.load(texts)) == 3
    assert lookups(lambda: things.upsert(given)) == 0
    assert lookups(lambda: things.upsert(given[:3])) == 0
    assert lookups(lambda: things.upsert_columns(ids=["x"], vectors=own[:1])) == 0
    assert lookups(lambda: things.insert([Record("new", content="text")])) == 0
    assert lookups(lambda: things.load([Record("newer", content="text")], replace=False)) == 0
    plain = opened.ensure_collection(CollectionSpec("plain", dimension=16))
    assert lookups(lambda: plain.upsert([Record("a", own[0], content="text")])) == 0


def test_the_column_is_null_for_vectors_that_were_given(opened: VectorStore) -> None:
    things = opened.ensure_collection(SPEC)
    things.upsert(
        [Record("text", content="red"), Record("own", np.eye(16)[0], content="red"), Record("png", image=png("red"))]
    )
    found = dict(run(opened, "select id, embedded from things"))
    assert found["own"] is None
    assert len(found["text"]) == len(found["png"]) == 16
    assert found["text"] != found["png"]
    things.upsert([Record(f"many{i}", np.eye(16)[0], content="red") for i in range(700)])
    assert run(opened, "select count(*) from things where id like 'many%%' and embedded is null") == [(700,)]
    names = [
        row[0]
        for row in run(opened, "select attname from pg_attribute where attrelid = 'things'::regclass and attnum > 0")
    ]
    assert names == ["id", "vector", "metadata", "content", "modality", "content_id", "embedded"]


def test_what_is_changed_in_sql_misleads_nobody(opened: VectorStore) -> None:
    things = opened.ensure_collection(SPEC)
    records = [Record(i, content=f"text {i}") for i in ("content", "vector", "both", "digest", "moved")]
    things.upsert(records)
    right = {r.id: vector(things, r.id) for r in records}
    asked(opened)
    run(opened, "update things set content = 'by hand' where id in ('content', 'both')")
    run(
        opened,
        "update things set vector = (select vector from things where id = 'moved') where id in ('vector', 'both')",
    )
    run(opened, "update things set embedded = '\\x00' where id = 'digest'")
    things.upsert(records)
    assert asked(opened) == (["text both", "text digest", "text vector"], 0), (
        "only content was changed: its vector is still right"
    )
    assert {r.id: vector(things, r.id) for r in records} == right
    assert things.get("content").content == "text content"
    # A program that knows nothing of the column: an older version, or INSERT … ON CONFLICT by hand.
    run(
        opened,
        "insert into things (id, vector, content) select 'moved', vector, 'text vector' from things where id = 'vector'"
        " on conflict (id) do update set vector = excluded.vector, content = excluded.content",
    )
    things.upsert(records)
    assert asked(opened) == (["text moved"], 0)
    assert vector(things, "moved") == right["moved"]


def test_a_table_without_the_column_is_written_as_ever(opened: VectorStore) -> None:
    run(opened, "create extension if not exists vector")
    run(
        opened,
        "create table things (id text primary key, vector vector(16) not null, metadata jsonb not null default '{}', content text,"
        " modality text not null default 'text', content_id text, owner text default 'me')",
    )
    things = opened.ensure_collection(SPEC)
    many = [Record(f"r{i}", content=f"text {i}") for i in range(600)]
    for _ in range(2):
        assert things.upsert(many) == 600
        assert len(asked(opened)[0]) == 600
        assert things.upsert(many[:3]) == 3
        assert things.load(many[:3]).written == 3
        assert asked(opened) == (["text 0", "text 0", "text 1", "text 1", "text 2", "text 2"], 0)
    things = opened.ensure_collection(CollectionSpec("things", embedder="contract", mode="auto_migrate"))
    assert things.upsert(many) == 600
    assert len(asked(opened)[0]) == 600, "what was there before is not known to be the model's"
    assert things.upsert(many) == 600
    assert asked(opened) == ([], 0)
    assert run(opened, "select count(*), count(embedded), min(owner) from things") == [(600, 600, "me")]
    run(opened, "alter table things drop column embedded")
    again = opened.ensure_collection(SPEC)
    assert again.upsert(many[:2]) == 2
    assert len(asked(opened)[0]) == 2


def test_a_column_of_that_name_that_is_somebody_else_s_is_left_alone(opened: VectorStore) -> None:
    run(opened, "create extension if not exists vector")
    run(
        opened,
        "create table things (id text primary key, vector vector(16) not null, metadata jsonb not null default '{}', content text,"
        " modality text not null default 'text', content_id text, embedded boolean not null default false)",
    )
    for mode in ("strict", "auto_migrate"):
        things = opened.ensure_collection(CollectionSpec("things", embedder="contract", mode=mode))
        things.upsert([Record("a", content="text"), *(Record(f"r{i}", content=f"text {i}") for i in range(600))])
    assert run(opened, "select distinct embedded from things") == [(False,)]


def test_a_collection_that_an_older_version_made_remembers_no_model(opened: VectorStore) -> None:
    opened.ensure_collection(SPEC).upsert(Record("a", content="red"))
    run(opened, "update likewise.registry set spec = spec - 'model'")
    registered("2")
    assert opened.ensure_collection(SPEC).search("red")[0].id == "a"
    registered("2", 32)
    with pytest.raises(likewise.ModelNotAvailable, match="32 dimensions"):
        opened.collection("things").search("red")
    with pytest.raises(SchemaMismatch, match="dimension"):
        opened.ensure_collection(SPEC)


def test_what_is_remembered_of_a_model_is_kept_when_a_collection_grows(opened: VectorStore) -> None:
    opened.ensure_collection(SPEC)
    wider = CollectionSpec("things", embedder="contract", vectors={"more": VectorField(2)}, mode="auto_migrate")
    opened.ensure_collection(wider)
    ((stored,),) = run(opened, "select spec -> 'model' from likewise.registry")
    assert stored == {"name": "contract", "revision": "1", "dimension": 16, "query_prompt": ""}
    registered("2")
    with pytest.raises(SchemaMismatch, match="revision '2'"):
        opened.ensure_collection(wider)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_halves_are_compared_as_they_are_stored(opened: VectorStore, dtype: type[np.floating[Any]]) -> None:
    class Doubles(Counting):
        def embed_texts(self, texts: Sequence[str]) -> Any:
            return super().embed_texts(texts).astype(dtype) * dtype(1.0 / 3.0)

    model = Doubles()
    register_embedder("contract", lambda _: model)
    things = opened.ensure_collection(CollectionSpec("things", embedder="contract", storage="halfvec"))
    records = [Record(f"r{i}", content=f"text {i}") for i in range(700)]
    things.upsert(records)
    assert len(asked(opened)[0]) == 700
    things.upsert(records)
    things.upsert(records[:5])
    assert asked(opened) == ([], 0)


def test_on_a_lent_connection_what_its_transaction_wrote_is_known(opened: VectorStore, fresh_database_url: str) -> None:
    opened.ensure_collection(SPEC)
    records = [Record(f"r{i}", content=f"text {i}") for i in range(1_200)]
    with psycopg.connect(fresh_database_url) as connection:
        things = likewise.attach(connection).collection("things")
        things.upsert(iter(records))
        assert len(asked(opened)[0]) == 1_200
        things.upsert(iter(records))
        things.load(records)
        assert asked(opened) == ([], 0)
        connection.rollback()
    with opened.transaction() as connection:
        opened.collection("things").using(connection).upsert(records)
    assert len(asked(opened)[0]) == 1_200


def test_one_connection_is_enough(fresh_database_url: str) -> None:
    registered()
    with likewise.connect(fresh_database_url, max_connections=1) as store, likewise.deadline(60):
        things = store.ensure_collection(SPEC)
        for _ in range(2):
            things.upsert(Record(f"r{i}", content=f"text {i}") for i in range(1_200))
        assert len(asked(store)[0]) == 1_200


def test_a_record_changed_meanwhile_gets_the_vector_of_what_is_written(opened: VectorStore) -> None:
    """Somebody replaces the record after we have looked: what we write is still whole."""
    things = opened.ensure_collection(SPEC)
    things.upsert(Record("a", content="red"))
    right = vector(things, "a")
    other = opened.collection("things")

    def records() -> Iterator[Record]:
        yield Record("a", content="red")
        for i in range(600):
            if i == 550:
                other.upsert(Record("a", content="blue"))
            yield Record(f"r{i}", content="more")

    things.upsert(records())
    assert things.get("a").content == "red"
    assert vector(things, "a") == right


def test_pictures_are_told_by_their_bytes(opened: VectorStore, tmp_path: Path) -> None:
    things = opened.ensure_collection(SPEC)
    path = tmp_path / "picture.png"
    path.write_bytes(png("red"))
    things.upsert([Record("path", image=path), Record("text path", image=str(path)), Record("bytes", image=png("red"))])
    assert asked(opened) == ([], 1)
    shutil.copy(path, tmp_path / "copy.png")
    things.upsert([Record("path", image=tmp_path / "copy.png"), Record("bytes", image=bytearray(png("red")))])  # type: ignore[arg-type]
    assert asked(opened) == ([], 0)
    path.write_bytes(png("blue"))
    things.upsert(Record("path", image=path))
    assert asked(opened) == ([], 1)
    with Image.open(path) as image:
        things.upsert(Record("pillow", image=image))
        things.upsert(Record("pillow", image=image))
        assert asked(opened) == ([], 1)
        palette = image.convert("P")
        things.upsert(Record("pillow", image=palette))
        palette.putpalette([1, 2, 3] * 256)
        things.upsert(Record("pillow", image=palette))
        turned = image.copy()
        turned.getexif()[0x0112] = 6
        things.upsert(Record("pillow", image=turned))
        assert asked(opened) == ([], 3)


def test_a_file_that_is_changed_while_it_is_embedded_is_embedded_again(opened: VectorStore, tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(png("red"))

    class Meddler(Counting):
        def embed_images(self, images: Sequence[Any]) -> NDArray[np.float32]:
            if not self.images:
                path.write_bytes(png("blue"))
            return super().embed_images(images)

    model = Meddler()
    register_embedder("contract", lambda _: model)
    things = opened.ensure_collection(SPEC)
    things.upsert(Record("a", image=path))
    path.write_bytes(png("red"))
    things.upsert(Record("a", image=path))
    assert model.images == 2
    fresh = Counting()
    assert np.allclose(vector(things, "a"), fresh.embed_images([png("red")])[0])


def test_the_largest_row_still_has_room(opened: VectorStore) -> None:
    """Vectors in the row up to the last byte of it, and the column beside them."""
    model = Counting(dimension=1_748)
    register_embedder("contract", lambda _: model)
    things = opened.ensure_collection(SPEC)
    long = "\U0001f600" * 450
    things.upsert(Record(long, content="x" * 5_000, content_id=long, metadata={f"k{i}": "v" * 50 for i in range(60)}))
    things.upsert(Record(long, content="x" * 5_000, content_id=long))
    assert len(model.asked()[0]) == 1


def test_a_picture_for_a_model_of_texts_is_one_record_s_fault(opened: VectorStore) -> None:
    from likewise.embedding import HashingEmbedder
    from likewise.errors import UnsupportedFeature

    class Texts(HashingEmbedder):
        @property
        def card(self) -> likewise.ModelCard:
            return likewise.ModelCard("texts", 64, ("text",))

        def embed_images(self, images: Sequence[Any]) -> NDArray[np.float32]:
            raise UnsupportedFeature("embedding pictures", backend="texts")

    register_embedder("texts", lambda _: Texts())
    notes = opened.ensure_collection(CollectionSpec("notes", embedder="texts"))
    records = [Record("a", content="red"), Record("b", image=png("red")), Record("c", content="blue")]
    with pytest.raises(likewise.InvalidRecord, match=r"'b' \(number 1\).*pictures"):
        notes.upsert(records)
    report = notes.load(records, skip_invalid=True)
    assert [(r.position, r.id) for r in report.rejected] == [(1, "b")]
    assert report.written == 2


def test_a_model_that_gives_too_few_vectors_stores_nothing(opened: VectorStore) -> None:
    class Short(Counting):
        def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
            return super().embed_texts(texts)[:-1]

    register_embedder("contract", lambda _: Short())
    things = opened.ensure_collection(SPEC)
    with pytest.raises(likewise.ModelNotAvailable, match="a row for each"):
        things.upsert([Record("a", content="red"), Record("b", content="blue")])
    assert things.count() == 0


def test_row_level_security_shows_only_what_the_role_may_see(opened: VectorStore, fresh_database_url: str) -> None:
    things = opened.ensure_collection(SPEC)
    things.upsert(Record("theirs", content="red"))
    asked(opened)
    name = sql.Identifier("once_writer")
    with psycopg.connect(fresh_database_url, autocommit=True) as connection:
        connection.execute(sql.SQL("create role {} login password 'w'").format(name))
        connection.execute(sql.SQL("grant usage on schema likewise to {}").format(name))
        connection.execute(sql.SQL("grant select on likewise.registry to {}").format(name))
        connection.execute(sql.SQL("grant select, insert, update, delete on things to {}").format(name))
        connection.execute("alter table things enable row level security")
        connection.execute("create policy own on things using (id like 'mine%')")
        info = connection.info
        writer = f"host={info.host} port={info.port} dbname={info.dbname} user=once_writer password=w"
    try:
        with likewise.connect(writer) as store:
            mine = store.collection("things")
            for _ in range(2):
                mine.upsert([Record("mine", content="red")])
            assert asked(store) == (["red"], 0)
    finally:
        with psycopg.connect(fresh_database_url, autocommit=True) as connection:
            connection.execute(sql.SQL("drop owned by {}").format(name))
            connection.execute(sql.SQL("drop role {}").format(name))
