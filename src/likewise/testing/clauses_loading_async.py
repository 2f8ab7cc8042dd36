"""The contract's clauses on writing many records: by column, from tables of other libraries, in parts that can be resumed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from likewise import (
    AsyncCollection,
    AsyncVectorStore,
    CollectionSpec,
    DimensionMismatch,
    InvalidArgument,
    InvalidRecord,
    LoadProgress,
    Record,
    RecordExists,
    VectorField,
)
from likewise.records import Include

__all__ = ["AsyncLoadingClauses"]

SPEC = CollectionSpec("things", dimension=3)
EVERYTHING: Include = ("vector", "metadata", "content")


def records(count: int) -> list[Record]:
    return [Record(f"r{i:04}", [1, 0, i], {"n": i}, f"text {i}") for i in range(count)]


async def stored(collection: AsyncCollection) -> list[Record]:
    return list(await collection.scan(limit=10_000, include=EVERYTHING))


class AsyncLoadingClauses:
    """Clauses C54 to C59."""

    @pytest.mark.parametrize("count", [3, 1300])
    async def test_rows_by_column_are_records(self, store: AsyncVectorStore, count: int) -> None:
        """C54: upsert_columns stores what upsert stores of the same rows; a column of another length, or a bad row, is refused."""
        things = await store.ensure_collection(SPEC)
        rows = records(count)
        vectors = np.array([r.vector for r in rows], np.float32)
        metadata = [r.metadata for r in rows]
        content = [r.content for r in rows]
        ids = [r.id for r in rows]
        assert await things.upsert_columns(ids=ids, vectors=vectors, metadata=metadata, content=content) == count
        assert await stored(things) == rows
        arrays: Any = {"ids": np.array(ids), "vectors": vectors.astype(np.float64), "content": np.array(content)}
        assert await things.upsert_columns(**arrays) == count
        assert await stored(things) == [Record(r.id, r.vector, {}, r.content) for r in rows]
        with pytest.raises(InvalidArgument, match="content"):
            await things.upsert_columns(ids=ids, vectors=vectors, content=content[1:])
        vectors[count - 1, 1] = np.nan
        with pytest.raises(InvalidRecord) as caught:
            await things.upsert_columns(ids=ids, vectors=vectors)
        assert caught.value.position == count - 1
        with pytest.raises(DimensionMismatch):
            await things.upsert_columns(ids=ids, vectors=vectors[:, :2])
        spec = CollectionSpec("named", vectors={"text": VectorField(2), "picture": VectorField(3)})
        named = await store.ensure_collection(spec)
        columns: dict[str, Any] = {"text": [[1, 0], None], "picture": np.ones((2, 3))}
        assert await named.upsert_columns(ids=["a", "b"], vectors=columns) == 2
        assert [sorted(record.vectors) for record in await stored(named)] == [["picture", "text"], ["picture"]]

    @pytest.mark.parametrize("count", [0, 3, 1300])
    async def test_progress_is_told(self, store: AsyncVectorStore, count: int) -> None:
        """C55: progress is told of rows, never fewer than before; what it is told last is done, with the number of records."""
        things = await store.ensure_collection(SPEC)
        for write in (things.insert, things.upsert, things.load):
            told: list[LoadProgress] = []
            await write(records(count), progress=told.append)
            assert [p.phase for p in told].count("done") == 1
            assert told[-1] == LoadProgress("done", count)
            assert {p.phase for p in told} <= {"rows", "move", "index", "done"}
            assert [p.rows for p in told] == sorted(p.rows for p in told)

    async def test_tables_of_other_libraries_are_records(self, store: AsyncVectorStore) -> None:
        """C56: A table of pyarrow, pandas or polars is records; its other columns are metadata, and missing values are left out."""
        import pyarrow

        things = await store.ensure_collection(SPEC)
        columns = {"id": ["a", "b"], "content": ["x", None], "n": [1, None], "tags": [["t"], []]}
        vectors = pyarrow.array([[1, 0, 0], [0, 1, 0]], pyarrow.list_(pyarrow.float32(), 3))
        table: Any = pyarrow.table({**columns, "vector": vectors})
        wanted = [Record("a", [1, 0, 0], {"n": 1, "tags": ["t"]}, "x"), Record("b", [0, 1, 0], {"tags": []})]
        assert await things.upsert(table) == 2
        assert await stored(things) == wanted
        with pytest.raises(RecordExists):
            await things.insert(table)
        assert (await things.load(table)).written == 2
        with pytest.raises(InvalidArgument, match="'n'"):
            await things.upsert(table.append_column("metadata", [[{"m": 1}, {"m": 2}]]))
        with pytest.raises(InvalidArgument, match="'id'"):
            await things.upsert(table.drop_columns(["id"]))
        assert await stored(things) == wanted

    async def test_a_load_is_stored_in_parts(self, store: AsyncVectorStore) -> None:
        """C57: load stores parts of at most part_rows records, each all or nothing; after an error the parts before it stay."""
        things = await store.ensure_collection(SPEC)
        rows = records(25)
        report = await things.load(iter(rows), part_rows=10)
        assert (report.read, report.written, report.rejected, report.resumed_at) == (25, 25, (), 0)
        assert await stored(things) == rows
        await things.delete(where={})
        rows[17] = Record("bad", [1, 0])
        with pytest.raises(DimensionMismatch) as caught:
            await things.load(rows, part_rows=10)
        assert caught.value.position == 17
        assert await stored(things) == rows[:10]
        with pytest.raises(RecordExists) as known:
            await things.load(reversed(rows[:17]), replace=False, part_rows=5)
        assert set(known.value.record_ids) == {"r0007", "r0008", "r0009"}
        assert await things.count() == 15
        assert (await things.load([])).written == 0
        wrong: Any
        for wrong in (0, 1.5, True, 100_001):
            with pytest.raises(InvalidArgument, match="part_rows"):
                await things.load(rows, part_rows=wrong)

    @pytest.mark.parametrize("by_column", [False, True])
    async def test_a_load_may_leave_out_bad_records(self, store: AsyncVectorStore, by_column: bool) -> None:
        """C58: With skip_invalid the records that can be stored are stored, and the others reported with place, id and error."""
        things = await store.ensure_collection(SPEC)
        rows: list[Any] = [*records(40)]
        rows[3] = Record("short", [1, 0])
        rows[4] = Record("", [1, 0, 0])
        rows[20] = Record("nan", [1, 0, float("nan")])
        rows[39] = Record("odd", [1, 0, 0], {"x": {1, 2}})
        good = [r for i, r in enumerate(rows) if i not in (3, 4, 20, 39)]
        if by_column:
            report = await things.load(_columns(rows), skip_invalid=True, part_rows=16)
        else:
            rows[10] = "no record"
            report = await things.load(rows, skip_invalid=True, part_rows=16)
            assert isinstance(report.rejected[2].error, InvalidRecord)
            good = [r for r in good if r.id != "r0010"]
        rejected = [(r.position, r.id) for r in report.rejected if r.position != 10]
        assert rejected == [(3, "short"), (4, None), (20, "nan"), (39, "odd")]
        assert isinstance(report.rejected[0].error, DimensionMismatch)
        assert "finite" in str(next(r.error for r in report.rejected if r.id == "nan"))
        assert (report.read, report.written) == (40, len(good))
        assert [r.id for r in await stored(things)] == [r.id for r in good]

    async def test_a_load_with_a_token_goes_on_where_it_was_broken_off(self, store: AsyncVectorStore) -> None:
        """C59: A load with a token goes on after what is stored, refuses another input, and does nothing once it is finished."""
        things = await store.ensure_collection(SPEC)
        rows = records(25)

        def breaks_off() -> Iterator[Record]:
            yield from rows[:17]
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await things.load(breaks_off(), token="t", part_rows=10)
        assert await things.count() == 10
        await things.delete("r0002")
        with pytest.raises(InvalidArgument, match="another input"):
            await things.load(rows[1:], token="t", part_rows=10)
        with pytest.raises(InvalidArgument, match="another input"):
            await things.load(rows[:9], token="t", part_rows=10)
        report = await things.load(rows, token="t", part_rows=10)
        assert (report.read, report.written, report.resumed_at) == (15, 15, 10)
        assert [r.id for r in await stored(things)] == [r.id for r in rows if r.id != "r0002"]
        report = await things.load(breaks_off(), token="t")
        assert (report.read, report.written, report.resumed_at) == (0, 0, 25)
        assert (await things.load(rows, token="another")).written == 25
        wrong: Any
        for wrong in ("", 5, "x" * 451, "\x00"):
            with pytest.raises(InvalidArgument):
                await things.load(rows, token=wrong)
        await store.drop_collection("things")
        things = await store.ensure_collection(SPEC)
        assert (await things.load(rows, token="t")).written == 25


def _columns(rows: list[Record]) -> Any:
    """A table of Arrow's with these rows, whose vectors are lists of any length."""
    import pyarrow

    return pyarrow.table(
        {
            "id": [r.id for r in rows],
            "vector": pyarrow.array([r.vector for r in rows], pyarrow.list_(pyarrow.float64())),
            "n": [1 if r.id != "odd" else None for r in rows],
            "day": pyarrow.array([0 if r.id == "odd" else None for r in rows], pyarrow.date32()),
        }
    )
