"""Answers filtered searches of an indexed vector, in the way that ``_planner`` chose. The statements are in ``_searches``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from likewise.backends.postgres import _searches as searches
from likewise.backends.postgres import _statements as statements
from likewise.backends.postgres._planner import Estimate, FilterMemory, choose, read_plan, worth_counting
from likewise.backends.postgres._table import Table, TableIndex
from likewise.backends.postgres.connection_async import Row
from likewise.filters import Filter
from likewise.records import IncludeField, SearchExplanation

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["AsyncFilteredSearch", "find_fused"]


class AsyncFilteredSearch:
    """One filter on one collection, asked for its ``top_k`` nearest rows."""

    def __init__(
        self,
        fetch: Callable[[statements.Statement], Awaitable[list[Row]]],
        filters: FilterMemory,
        table: Table,
        where: Filter,
        top_k: int,
        *,
        dial: int | None = None,
    ) -> None:
        self._dial = dial
        self._fetch = fetch
        self._filters = filters
        self._table = table
        self._where = where
        self._top_k = top_k
        self._key = filters.key(where)

    async def estimate(self) -> Estimate:
        """What is known of the filter; the server is asked the first time, and again when that is long ago."""
        known = self._filters.get(self._key)
        if known is not None:
            return known
        (explained,) = await self._fetch(searches.estimate(self._table, self._where))
        estimate = read_plan(explained["QUERY PLAN"], self._table.rows)
        self._filters.learn(self._key, estimate)
        most = worth_counting(estimate, self._top_k)
        return await self._count(estimate, most) if most else estimate

    async def _count(self, estimate: Estimate, most: int) -> Estimate:
        (counted,) = await self._fetch(statements.count(self._table, self._where, most=most))
        return self._filters.counted(self._key, estimate, int(counted["count"]))

    async def exactly(self) -> bool:
        """Whether to compare every matching row, for a caller who cannot change the way half-way."""
        estimate = await self.estimate()
        plan = choose(estimate, self._top_k)
        if plan.exact and plan.bound:
            plan = choose(await self._count(estimate, plan.bound), self._top_k)
        return plan.exact

    async def nearest(
        self, name: str, query: NDArray[np.float32], include: frozenset[IncludeField], index: TableIndex
    ) -> tuple[list[Row], SearchExplanation]:
        """The nearest rows, and how they were found."""
        estimate = await self.estimate()
        plan = choose(_along(estimate, index, self._where), self._top_k)
        ways: list[str] = []
        settings: Mapping[str, str] = {}
        matching: int | None = None
        found: list[Row] | None = None
        if plan.exact and plan.bound:
            found, matching = await self._compare(name, query, include, plan.bound)
            if matching >= plan.bound:
                # Many more rows match than were expected: go along the index after all.
                estimate = self._filters.counted(self._key, estimate, matching)
                plan, found, matching = choose(_along(estimate, index, self._where), self._top_k), None, None
        if found is None and not plan.exact:
            statement = searches.visit(
                self._table,
                name,
                query,
                top_k=self._top_k,
                where=self._where,
                include=include,
                index=index,
                visits=plan.bound,
                dial=self._dial,
            )
            found, settings = await self._fetch(statement), statement.settings
            ways.append("approximate")
            short = len(found) < self._top_k
            estimate = self._filters.visited(self._key, estimate, gave_out=short)
            if short:
                found = None
        if found is None:
            found, matching = await self._compare(name, query, include, 0)
        if matching is not None:
            ways.append("exact")
            self._filters.counted(self._key, estimate, matching)
        explanation = SearchExplanation(
            ", then ".join(ways),
            index.name if "approximate" in ways else None,
            settings,
            estimated=round(estimate.matching),
            matching=matching,
        )
        return found, explanation

    async def _compare(
        self, name: str, query: NDArray[np.float32], include: frozenset[IncludeField], most: int
    ) -> tuple[list[Row], int]:
        """The nearest of the matching rows, and how many match."""
        statement = searches.compare(
            self._table, name, query, top_k=self._top_k, where=self._where, include=include, most=most
        )
        found = await self._fetch(statement)
        return found, int(found[0]["matching"]) if found else 0


async def find_fused(
    fetch: Callable[[statements.Statement], Awaitable[list[Row]]],
    table: Table,
    legs: Sequence[searches.Leg],
    *,
    top_k: int,
    where: Filter | None,
    include: frozenset[IncludeField],
    ef_search: int | None,
) -> tuple[list[Row], SearchExplanation]:
    """The rows that several rankings have in front together, and how they were found."""
    depth = searches.fusion_depth(top_k)
    while True:
        statement = searches.fused(table, legs, top_k=top_k, where=where, include=include, ef_search=ef_search)
        found = await fetch(statement)
        counts = [found[0][f"found_{n}"] if found else 0 for n in range(len(legs))]
        short = [leg.index is not None and counts[n] < depth for n, leg in enumerate(legs)]
        if not any(short):
            break
        # A leg fell short: that leg again, exactly.
        legs = [replace(leg, index=None) if short[n] else leg for n, leg in enumerate(legs)]
    ways = {
        leg.name: SearchExplanation("approximate" if leg.index else "exact", leg.index.name if leg.index else None)
        for leg in legs
    }
    return found, SearchExplanation("fused", settings=statement.settings, legs=ways)


def _along(estimate: Estimate, index: TableIndex, where: Filter) -> Estimate:
    """The estimate among the rows that the index is over; if those are the rows that match, there are as many as the index has."""
    if not index.partial:
        return estimate
    matching = estimate.matching if estimate.counted or not index.holds_just(where) else index.rows
    return replace(estimate, matching=matching, rows=max(index.rows, matching))
