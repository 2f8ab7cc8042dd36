"""Tables of pyarrow, pandas and polars as records: roles of columns, missing values, vectors, errors, and no import of any of them."""

from __future__ import annotations

import datetime
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import likewise
from likewise import Collection, CollectionSpec, InvalidArgument, InvalidRecord, Record, VectorField, VectorStore
from likewise.abc import frames
from likewise.abc.frames import columns_of_frame, frame_kind
from likewise.records import Include

EVERYTHING: Include = ("vector", "metadata", "content")
VECTORS = np.array([[1, 0, 0], [0, 1, 0], [0.5, 0.25, 1]], np.float32)


@pytest.fixture
def store() -> Iterator[VectorStore]:
    with likewise.connect("memory://") as store:
        yield store


@pytest.fixture
def things(store: VectorStore) -> Collection:
    return store.ensure_collection(CollectionSpec("things", dimension=3))


def fixed(vectors: Any, kind: Any = None) -> Any:
    return pa.array(list(vectors), pa.list_(kind or pa.float32(), 3))


def arrow() -> Any:
    return pa.table({"id": ["a", "b", "c"], "vector": fixed(VECTORS), "content": ["x", None, "z"], "n": [1, None, 3]})


def of_pandas() -> Any:
    return pd.DataFrame(
        {"id": ["a", "b", "c"], "vector": list(VECTORS), "content": ["x", None, "z"], "n": [1, None, 3]}
    )


def of_polars() -> Any:
    return pl.DataFrame({"id": ["a", "b", "c"], "vector": VECTORS, "content": ["x", None, "z"], "n": [1, None, 3]})


TABLES: dict[str, Callable[[], Any]] = {
    "Table": arrow,
    "Table of chunks": lambda: pa.concat_tables([arrow().slice(0, 1), arrow().slice(1)]),
    "RecordBatch": lambda: arrow().combine_chunks().to_batches()[0],
    "sliced RecordBatch": lambda: (
        pa.concat_tables([arrow().slice(2), arrow()]).combine_chunks().to_batches()[0].slice(1)
    ),
    "RecordBatchReader": lambda: arrow().to_reader(max_chunksize=2),
    "list": lambda: arrow().set_column(1, "vector", pa.array(list(VECTORS), pa.list_(pa.float64()))),
    "large_list": lambda: arrow().set_column(1, "vector", pa.array(list(VECTORS), pa.large_list(pa.float32()))),
    "float16": lambda: arrow().set_column(1, "vector", fixed(VECTORS.astype(np.float16), pa.float16())),
    "tensors": lambda: arrow().set_column(
        1,
        "vector",
        pa.ExtensionArray.from_storage(pa.fixed_shape_tensor(pa.float32(), [3]), fixed(VECTORS)),
    ),
    "DataFrame": of_pandas,
    "DataFrame with lists": lambda: of_pandas().assign(vector=VECTORS.tolist()),
    "DataFrame of a subclass": lambda: type("GeoFrame", (pd.DataFrame,), {})(of_pandas()),
    "DataFrame with another index": lambda: of_pandas().set_index(pd.Index([7, 7, 9])),
    "DataFrame of Arrow's types": lambda: of_pandas().convert_dtypes(dtype_backend="pyarrow"),
    "polars": of_polars,
    "polars with lists": lambda: of_polars().with_columns(pl.Series("vector", VECTORS.tolist())),
    "polars with objects": lambda: of_polars().with_columns(pl.Series("vector", list(VECTORS), dtype=pl.Object)),
}


@pytest.mark.parametrize("rows", [2, 10_000])
@pytest.mark.parametrize("name", TABLES)
def test_every_kind_of_table_is_records(
    things: Collection, monkeypatch: pytest.MonkeyPatch, name: str, rows: int
) -> None:
    monkeypatch.setattr(frames, "FRAME_ROWS", rows)
    assert things.upsert(TABLES[name]()) == 3
    assert list(things.scan(include=EVERYTHING)) == [
        Record("a", VECTORS[0], {"n": 1}, "x"),
        Record("b", VECTORS[1], {}),
        Record("c", VECTORS[2], {"n": 3}, "z"),
    ]
    with pytest.raises(likewise.RecordExists):
        things.insert(TABLES[name]())
    things.delete(where={})
    assert things.load(TABLES[name](), part_rows=2, token="t").written == 3
    assert things.load(TABLES[name](), part_rows=2, token="t").written == 0


@pytest.mark.parametrize("name", [name for name in TABLES if "lists" not in name])
def test_vectors_are_one_array(name: str) -> None:
    for columns in columns_of_frame(TABLES[name]()):
        vectors = columns.vectors[""]
        assert isinstance(vectors, np.ndarray)
        assert vectors.shape == (len(columns), 3)
        assert vectors.dtype.kind == "f"


@pytest.mark.parametrize("start", [0, 1, 2, 3, 4])
@pytest.mark.parametrize("name", TABLES)
def test_rows_may_be_passed_over(monkeypatch: pytest.MonkeyPatch, name: str, start: int) -> None:
    monkeypatch.setattr(frames, "FRAME_ROWS", 2)
    ids = [i for columns in columns_of_frame(TABLES[name](), start) for i in columns.ids]
    assert ids == ["a", "b", "c"][start:]


def test_metadata_may_be_a_column(things: Collection) -> None:
    metadata = [{"n": 1, "deep": {"x": 1, "y": None}}, None, {"n": None, "deep": None}]
    wanted = [{"n": 1, "deep": {"x": 1}}, {}, {}]
    ids = ["a", "b", "c"]
    things.upsert(pa.table({"id": ids, "vector": fixed(VECTORS), "metadata": metadata}))
    assert [r.metadata for r in things.scan()] == wanted, (
        "a struct has every key in every row, so null is a missing key"
    )
    things.delete(where={})
    things.upsert(pl.DataFrame({"id": ids, "vector": VECTORS, "metadata": metadata}))
    assert [r.metadata for r in things.scan()] == wanted
    things.delete(where={})
    things.upsert(pd.DataFrame({"id": ids, "vector": list(VECTORS), "metadata": metadata}))
    assert [r.metadata for r in things.scan()] == [metadata[0], {}, metadata[2]], "a dict is what it is"
    things.delete(where={})
    maps = pa.array([[("n", 1)], [], None], pa.map_(pa.string(), pa.int64()))
    things.upsert(pa.table({"id": ids, "vector": fixed(VECTORS), "metadata": maps}))
    assert [r.metadata for r in things.scan()] == [{"n": 1}, {}, {}]


def test_missing_values_of_pandas_are_left_out(things: Collection) -> None:
    frame = pd.DataFrame(
        {
            "id": ["a", "b", "c"],
            "vector": list(VECTORS),
            "float": [1.5, np.nan, 2],
            "object": [np.int64(5), pd.NA, np.array([1, 2])],
            "time": [pd.NaT, pd.NaT, pd.NaT],
            "whole": pd.array([1, None, 3], dtype="Int64"),
            "flag": pd.array([True, None, False], dtype="boolean"),
            "kind": pd.Categorical(["x", None, "y"]),
            "lists": [[1, None], None, []],
        }
    )
    things.upsert(frame)
    assert [r.metadata for r in things.scan()] == [
        {"float": 1.5, "object": 5, "whole": 1, "flag": True, "kind": "x", "lists": [1, None]},
        {},
        {"float": 2, "object": [1, 2], "whole": 3, "flag": False, "kind": "y", "lists": []},
    ]


def test_named_vectors_may_be_missing(store: VectorStore) -> None:
    spec = CollectionSpec("named", vectors={"text": VectorField(3), "picture": VectorField(3)})
    named = store.ensure_collection(spec)
    given = [None, VECTORS[1], None]
    tables = [
        pa.table({"id": ["a", "b", "c"], "vector_text": fixed(VECTORS), "vector_picture": fixed(given)}),
        pa.table(
            {
                "id": ["a", "b", "c"],
                "vector_text": fixed(VECTORS),
                "vector_picture": pa.array(given, pa.list_(pa.float32())),
            }
        ),
        pd.DataFrame({"id": ["a", "b", "c"], "vector_text": list(VECTORS), "vector_picture": given}),
        pl.DataFrame(
            {"id": ["a", "b", "c"], "vector_text": VECTORS, "vector_picture": [None, VECTORS[1].tolist(), None]},
            schema_overrides={"vector_picture": pl.Array(pl.Float32, 3)},
        ),
    ]
    for table in tables:
        named.upsert(table)
        found = list(named.scan(include=EVERYTHING))
        assert [sorted(r.vectors) for r in found] == [["text"], ["picture", "text"], ["text"]]
        assert list(found[1].vectors["picture"]) == [0, 1, 0]
        assert list(found[2].vectors["text"]) == VECTORS[2].tolist()
        named.delete(where={})


def test_texts_are_embedded_where_there_is_no_vector(store: VectorStore) -> None:
    notes = store.ensure_collection(CollectionSpec("notes", embedder="hashing"))
    dimension = notes.spec.vector_fields[""].dimension
    assert notes.upsert(pl.DataFrame({"id": ["a", "b"], "content": ["one text", "another"]})) == 2
    own = np.ones(dimension, np.float32)
    vectors = pa.array([own, None], pa.list_(pa.float32(), dimension))
    notes.upsert(pa.table({"id": ["c", "d"], "content": ["other words", "another"], "vector": vectors}))
    kept = {r.id: np.asarray(r.vector).tolist() for r in notes.scan(include=EVERYTHING)}
    assert kept["c"] == own.tolist()
    assert kept["d"] == kept["b"]


def test_modality_and_what_a_record_is_about(store: VectorStore) -> None:
    many = store.ensure_collection(CollectionSpec("many", dimension=3, multimodal=True))
    many.upsert(of_polars().drop("n").with_columns(modality=pl.Series(["image", None, "text"]), content_id=pl.lit("x")))
    assert [(r.modality, r.content_id) for r in many.scan()] == [("image", "x"), ("text", "x"), ("text", "x")]


@pytest.mark.parametrize("make", [arrow, of_pandas, of_polars])
def test_columns_that_mean_nothing_are_named(things: Collection, make: Callable[[], Any]) -> None:
    table = make()
    if make is arrow:
        both, nameless = table.append_column("metadata", [[{"m": 1}] * 3]), table.drop_columns(["id"])
    elif make is of_pandas:
        both, nameless = table.assign(metadata=[{"m": 1}] * 3), table.drop(columns="id")
    else:
        both, nameless = table.with_columns(metadata=pl.Series([{"m": 1}] * 3)), table.drop("id")
    with pytest.raises(InvalidArgument, match="a column 'n'"):
        things.upsert(both)
    with pytest.raises(InvalidArgument, match="no column 'id'; its columns are: 'vector', 'content', 'n'"):
        things.upsert(nameless)
    assert things.count() == 0


def test_two_columns_of_one_name_are_refused(things: Collection) -> None:
    with pytest.raises(InvalidArgument, match="two columns 'id'"):
        things.upsert(pd.concat([of_pandas(), of_pandas()[["id"]]], axis=1))
    with pytest.raises(InvalidArgument, match="two columns 'n'"):
        things.upsert(arrow().append_column("n", [[1, 2, 3]]))


@pytest.mark.parametrize("make", [arrow, of_pandas, of_polars])
def test_an_empty_table_stores_nothing(things: Collection, make: Callable[[], Any]) -> None:
    table = make()
    empty = table.head(0) if make is not arrow else table.slice(0, 0)
    assert things.upsert(empty) == things.load(empty).written == 0


def test_positions_count_in_the_whole_input(things: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "FRAME_ROWS", 100)
    vectors = np.ones((1_000, 3), np.float32)
    vectors[777, 1] = np.nan
    ids = [f"r{i}" for i in range(1_000)]
    sources = [
        pa.table({"id": ids, "vector": fixed(vectors)}),
        pa.table({"id": ids, "vector": fixed(vectors)}).to_reader(max_chunksize=130),
        pd.DataFrame({"id": ids, "vector": list(vectors)}),
        pl.DataFrame({"id": ids, "vector": vectors}),
    ]
    for source in sources:
        with pytest.raises(InvalidRecord) as caught:
            things.upsert(source)
        assert (caught.value.position, caught.value.record_id) == (777, "r777")
    report = things.load(sources[0], skip_invalid=True, part_rows=90)
    assert [r.position for r in report.rejected] == [777]
    assert things.count() == 999


@pytest.mark.parametrize(
    ("column", "complaint"),
    [
        ({"id": [1, 2, 3]}, "an id is text"),
        ({"id": ["a", None, "c"]}, "record 1"),
        ({"content": [1, 2, 3]}, "content"),
        ({"metadata": ["x", "y", "z"]}, "mapping"),
        ({"day": [datetime.date(2026, 1, 1)] * 3}, "isoformat"),
        ({"vector": ["x", "y", "z"]}, "str"),
        ({"vector": [[1.0, 2.0, 3.0], None, [1.0, 2.0, 3.0]]}, "record 'b'"),
        ({"vector": [[1.0, 2.0, 3.0], [1.0, None, 3.0], [1.0, 2.0, 3.0]]}, "record 'b'"),
        ({"vector": [[1.0, 2.0, 3.0], [1.0, 2.0], [1.0, 2.0, 3.0]]}, "record 'b'"),
        ({"vector_x": [[1.0], [2.0], [3.0]]}, "'x'"),
    ],
    ids=repr,
)
@pytest.mark.parametrize(
    "make", [pa.table, pd.DataFrame, lambda c: pl.DataFrame(c, strict=False)], ids=["pa", "pd", "pl"]
)
def test_values_that_cannot_be_stored_are_refused(
    things: Collection, make: Callable[[Any], Any], column: dict[str, Any], complaint: str
) -> None:
    columns: dict[str, Any] = {"id": ["a", "b", "c"], "vector": VECTORS.tolist(), **column}
    with pytest.raises(InvalidArgument, match=complaint):
        things.upsert(make(columns))
    assert things.count() == 0


def test_a_lazy_frame_is_refused_with_the_cure(things: Collection) -> None:
    lazy: Any = of_polars().lazy()
    with pytest.raises(InvalidArgument, match=r"collect\(\)"):
        things.upsert(lazy)


@pytest.mark.parametrize("wrong", [pa.array([1]), pa.scalar(1), pa.chunked_array([[1]]), {"id": ["a"]}])
def test_what_is_no_table_is_refused(things: Collection, wrong: Any) -> None:
    assert frame_kind(wrong) is None
    with pytest.raises(InvalidArgument):
        things.upsert(wrong)


def test_nothing_of_the_three_is_imported() -> None:
    code = (
        "import sys, likewise\n"
        "with likewise.connect('memory://') as store:\n"
        "    c = store.ensure_collection(likewise.CollectionSpec('c', dimension=1))\n"
        "    c.upsert([likewise.Record('a', [1])]); c.load([likewise.Record('b', [1])])\n"
        "assert not {'pyarrow', 'pandas', 'polars'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
