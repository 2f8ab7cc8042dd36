"""Many records at once: straight into an empty table or by a stage, whatever their shape, and nothing if anything fails."""

from __future__ import annotations

import enum
import itertools
import time
import tracemalloc
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pytest

import likewise
from likewise import (
    BackendTimeout,
    Collection,
    CollectionSpec,
    Hnsw,
    InvalidRecord,
    LoadProgress,
    Record,
    RecordExists,
    VectorField,
    VectorStore,
)
from likewise.backends.postgres import _statements, loading
from oracle.generate import Generator

from .helpers import EVERYTHING, contents, indexes_of, quiet, rows

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
