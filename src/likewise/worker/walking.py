"""A comparison of all rows of a watched table with their vectors, as far as it is not done: the first embedding of a table, too.

It goes through the table in the order of its key, then through the collection for what is in the table no more, and builds the index if there is none. Its
place is stored with each batch, so that another worker goes on from there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

from psycopg.rows import dict_row

from likewise.worker._watching import Prepared, Row, Watch, page_of_ids
from likewise.worker.connections import Connections
from likewise.worker.pictures import Pictures
from likewise.worker.watched import Opened
from likewise.worker.writing import Patience, Written, write_prepared

__all__ = ["Walk"]

_ORPHAN_ROWS = 2_000
_FIRST_ROWS = 250
_PAGE_SIZE = 16_000_000


@dataclass(frozen=True, slots=True)
class _Page:
    """Rows in the order of the key, and whether there may be more after them."""

    keys: list[str]
    rows: Mapping[str, Row]
    unread: Mapping[str, str]
    full: bool


class Walk:
    """One worker's part of one comparison."""

    def __init__(
        self,
        connections: Connections,
        watch: Watch,
        opened: Opened,
        pictures: Pictures,
        threads: Executor,
        patience: Patience,
        longest: int,
    ) -> None:
        self._lane = connections
        self._watch = watch
        self._opened = opened
        self._pictures = pictures
        self._threads = threads
        self._patience = patience
        #: Rows of the next page: as many as have text and pictures of a few megabytes.
        self._most = min(_FIRST_ROWS, longest)
        self._longest = longest

    async def run(self, stop: asyncio.Event, count: Callable[[Written], None]) -> bool:
        """Go on until all is compared or ``stop`` is set; false if another worker is at it."""
        about = {"watch": self._watch.id}
        if not (await self._lane.fetch("walk_lock", about))[0]["free"]:
            return False
        try:
            while not stop.is_set() and (found := await self._lane.fetch("walk_get", about)):
                (state,) = found
                if state["stage"] == "rows":
                    await self._rows(state["round"], state["place"], stop, count)
                elif state["stage"] == "orphans":
                    await self._orphans(state["round"], state["place"], stop, count)
                else:
                    await self._opened.index()
                    await self._lane.run("walk_end", {**about, "round": state["round"]})
        finally:
            if not self._lane.lost:
                await self._lane.run("walk_unlock", about)
        return True

    async def _rows(
        self, number: int, place: str | None, stop: asyncio.Event, count: Callable[[Written], None]
    ) -> None:
        """Embed the rows after a place. While a page is written the next is embedded, and the one after that is read."""
        # Of what is embedded for the first time there is nothing stored yet.
        again = number != 1
        reading = asyncio.create_task(self._read(place))
        embedding = asyncio.create_task(self._embed(reading, again))
        tasks: set[asyncio.Task[Any]] = set()
        try:
            while True:
                following = asyncio.create_task(self._read_next(reading))
                tasks = {reading, embedding, following}
                prepared = await embedding
                if prepared is None:
                    break
                reading, embedding = following, asyncio.create_task(self._embed(following, again))
                tasks = {reading, embedding}
                if not await self._write(prepared, number, "rows", prepared.keys[-1], count) or stop.is_set():
                    return
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        # Of a watch that has just begun there is nothing to be cleared away.
        after = "index" if number == 1 else "orphans"
        await self._lane.run("walk_on", self._state(number, after, None, 0))

    async def _read(self, after: str | None) -> _Page | None:
        reader, most = self._lane.reader, self._most
        keys = await reader.page(self._watch.id, after, most)
        if not keys:
            return None
        rows, unread = await reader.rows(self._watch.id, keys)
        size = sum(len(row.content or "") + len(row.image or b"") for row in rows.values())
        if size < _PAGE_SIZE // 4:
            self._most = min(self._longest, most * 2)
        elif size > _PAGE_SIZE:
            self._most = max(1, most // 2)
        return _Page(keys, rows, unread, len(keys) == most)

    async def _read_next(self, before: asyncio.Task[_Page | None]) -> _Page | None:
        page = await before
        return await self._read(page.keys[-1]) if page is not None and page.full else None

    async def _embed(self, reading: asyncio.Task[_Page | None], again: bool) -> Prepared | None:
        page = await reading
        if page is None:
            return None
        found = (page.rows, page.unread)
        return await self._opened.prepare(found, page.keys, self._pictures, self._threads, again=again)

    async def _orphans(
        self, number: int, place: str | None, stop: asyncio.Event, count: Callable[[Written], None]
    ) -> None:
        """Delete what is in the collection and of no row."""
        table = await self._opened.table()
        while not stop.is_set():
            cursor = self._lane.writer.cursor(row_factory=dict_row)
            await cursor.execute(page_of_ids(table), {"after": place, "most": _ORPHAN_ROWS})
            page = await cursor.fetchall()
            if not page:
                await self._lane.run("walk_on", self._state(number, "index", None, 0))
                return
            place = page[-1]["id"]
            keys = sorted({row["key"] or row["id"] for row in page})
            there, unread = await self._lane.checker.fingerprints(self._watch.id, keys)
            gone = [key for key in keys if key not in there and key not in unread]
            if not await self._write(Prepared(gone, {}, {}), number, "orphans", place, count):
                return

    async def _write(
        self, prepared: Prepared, number: int, stage: str, place: str | None, count: Callable[[Written], None]
    ) -> bool:
        """Write a page and its place; false if the comparison was begun again meanwhile."""
        async with self._lane.writer.transaction():
            done = await write_prepared(
                self._lane, self._watch.id, await self._opened.table(), prepared, {}, self._patience, alone=True
            )
            rows = len(prepared.keys) if stage == "rows" else 0
            on = await self._lane.run("walk_on", self._state(number, stage, place, rows))
        count(done)
        return bool(on)

    def _state(self, number: int, stage: str, place: str | None, done: int) -> dict[str, Any]:
        return {"watch": self._watch.id, "round": number, "stage": stage, "place": place, "done": done}
