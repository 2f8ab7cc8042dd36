"""Many records at once: straight into an empty table or by a stage, with indexes, rights, locks and errors as they come."""

from __future__ import annotations

import enum
import itertools
import threading
import time
import tracemalloc
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import psycopg
import pytest
from psycopg import sql
from psycopg_pool import ConnectionPool

import likewise
from likewise import (
    BackendTimeout,
    Collection,
    CollectionSpec,
    Gin,
    Hnsw,
    InvalidArgument,
    InvalidRecord,
    IvfFlat,
    LoadProgress,
    Record,
    RecordExists,
    VectorField,
    VectorStore,
)
from likewise.backends.postgres import _statements, loading
from likewise.backends.postgres.loading import Load
from likewise.records import Include
from oracle.generate import Generator

SPEC = CollectionSpec("things", dimension=3)
EVERYTHING: Include = ("vector", "metadata", "content")


@pytest.fixture
def store(fresh_database_url: str) -> Iterator[VectorStore]:
    with likewise.connect(fresh_database_url) as store:
        yield store


@pytest.fixture
def things(store: VectorStore) -> Collection:
    return quiet(store, SPEC)


def quiet(store: VectorStore, spec: CollectionSpec) -> Collection:
    """A collection that the server's own cleaner leaves alone: it too may be at the table when a load wants it."""
    collection = store.ensure_collection(spec)
    with store.transaction() as connection:
        connection.execute(sql.SQL("ALTER TABLE {} SET (autovacuum_enabled = off)").format(sql.Identifier(spec.name)))
    return collection


@pytest.fixture
def ways(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ways that loads took: straight into the table, or by a stage; and what they did with indexes."""
    taken: list[str] = []
    for name in ("_into_table", "_by_stage", "_build"):
        original = getattr(Load, name)

        def spied(self: Load, *args: Any, name: str = name, original: Any = original) -> Any:
            if name != "_build" or args[1]:
                taken.append(name.removeprefix("_"))
            return original(self, *args)

        monkeypatch.setattr(Load, name, spied)
    return taken


def rows(count: int, *, start: int = 0, version: int = 0) -> list[Record]:
    return [
        Record(f"r{i:06}", [1, version, i + 1], {"n": i, "version": version}, f"text {i}")
        for i in range(start, start + count)
    ]


def contents(collection: Collection) -> list[Record]:
    found: list[Record] = []
    cursor: str | None = None
    while True:
        page = collection.scan(cursor=cursor, limit=10_000, include=EVERYTHING)
        found += page
        cursor = page.cursor
        if cursor is None:
            return found


def indexes_of(store: VectorStore, table: str = "things") -> dict[str, tuple[int, str, bool]]:
    with store.transaction() as connection:
        found = connection.execute(
            "select c.relname, c.oid::bigint, pg_get_indexdef(c.oid), i.indisvalid from pg_index i join pg_class c on c.oid = i.indexrelid"
            " where i.indrelid = %s::regclass",
            (table,),
        ).fetchall()
    return {name: (oid, definition, valid) for name, oid, definition, valid in found}


def as_role(url: str, role: str) -> str:
    return url + ("&" if "?" in url else "?") + f"options=-crole%3D{role}"


@pytest.fixture
def role(store: VectorStore) -> Iterator[str]:
    """A role that may read what Likewise knows, and nothing else yet."""
    name = f"loader_{time.time_ns()}"
    with store.transaction() as connection:
        connection.execute(f"create role {name}")
        connection.execute(f"grant usage on schema likewise, public to {name}")
    store.ensure_collection(SPEC)
    with store.transaction() as connection:
        connection.execute(f"grant select on all tables in schema likewise to {name}")
    yield name
    with store.transaction() as connection:
        connection.execute(f"drop owned by {name}")
        connection.execute(f"drop role {name}")


# Straight into an empty table.


@pytest.mark.parametrize("replace", [True, False])
def test_an_empty_table_is_loaded_straight(things: Collection, ways: list[str], replace: bool) -> None:
    given = rows(1_500)
    write = things.upsert if replace else things.insert
    assert write(iter(given)) == 1_500
    assert ways == ["into_table"]
    assert contents(things) == given
    assert things.upsert(given) == 1_500
    assert ways == ["into_table", "by_stage"]
    assert contents(things) == given


@pytest.mark.parametrize("repeated", [3, 2_600])
def test_of_an_id_that_is_given_several_times_the_last_stays(
    things: Collection, ways: list[str], monkeypatch: pytest.MonkeyPatch, repeated: int
) -> None:
    monkeypatch.setattr(loading, "_MOST_WAITING", 1_000)
    first, second, third = rows(4_000), rows(repeated, version=1), rows(repeated, start=1, version=2)
    given = [*first, *second, *third, *rows(10, start=5_000)]
    assert things.upsert(given) == 4_010
    assert ways == ["into_table"]
    wanted = {r.id: r for r in given}
    assert contents(things) == sorted(wanted.values(), key=lambda r: r.id)


class Word(str, enum.Enum):  # noqa: UP042 - it is the older kind that has a hash of its own
    A = "r000001"


def test_texts_of_an_enumeration_are_repeats_too(things: Collection) -> None:
    given = [Record(Word.A, [1, 0, 0]), *rows(600), Record(Word.A, [0, 1, 0])]
    assert things.upsert(given) == 600
    assert things.upsert([*rows(3), Record(Word.A, [0, 1, 0])]) == 3
    assert np.asarray(things.get("r000001", include=EVERYTHING).vector).tolist() == [0, 1, 0]


@pytest.mark.parametrize("repeated", [3, 1_500])
def test_an_insert_with_repeats_names_them_and_stores_nothing(
    things: Collection, monkeypatch: pytest.MonkeyPatch, repeated: int
) -> None:
    monkeypatch.setattr(loading, "_MOST_WAITING", 1_000)
    with pytest.raises(RecordExists) as caught:
        things.insert([*rows(2_000), *rows(repeated, version=1)])
    assert set(caught.value.record_ids) <= {r.id for r in rows(repeated)}
    assert len(caught.value.record_ids) >= min(repeated, 100)
    assert things.count() == 0


def test_a_hash_that_two_ids_share_loses_neither(things: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("likewise.backends.postgres._copy.hash", lambda i: len(i) % 2, raising=False)
    for write in (things.upsert, things.insert):
        assert write(rows(1_000)) == 1_000
        assert contents(things) == rows(1_000)
        things.delete(where={})


# Indexes.


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize(
    "index",
    [Hnsw(m=8, ef_construction=32), IvfFlat(lists=5), Hnsw(quantization="half"), Hnsw(quantization="binary")],
    ids=str,
)
def test_indexes_of_an_empty_table_are_there_afterwards(
    store: VectorStore, ways: list[str], index: Hnsw | IvfFlat, lazy: bool
) -> None:
    things = quiet(store, CollectionSpec("things", dimension=16))
    things.ensure_indexes(vector=index)
    things.ensure_indexes(metadata=Gin())
    before = indexes_of(store)
    vectors = np.random.default_rng(0).normal(size=(2_000, 16)).astype(np.float32)
    given = [Record(f"r{i:05}", v, {"n": i}) for i, v in enumerate(vectors)]
    assert things.upsert(iter(given) if lazy else given) == 2_000
    assert ways == (["by_stage", "build"] if lazy else ["into_table", "build"])
    after = indexes_of(store)
    assert {n: (d, v) for n, (_, d, v) in after.items()} == {n: (d, v) for n, (_, d, v) in before.items()}
    built = next(i for i in things.indexes() if i.method in ("hnsw", "ivfflat"))
    assert after[built.name][0] != before[built.name][0], "it was built anew"
    with store.transaction() as connection:
        connection.execute("set local enable_seqscan = off")
        column = {"half": "vector::halfvec(16)", "binary": "binary_quantize(vector)::bit(16)"}.get(
            built.quantization, "vector"
        )
        query, operator = "'[" + ",".join(["1"] * 16) + "]'", "<=>"
        if built.quantization == "binary":
            query, operator = f"B'{'1' * 16}'", "<~>"
        elif built.quantization == "half":
            query += "::halfvec"
        plan = connection.execute(
            f"explain select id from things order by ({column}) {operator} {query} limit 5"
        ).fetchall()
    assert built.name in str(plan)
    assert things.recall(k=5, sample=20, ef_search=200) > 0.5
    assert contents(things) == given


@pytest.mark.parametrize(("known", "new", "rebuilt"), [(600, 1_500, True), (3_000, 600, False)])
def test_an_index_over_rows_is_built_anew_only_if_that_pays(
    store: VectorStore, things: Collection, ways: list[str], known: int, new: int, rebuilt: bool
) -> None:
    things.ensure_indexes(vector=Hnsw())
    # Small calls only, so that the server has no idea of how many rows there are.
    for low in range(0, known, 300):
        things.upsert(rows(300, start=low))
    before = indexes_of(store)
    given = rows(new, start=known - 100, version=1)
    assert things.upsert(given) == new
    after = indexes_of(store)
    assert (after != before) is rebuilt
    assert [d for _, d, _ in after.values()] == [d for _, d, _ in before.values()]
    assert contents(things) == [*rows(known - 100), *given]
    assert ways == ["by_stage", *(["build"] if rebuilt else [])]


def test_an_index_that_somebody_changed_meanwhile_stays_as_it_is_now(store: VectorStore, things: Collection) -> None:
    things.ensure_indexes(vector=Hnsw())
    with store.transaction() as connection:
        connection.execute("drop index idx_things_vector_hnsw")
    assert things.upsert(rows(700)) == 700
    assert "idx_things_vector_hnsw" not in indexes_of(store)
    things.delete(where={})
    with store.transaction() as connection:
        connection.execute("create index idx_things_vector_hnsw on things using hnsw (vector vector_l2_ops)")
    assert things.upsert(rows(700)) == 700
    assert "vector_l2_ops" in indexes_of(store)["idx_things_vector_hnsw"][1]


def test_an_index_with_a_comment_is_not_dropped(store: VectorStore, things: Collection) -> None:
    things.ensure_indexes(vector=Hnsw())
    with store.transaction() as connection:
        connection.execute("comment on index idx_things_vector_hnsw is 'mine'")
    before = indexes_of(store)
    assert things.upsert(rows(700)) == 700
    assert indexes_of(store) == before


def test_an_iterable_may_read_the_collection_it_is_written_to(things: Collection) -> None:
    things.ensure_indexes()

    def given() -> Iterator[Record]:
        for i, record in enumerate(rows(1_400)):
            if i % 100 == 0:
                assert things.count() == 0
                assert things.get_many([record.id]) == []
            yield record

    with likewise.deadline(60):
        assert things.upsert(given()) == 1_400


def test_an_iterable_that_writes_to_the_collection_it_is_written_to_is_refused(things: Collection) -> None:
    def given(write: Any) -> Iterator[Record]:
        for i, record in enumerate(rows(1_400)):
            if i == 1_000:
                write()
            yield record

    with likewise.deadline(60):
        for write in (lambda: things.upsert(rows(1)), lambda: things.delete("r"), lambda: things.upsert(rows(600))):
            with pytest.raises(InvalidArgument, match="writes to it as well"):
                things.upsert(given(write))
        assert things.count() == 0
        assert things.upsert(rows(1)) == 1
        # A table that is not empty is not had alone.
        assert things.upsert(given(lambda: things.upsert(Record("other", [1, 0, 0])))) == 1_400
        assert things.count() == 1_401


# Locks, rights, lenders.


def test_a_table_in_use_is_loaded_by_a_stage(store: VectorStore, things: Collection, ways: list[str]) -> None:
    things.ensure_indexes()
    with store.transaction() as other:
        things.using(other).upsert(Record("theirs", [1, 0, 0]))
        assert things.upsert(rows(800)) == 800
        assert ways == ["by_stage"]
        assert things.count() == 800
    assert things.count() == 801
    things.delete(where={})
    with store.transaction() as reader:
        reader.execute("select count(*) from things").fetchone()
        assert things.upsert(rows(800)) == 800
    assert ways == ["by_stage", "by_stage"], "a reader must not be kept off an index that is dropped"


def test_row_level_security_is_obeyed(
    store: VectorStore, things: Collection, ways: list[str], fresh_database_url: str, role: str
) -> None:
    with store.transaction() as connection:
        connection.execute(f"grant select, insert, update on things to {role}")
        connection.execute("alter table things enable row level security")
        connection.execute(
            f"create policy mine on things to {role} using (true) with check (metadata ->> 'n' <> '777')"
        )
    with likewise.connect(as_role(fresh_database_url, role)) as theirs:
        collection = theirs.collection("things")
        assert collection.upsert(rows(700)) == 700
        with pytest.raises(likewise.BackendError, match="row-level security"):
            collection.upsert(rows(800))
    assert ways == ["by_stage", "by_stage"]
    assert contents(things) == rows(700)


@pytest.mark.parametrize("rights", ["select, insert", "select, insert, update, delete, truncate"])
def test_a_role_that_does_not_own_the_table_may_load_it(
    store: VectorStore, things: Collection, ways: list[str], fresh_database_url: str, role: str, rights: str
) -> None:
    things.ensure_indexes()
    before = indexes_of(store)
    with store.transaction() as connection:
        connection.execute(f"grant {rights} on things to {role}")
    with likewise.connect(as_role(fresh_database_url, role)) as theirs:
        collection = theirs.collection("things")
        assert collection.insert(rows(700)) == 700
        assert collection.insert(rows(700, start=700)) == 700
    assert contents(things) == rows(1_400)
    assert indexes_of(store) == before
    assert "build" not in ways


def test_a_lent_connection_is_loaded_by_a_stage(
    store: VectorStore, things: Collection, ways: list[str], fresh_database_url: str
) -> None:
    with psycopg.connect(fresh_database_url) as connection:
        assert things.using(connection).upsert(rows(700)) == 700
        assert things.count() == 0
        connection.rollback()
        assert things.count() == 0
        with pytest.raises(InvalidRecord):
            things.using(connection).upsert([*rows(700), Record("bad", [1, 0, float("nan")])])
        with pytest.raises(RecordExists):
            things.using(connection).insert([*rows(700), *rows(1)])
        assert things.using(connection).insert(rows(700)) == 700
        connection.commit()
    assert contents(things) == rows(700)
    with store.transaction() as connection:
        assert things.using(connection).upsert(rows(700, version=1)) == 700
        assert things.using(connection).upsert(rows(700, start=700)) == 700
    with ConnectionPool(fresh_database_url, min_size=1, max_size=1) as pool:
        assert likewise.attach(pool).collection("things").upsert(rows(700, start=1_400)) == 700
    assert contents(things) == [*rows(700, version=1), *rows(1_400, start=700)]
    assert set(ways) == {"by_stage"}


@pytest.mark.parametrize("indexed", [False, True])
def test_several_connections_may_load_at_once(things: Collection, indexed: bool) -> None:
    if indexed:
        things.ensure_indexes()
    barrier, failures = threading.Barrier(4), list[BaseException]()

    def work(number: int) -> None:
        try:
            barrier.wait()
            for turn in range(2):
                given = rows(1_200, start=300 * number, version=number)
                things.upsert(given if turn else reversed(given))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert [r.id for r in contents(things)] == [f"r{i:06}" for i in range(2_100)]
    if indexed:
        assert all(index.valid for index in things.indexes())


# Errors in the middle.


def failing(records: Iterable[Record], at: int, what: Any) -> Iterator[Record]:
    for i, record in enumerate(records):
        if i == at:
            what()
        yield record


@pytest.mark.parametrize("known", [0, 5])
@pytest.mark.parametrize("indexed", [False, True])
def test_what_fails_in_the_middle_leaves_nothing(
    store: VectorStore, things: Collection, known: int, indexed: bool
) -> None:
    if indexed:
        things.ensure_indexes()
    things.upsert(rows(known, version=9))
    before = indexes_of(store)
    given: list[Any] = rows(3_000)

    def fails() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        things.upsert(failing(given, 2_500, fails))
    with pytest.raises(BackendTimeout), likewise.deadline(0.4):
        things.upsert(failing(given, 2_500, lambda: time.sleep(0.5)))
    given[2_501] = Record("bad", [1, 0, float("inf")])
    for source in (given, iter(given)):
        with pytest.raises(InvalidRecord, match="number 2501") as caught:
            things.upsert(source)
        assert (caught.value.position, caught.value.record_id) == (2_501, "bad")

    def interrupted(_: LoadProgress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        things.upsert(rows(3_000), progress=interrupted)
    assert contents(things) == rows(known, version=9)
    assert indexes_of(store) == before
    assert things.upsert(rows(3_000)) == 3_000


# What the server does.


def test_staged_rows_are_fetched_by_their_address(store: VectorStore, things: Collection) -> None:
    table = things._known  # type: ignore[attr-defined]
    for replace in (True, False):
        with store.transaction() as connection:
            for statement in _statements.stage_table(table, "stage"):
                connection.execute(statement.text)
            connection.execute(
                "insert into pg_temp.stage (id, vector, metadata) select 'r' || n, '[1,2,3]', '{}' from generate_series(1, 5000) as n"
            )
            move = _statements.move_staged(table, "stage", replace=replace).text
            assert not isinstance(move, bytes)
            plan = "\n".join(row[0] for row in connection.execute(b"explain " + move.as_bytes(None)).fetchall())
            assert "Tid Scan on stage" in plan
            assert ("Unique" in plan) is replace


def phases(told: list[LoadProgress]) -> list[str]:
    return [phase for phase, _ in itertools.groupby(p.phase for p in told)]


def test_progress_tells_the_phases(things: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "_PROGRESS_SECONDS", 0)
    told: list[LoadProgress] = []
    things.upsert(rows(1_000), progress=told.append)
    assert phases(told) == ["rows", "done"]
    assert told[-1].rows == 1_000
    assert len(told) > 5
    told.clear()
    things.upsert(rows(1_000), progress=told.append)
    assert phases(told) == ["rows", "move", "done"]
    things.ensure_indexes(vector=Hnsw())
    told.clear()
    things.upsert(rows(1_000), progress=told.append)
    assert phases(told) == ["rows", "move", "index", "done"]
    things.delete(where={})
    told.clear()
    things.upsert([*rows(1_000), *rows(2)], progress=told.append)
    assert phases(told) == ["rows", "move", "index", "done"]
    assert told[-1].rows == 1_002


@pytest.mark.parametrize("deferred", [False, True])
@pytest.mark.parametrize("indexed", [False, True])
def test_triggers_and_foreign_keys_hold(store: VectorStore, deferred: bool, indexed: bool) -> None:
    things = store.ensure_collection(CollectionSpec("things", dimension=3, multimodal=True))
    if indexed:
        things.ensure_indexes()
    with store.transaction() as connection:
        connection.execute("create table products (id text primary key)")
        connection.execute("insert into products select 'p' || n from generate_series(0, 9) as n")
        connection.execute(
            "alter table things add foreign key (content_id) references products"
            + (" deferrable initially deferred" if deferred else "")
        )
        connection.execute("create table seen (id text)")
        connection.execute(
            "create function see() returns trigger language plpgsql as 'begin insert into seen values (new.id); return new; end'"
        )
        connection.execute("create trigger see after insert on things for each row execute function see()")

    def given(count: int, start: int = 0) -> list[Record]:
        return [Record(f"r{i}", [1, 0, i], content_id=f"p{i % 10}") for i in range(start, start + count)]

    assert things.upsert(given(900)) == 900
    assert things.upsert(given(900, 900)) == 900
    things_bad = [*given(900, 5_000), Record("bad", [1, 0, 0], content_id="nothing")]
    with pytest.raises(likewise.BackendError, match="foreign key"):
        things.upsert(things_bad)
    things.delete(where={})
    with pytest.raises(likewise.BackendError, match="foreign key"):
        things.upsert(things_bad)
    assert things.count() == 0
    with store.transaction() as connection:
        assert connection.execute("select count(*) from seen").fetchone() == (1_800,)


def test_large_contents(things: Collection) -> None:
    given = [Record(f"r{i:03}", [1, 0, i], {"m": "é" * 500_000}, "日" * 350_000) for i in range(12)]
    assert things.upsert(iter(given)) == 12
    assert contents(things) == given
    assert things.upsert(given) == 12
    assert contents(things) == given


@pytest.mark.parametrize(
    "spec",
    [
        CollectionSpec("c", dimension=3, multimodal=True),
        CollectionSpec("c", vectors={"a": VectorField(3), "b": VectorField(2, "l2", "halfvec")}),
        CollectionSpec("c", dimension=3, vectors={"b": VectorField(2)}, storage="halfvec"),
        CollectionSpec("c", dimension=3_072),
    ],
    ids=["multimodal", "named", "both", "halfvec of 3,072"],
)
def test_every_shape_of_record_is_copied(store: VectorStore, ways: list[str], spec: CollectionSpec) -> None:
    generator = Generator(1, multimodal=bool(spec.multimodal))

    def drawn(count: int) -> Iterator[Record]:
        for i in range(count):
            record = generator.record(f"r{i:04}", 3)
            own = generator.vector(spec.dimension) if spec.dimension else None
            named = {
                n: generator.vector(f.dimension) for n, f in spec.vectors.items() if generator.random.random() < 0.7
            }
            if own is None and not named:
                named["a"] = generator.vector(3)
            yield Record(
                record.id,
                own,
                record.metadata,
                record.content,
                vectors=named,
                modality=record.modality,
                content_id=record.content_id,
            )

    given = list(drawn(700))
    with likewise.connect("memory://") as memory:
        oracle, tested = memory.ensure_collection(spec), quiet(store, spec)
        for batch in (given, list(drawn(600))):
            assert tested.upsert(batch) == oracle.upsert(batch)
            assert contents(tested) == contents(oracle)
    assert ways == ["into_table", "by_stage"]


def peak(collection: Collection, count: int) -> float:
    """The most memory that a load of so many records took, in megabytes."""
    vector = np.ones(64, np.float32)
    tracemalloc.start()
    try:
        collection.upsert(Record(f"r{i}", vector, {"n": i}, f"the content of record {i}") for i in range(count))
        return tracemalloc.get_traced_memory()[1] / 1e6
    finally:
        tracemalloc.stop()


@pytest.mark.slow
@pytest.mark.parametrize("empty", [True, False])
def test_memory_does_not_grow_with_the_number_of_records(store: VectorStore, empty: bool) -> None:
    collection = store.ensure_collection(CollectionSpec("c", dimension=64))
    if not empty:
        collection.upsert(Record("known", [1] * 64))
    peak(collection, 1_000)
    collection.delete(where={}) if empty else None
    few = peak(collection, 5_000)
    collection.delete(where={}) if empty else None
    many = peak(collection, 40_000)
    # Which ids came before is remembered in at most some hundred bytes an id until these are packed, 65,536 at a time.
    assert many - few < (8 if empty else 2), f"{few:.1f} MB for 5,000 records, {many:.1f} MB for 40,000"
