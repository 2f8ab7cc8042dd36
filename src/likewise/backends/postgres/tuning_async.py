"""Finds the ef_search, or the probes, that a wanted recall takes: measured once, remembered in the database, measured again when the collection has changed.

The figures are in ``_recall``; the statements in ``sql/``.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from psycopg import AsyncConnection, errors, sql

from likewise._json import dumps
from likewise.backends.postgres import _statements as statements
from likewise.backends.postgres._install import resource
from likewise.backends.postgres._parameters import own_sql
from likewise.backends.postgres._recall import RecallCurve, depth_of, dials, measured, sample_size, surely
from likewise.backends.postgres._rows import unpack_vector
from likewise.backends.postgres._table import Table, TableIndex
from likewise.backends.postgres.connection_async import AsyncDatabase, rows
from likewise.records import SearchResults

__all__ = ["AsyncTuning"]

#: Searches for several vectors: (table, name, queries, top_k, index or None for comparing every row, dial).
AsyncSearchAt: TypeAlias = Callable[
    [Table, str, Sequence[NDArray[np.float32]], int, TableIndex | None, int | None], Awaitable[list[SearchResults]]
]

_log = logging.getLogger("likewise.postgres")


class AsyncTuning:
    """What is known of the recall of one collection's indexes."""

    def __init__(self, database: AsyncDatabase) -> None:
        self._database = database
        self._curves: dict[tuple[str, int], RecallCurve] = {}
        self._deepened: set[tuple[str, int]] = set()

    async def dial(
        self,
        search: AsyncSearchAt,
        table: Table,
        name: str,
        index: TableIndex,
        top_k: int,
        recall: float,
        *,
        filtered: bool,
    ) -> int | None:
        """The ef_search or probes for this recall, of those that a filter leaves if there is one; None if only comparing every row reaches it."""
        k = depth_of(top_k, filtered=filtered)
        if recall >= 1.0 or k is None:
            return None
        curve = self._curves.get((name, k)) or await self._read(table, name, k)
        if curve is None or not curve.holds(index.definition, table.rows):
            curve = await self._measure(search, table, name, index, k)
            await self._write(table, name, k, curve)
            self._deepened.discard((name, k))
        if curve.unsure(recall) and (name, k) not in self._deepened:
            # Once more with more queries, before every search is made to compare every row.
            self._deepened.add((name, k))
            curve = await self._measure(search, table, name, index, k, deeper=True)
            await self._write(table, name, k, curve)
        self._curves[name, k] = curve
        return curve.dial(recall)

    async def health(
        self, search: AsyncSearchAt, table: Table, name: str, index: TableIndex, dial: int
    ) -> tuple[tuple[float, float], RecallCurve | None]:
        """Recall@10 at this dial now (mean, standard error), and what was measured before; the first time becomes that."""
        before = await self._read(table, name, 10)
        if before is None or before.index_definition != index.definition:
            curve = await self._measure(search, table, name, index, 10)
            await self._write(table, name, 10, curve)
            self._curves[name, 10] = curve
            return curve.near(dial), None
        drawn = await self._sample(table, name)
        queries = [vector for _, vector in drawn]
        truth = await search(table, name, queries, 11, None, None)
        found = await search(table, name, queries, 11, index, dial)
        return measured(truth, found, [record_id for record_id, _ in drawn], 10), before

    async def _sample(self, table: Table, name: str, *, deeper: bool = False) -> list[tuple[str, NDArray[np.float32]]]:
        count = sample_size(table.rows, deeper=deeper)
        drawn = await self._database.fetch(statements.sample_vectors(table, name, count))
        return [(row["id"], unpack_vector(row["vector"], table.element(name))) for row in drawn]

    async def _measure(
        self, search: AsyncSearchAt, table: Table, name: str, index: TableIndex, k: int, *, deeper: bool = False
    ) -> RecallCurve:
        """Search for stored vectors, exactly and at one dial after the other, until nothing more is to be gained."""
        drawn = await self._sample(table, name, deeper=deeper)
        own, queries = [record_id for record_id, _ in drawn], [vector for _, vector in drawn]
        truth = await search(table, name, queries, k + 1, None, None)
        points: list[tuple[int, float, float]] = []
        for dial in dials(index.method, k + 1, int(index.options.get("lists", "100"))):
            found = await search(table, name, queries, k + 1, index, dial)
            mean, error = measured(truth, found, own, k)
            points.append((dial, mean, error))
            if surely(mean, error) >= _ENOUGH:
                break
        _log.info("recall measured", extra={"collection": table.spec.name, "vector": name, "points": points})
        return RecallCurve(index.definition, table.rows, tuple(points))

    async def _read(self, table: Table, name: str, k: int) -> RecallCurve | None:
        async with self._database.transaction(collection=table.spec.name) as connection:
            found = await self._say(connection, "recall_get.sql", _keys(table, name, k))
        if not found:
            return None
        (row,) = found
        return RecallCurve(row["index_definition"], row["rows"], tuple((int(d), m, e) for d, m, e in row["points"]))

    async def _write(self, table: Table, name: str, k: int, curve: RecallCurve) -> None:
        """Remember it for other processes, where that can be committed now."""
        if not self._database.source.private:
            return
        points: Any = [list(point) for point in curve.points]
        values = {"index_definition": curve.index_definition, "rows": curve.rows, "points": dumps(points)}
        async with self._database.transaction(collection=table.spec.name) as connection:
            await self._say(connection, "recall_put.sql", {**_keys(table, name, k), **values})

    async def _say(
        self, connection: AsyncConnection[Any], file: str, values: Mapping[str, Any]
    ) -> list[dict[str, Any]]:
        """Run a statement about what is remembered; nothing is, where the schema is older or the role may not."""
        statement = statements.Statement(sql.Composed([own_sql(resource(file))]), values, {})
        try:
            async with connection.transaction():
                if file == "recall_put.sql":
                    await connection.execute(statement.text, statement.parameters)
                    return []
                return await rows(connection, statement)
        except (errors.UndefinedTable, errors.InsufficientPrivilege, errors.ReadOnlySqlTransaction) as error:
            _log.info("measured recall is not remembered", extra={"reason": str(error)})
            return []


def _keys(table: Table, name: str, k: int) -> dict[str, Any]:
    return {"schema": table.schema, "name": table.spec.name, "vector": name, "k": k}


#: Beyond this a larger ef_search is not tried.
_ENOUGH = 0.998
