"""Which rows match a filter: its conditions are looked up in columns, one for each field that a filter has been about.

A column of metadata is encoded: the distinct values, and a number for each row. A condition is evaluated on distinct values by the very code that is the
specification (``likewise.filters.matching``), so that it means the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from likewise._json import JsonValue, loads
from likewise.abc.feeds import Payload
from likewise.backends.faiss.table import Table
from likewise.filters import And, Column, Filter, Not, Or
from likewise.filters.matching import matches

__all__ = ["Columns", "needed"]


@dataclass(frozen=True, slots=True)
class _Row:
    """A row as ``matches`` sees it."""

    id: str
    metadata: dict[str, JsonValue]
    content: str | None
    modality: str | None
    content_id: str | None


def needed(where: Filter) -> frozenset[Payload]:
    """What has to be held to answer a filter."""
    if isinstance(where, And | Or):
        return frozenset().union(*map(needed, where.operands))
    if isinstance(where, Not):
        return needed(where.operand)
    if not isinstance(where.field, Column):
        return frozenset({"metadata"})
    return frozenset() if where.field.name == "id" else frozenset({cast("Payload", where.field.name)})


class Columns:
    """The columns of a table, and the rows that match filters."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def changed(self, slots: Iterable[int]) -> None:
        """The payloads of these slots are no longer what they were."""

    def select(self, where: Filter) -> NDArray[np.int64]:
        """The slots of the rows that match, ascending."""
        table = self._table
        wanted = needed(where)

        def row(slot: int) -> _Row:
            def text(name: Payload) -> str | None:
                return table.text(name, slot) if name in wanted else None

            data = table.payload["metadata"][slot] if "metadata" in wanted else None
            metadata = {} if data is None else cast("dict[str, JsonValue]", loads(data))
            return _Row(table.ids[slot] or "", metadata, text("content"), text("modality"), text("content_id"))

        return np.array([slot for slot in table.live().tolist() if matches(row(slot), where)], np.int64)
