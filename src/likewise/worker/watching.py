"""Keeps the rows of watched tables embedded: takes keys from the queue, reads the rows, embeds them, and writes their vectors.

A batch is one transaction: entries are taken from the queue, vectors written and the entries deleted together, so that whoever is killed
leaves the entries. Between, the rows are read on other connections (``connections``) and embedded (``watched``). A vector is written (``writing``)
only while nobody else may write those of its row, and only if the row, looked at again, still is what was embedded: so whoever writes a row's
vectors last has seen all that was committed before, and what is committed later has an entry in the queue that nobody has taken yet.

A comparison of all rows is a walk (``walking``): one worker at a time does that for a table, while any may empty its queue.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import psycopg
from psycopg.rows import class_row

from likewise.abc.embedder import Embedder
from likewise.backends.postgres._errors import translate, translating
from likewise.errors import BackendUnavailable, LikewiseError
from likewise.worker._watching import Entry, Watch, said
from likewise.worker.connections import Connections, open_connections
from likewise.worker.pictures import Pictures
from likewise.worker.walking import Walk
from likewise.worker.watched import WatchedCollections
from likewise.worker.writing import Patience, Written, write_prepared

__all__ = ["Watching"]

_log = logging.getLogger("likewise.worker")

#: Rows that are embedded together; of tables with pictures, which are large, fewer.
BATCH_ROWS, BATCH_PICTURES = 500, 32
#: The same of a comparison of all rows, which does not lock each.
WALK_ROWS = 2_000
#: Seconds between looks at the queues, while there is something in them and when there has been nothing for a while; a worker that reads the
#: log is woken by the commit of a change.
SOON, IDLE = 0.1, 0.5
_WOKEN = 0.005
_REQUEUE_SECONDS = 1.0
_DEPTH_SECONDS = 5.0
_FIRST_WAIT, _LONGEST_WAIT = 0.5, 60.0
#: A connection that lasts so long was a good one.
_WELL_SECONDS = 10.0


@dataclass(slots=True)
class _Trouble:
    """A watch that is left alone for a while."""

    wait: float
    until: float


@dataclass(slots=True)
class _Clock:
    """When what is done now and then was done last."""

    requeued: float = field(default=float("-inf"))
    counted: float = field(default=float("-inf"))


class Watching:
    """The part of a worker that keeps watched tables embedded.

    ``image_roots`` are the folders that pictures named by a path may be read from, ``urls`` allows those named by a URL; ``only`` are the names of
    the watches to work on, by default all. Any number of workers may serve one database.
    """

    def __init__(
        self,
        conninfo: str,
        *,
        embedders: Callable[[str], Embedder],
        image_roots: Sequence[str | os.PathLike[str]] = (),
        urls: bool = False,
        only: Sequence[str] | None = None,
        patience: Patience | None = None,
    ) -> None:
        self._conninfo = conninfo
        self._embedders = embedders
        self._pictures = Pictures(image_roots, urls=urls)
        self._only = None if only is None else list(only)
        self._patience = patience or Patience()
        self._trouble: dict[int, _Trouble] = {}
        self._clock = _Clock()
        #: Batches done, records written and deleted, rows that failed, since the start; entries in the queues when last counted.
        self.batches = 0
        self.written = 0
        self.deleted = 0
        self.failed = 0
        self.queue_depth = 0
        #: Whether the database could be reached when last tried.
        self.connected = False
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """Have it look into the queues now; of the thread in which it runs."""
        self._woken.set()

    def counts(self) -> dict[str, float]:
        """What it has done since it was started, and what was waiting when that was last counted; by name."""
        return {
            "watch_batches": self.batches,
            "watch_written": self.written,
            "watch_deleted": self.deleted,
            "watch_failed": self.failed,
            "queue_depth": self.queue_depth,
        }

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until ``stop`` is set; the batch that is under way then is finished.

        Raises nothing: what goes wrong is logged, and tried again after a pause of at most a minute.
        """
        stopping = asyncio.create_task(self._wake_at(stop))
        try:
            with ThreadPoolExecutor(4, thread_name_prefix="likewise-pictures") as threads:
                await self._keep_serving(stop, threads)
        finally:
            stopping.cancel()

    async def _keep_serving(self, stop: asyncio.Event, threads: ThreadPoolExecutor) -> None:
        wait = _FIRST_WAIT
        while not stop.is_set():
            began = time.monotonic()
            try:
                with translating():
                    await self._serve(stop, threads)
            except Exception as error:  # noqa: BLE001 -- whatever is wrong with watched tables, the worker's other parts go on
                self.connected = False
                wait = _FIRST_WAIT if time.monotonic() - began > _WELL_SECONDS else wait
                match error:
                    case BackendUnavailable():
                        _log.warning("the database is away: %s; trying again in %.3g s", error, wait)
                    case LikewiseError():
                        _log.warning("watched tables are not kept embedded: %s; trying again in %.3g s", error, wait)
                    case _:
                        _log.exception("watched tables are not kept embedded; trying again in %.3g s", wait)
                await _pause(stop, wait)
                wait = min(_LONGEST_WAIT, wait * 2)

    async def _wake_at(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self._woken.set()

    # --- what there is to do ----------------------------------------------------------------------------------------------------

    async def _serve(self, stop: asyncio.Event, threads: ThreadPoolExecutor) -> None:
        collections = WatchedCollections(self._conninfo, self._embedders)
        walker: asyncio.Task[None] | None = None
        idle = SOON
        try:
            async with open_connections(self._conninfo, ahead=False) as connections:
                self.connected = True
                while not stop.is_set():
                    self._woken.clear()
                    watches = await self._look(connections)
                    if walker is not None and walker.done():
                        done, walker = walker, None
                        done.result()
                    walks = [w for w in watches if w.stage is not None and not self._troubled(w)]
                    if walker is None and walks:
                        walker = asyncio.create_task(self._walk(walks, collections, threads, stop))
                    worked = False
                    for watch in watches:
                        if watch.waiting and watch.stage != "index" and not self._troubled(watch) and not stop.is_set():
                            worked |= await self._batch(connections, watch, collections, threads)
                    idle = SOON if worked else min(IDLE, idle * 1.5)
                    if not worked and not stop.is_set():
                        await _pause(self._woken, idle)
                        if self._woken.is_set():
                            # The message is out a moment before what was committed can be seen.
                            idle = _WOKEN
        finally:
            if walker is not None:
                # It ends with the batch that it is at, or with its own connection.
                if not stop.is_set():
                    walker.cancel()
                with contextlib.suppress(asyncio.CancelledError, psycopg.Error, LikewiseError):
                    await walker
            await collections.aclose()

    async def _look(self, connections: Connections) -> list[Watch]:
        now = time.monotonic()
        if now - self._clock.requeued >= _REQUEUE_SECONDS:
            self._clock.requeued = now
            await connections.run("requeue")
        if now - self._clock.counted >= _DEPTH_SECONDS:
            self._clock.counted = now
            self.queue_depth = (await connections.fetch("depth"))[0]["depth"]
        cursor = connections.writer.cursor(row_factory=class_row(Watch))
        await cursor.execute(said("watches"), {"only": self._only})
        watches = await cursor.fetchall()
        known = {watch.id for watch in watches}
        self._trouble = {each: trouble for each, trouble in self._trouble.items() if each in known}
        return watches

    # --- a batch of the queue ---------------------------------------------------------------------------------------------------

    async def _batch(
        self, connections: Connections, watch: Watch, collections: WatchedCollections, threads: ThreadPoolExecutor
    ) -> bool:
        """Whether there was anything to do."""
        try:
            done = await self._write_batch(connections, watch, collections, threads)
        except Exception as error:
            collections.forget(watch)
            if connections.lost:
                raise
            await self._say(connections, watch, error)
            return False
        await self._well(connections, watch)
        if done is not None:
            self._count(done)
        return done is not None

    async def _write_batch(
        self, connections: Connections, watch: Watch, collections: WatchedCollections, threads: ThreadPoolExecutor
    ) -> Written | None:
        opened = await collections.open(watch, connections)
        most = BATCH_PICTURES if watch.pictures else BATCH_ROWS
        async with connections.writer.transaction():
            entries = [Entry(**row) for row in await connections.fetch("claim", {"watch": watch.id, "most": most})]
            if not entries:
                return None
            # In a row's first failure since it changed an entry has no attempts.
            attempts: dict[str, int] = {}
            for entry in entries:
                if entry.key is not None:
                    attempts[entry.key] = min(entry.attempt, attempts.get(entry.key, entry.attempt))
            keys = list(attempts)
            found = await connections.reader.rows(watch.id, keys)
            prepared = await opened.prepare(found, keys, self._pictures, threads)
            done = await write_prepared(connections, watch.id, await opened.table(), prepared, attempts, self._patience)
            await connections.run("done", {"watch": watch.id, "ids": [entry.id for entry in entries]})
            if any(entry.key is None for entry in entries):
                await connections.run("restart", {"watch": watch.id})
        return done

    # --- comparisons of all rows ------------------------------------------------------------------------------------------------

    async def _walk(
        self,
        watches: Sequence[Watch],
        collections: WatchedCollections,
        threads: ThreadPoolExecutor,
        stop: asyncio.Event,
    ) -> None:
        """Go through the tables one after the other, as far as no other worker does."""
        async with open_connections(self._conninfo, ahead=True) as connections:
            for watch in watches:
                if stop.is_set():
                    return
                try:
                    opened = await collections.open(watch, connections)
                    most = BATCH_PICTURES if watch.pictures else WALK_ROWS
                    walk = Walk(connections, watch, opened, self._pictures, threads, self._patience, most)
                    if await walk.run(stop, self._count):
                        await self._well(connections, watch)
                except Exception as error:
                    collections.forget(watch)
                    if connections.lost:
                        raise
                    await self._say(connections, watch, error)

    # --- trouble ----------------------------------------------------------------------------------------------------------------

    def _troubled(self, watch: Watch) -> bool:
        trouble = self._trouble.get(watch.id)
        return trouble is not None and time.monotonic() < trouble.until

    async def _say(self, connections: Connections, watch: Watch, error: Exception) -> None:
        """Leave a watch alone for a while, and store why."""
        before = self._trouble.get(watch.id)
        wait = _FIRST_WAIT if before is None else min(_LONGEST_WAIT, before.wait * 2)
        self._trouble[watch.id] = _Trouble(wait, time.monotonic() + wait)
        text = _text(error)
        _log.warning("watch %s: %s", watch.name, text, extra={"watch": watch.name}, exc_info=_is_ours(error))
        await connections.run("trouble", {"watch": watch.id, "error": text})

    async def _well(self, connections: Connections, watch: Watch) -> None:
        if self._trouble.pop(watch.id, None) is not None or watch.troubled:
            await connections.run("trouble", {"watch": watch.id, "error": None})

    def _count(self, done: Written) -> None:
        self.batches += 1
        self.written += done.written
        self.deleted += done.deleted
        self.failed += done.failed


def _is_ours(error: Exception) -> bool:
    """Whether it is a fault in this program, of which the log is to have the place."""
    return not isinstance(error, LikewiseError | psycopg.Error)


def _text(error: Exception) -> str:
    """What is stored of an error, with what to do."""
    if isinstance(error, psycopg.Error) and error.sqlstate is not None:
        hint = error.diag.message_hint
        return (error.diag.message_primary or str(error)) + (f" ({hint})" if hint else "")
    if isinstance(error, psycopg.Error):
        return str(translate(error))
    return str(error) if isinstance(error, LikewiseError) else f"{type(error).__name__}: {error}"


async def _pause(event: asyncio.Event, seconds: float) -> None:
    """Until the event, or for so long. Not by wait_for, which in Python 3.11 can swallow a cancellation."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
