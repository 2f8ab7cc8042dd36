"""Keeps one replica: goes on from its file or takes a snapshot, then applies what is committed, and begins again whatever breaks.

A task of the follower's event loop; what takes long runs in its threads. Nothing here knows a database: a feed does.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import logging
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import Executor
from functools import partial
from typing import TypeVar

from likewise.abc.feeds import Change, Commit, Feed, Position
from likewise.backends.faiss._folder import Place
from likewise.backends.faiss.image import DamagedImage, Image
from likewise.backends.faiss.replica import Replica
from likewise.errors import BackendUnavailable, CollectionNotFound, LikewiseError

__all__ = ["Following"]

_log = logging.getLogger("likewise.backends.faiss")

T = TypeVar("T")

#: How the note begins that a file could not be written.
_UNWRITTEN = "its file could not be written"

#: Seconds before it begins again after a failure: the first, and the longest.
_AGAIN_FIRST, _AGAIN_MOST = 0.1, 30.0
#: After it has followed for so many seconds, the next failure is a first one again.
_SETTLED = 60.0
#: Where nothing was told for so many seconds the database is asked how far it is, and given up where it says nothing either.
_QUIET, _DEAD = 5.0, 20.0
#: Where nothing has changed since the file was written, it is noted after so many seconds that it is still right.
_NOTE_SECONDS = 10.0
#: Changes that are applied in the loop itself; more would keep it from other collections.
_FEW_CHANGES = 1_000
#: The file is written again after so many changes (or a tenth of the rows, if that is more), or so many seconds with any.
_SAVE_CHANGES, _SAVE_SECONDS, _SAVE_LEAST_SECONDS = 10_000, 300.0, 10.0
#: A read that waits has the database asked again after so many seconds: the first time, and at most.
_ASK_FIRST, _ASK_MOST = 0.002, 0.05


class Following:
    """What keeps one replica. ``run`` ends when it is cancelled, or the collection is no more."""

    def __init__(self, replica: Replica, place: Place | None, executor: Executor) -> None:
        self.replica = replica
        #: Whether the end is for good: then nothing is kept in the database or in files.
        self.forgetting = False
        #: Why the database keeps something still, though it was to be for good.
        self.unforgotten: LikewiseError | None = None
        #: Whether it ends by itself already, which is not to be broken off.
        self.ending = False
        self._forgotten = False
        self._place = place
        self._executor = executor
        self._image: Image | None = None
        self._feed: Feed | None = None
        self._hurrying: asyncio.Task[None] | None = None
        self._saving: asyncio.Task[None] | None = None
        #: Whether a file was written, for which what is to be merged has waited.
        self._merging_waited = False
        self._looked = False
        self._failure: str | None = None
        #: The position of the file, where it is known, and until where that is what the collection has; when these were written.
        self._saved: Position | None = None
        self._kept: Position | None = None
        self._saved_at = self._kept_at = 0.0
        self._changes = 0

    async def run(self) -> None:
        """Follow, and begin again after every failure, a little later each time."""
        failures = 0
        try:
            self._place = await self._claimed()
            while True:
                began = time.monotonic()
                try:
                    await self._follow()
                except CollectionNotFound as error:
                    _log.info("the replica of %s ends: %s", self.replica.spec.name, error)
                    self.forgetting = True
                    return
                except Exception as error:  # noqa: BLE001 -- logged, and begun again
                    if not threading.main_thread().is_alive():
                        return  # The program ends, and did not close the store: threads and maybe the server go before us.
                    self._failed(error)
                failures = 0 if time.monotonic() - began > _SETTLED else failures + 1
                await asyncio.sleep(min(_AGAIN_MOST, _AGAIN_FIRST * 2 ** min(failures, 12)))
        finally:
            self.ending = True
            self.replica.leave("stopped")
            self._image = None
            await self._saved_by_now()
            if self.forgetting:
                await self._forget()
            if self._place is not None:
                self._place.release()

    def disown(self) -> None:
        """In a child that was forked: the files are the parent's."""
        if self._place is not None:
            self._place.release()

    async def _forget(self) -> None:
        try:
            if not self._forgotten:
                # For a table that is no more nothing is kept.
                async with self._open() as feed:
                    with contextlib.suppress(CollectionNotFound):
                        await feed.forget()
        except LikewiseError as error:
            self.unforgotten = error
            _log.warning(
                "what the database keeps for the replica of %s was not dropped: %s", self.replica.spec.name, error
            )
            # The name of what is kept stays, so that it can be found again.
            if self._place is not None:
                self._place.discard()
        else:
            if self._place is not None:
                self._place.remove()

    def _open(self) -> Feed:
        return self.replica.open_feed(self._place.slot() if self._place is not None else None)

    def _failed(self, error: Exception) -> None:
        known = isinstance(error, LikewiseError)
        reason = str(error) if known else f"{type(error).__name__}: {error}"
        # Once, not at every attempt.
        level = logging.DEBUG if reason == self._failure else logging.WARNING
        self._failure = reason
        _log.log(
            level,
            "the replica of %s begins again: %s",
            self.replica.spec.name,
            error,
            exc_info=None if known else error,
        )
        # What may succeed the next time leaves a copy that can go on. Anything else may be the copy's own fault: it is built anew.
        if not (isinstance(error, LikewiseError) and error.retryable):
            self._image = None
        self.replica.leave("failed", reason)

    async def _claimed(self) -> Place | None:
        """The files, if there are any and they are ours alone."""
        if self._place is None:
            return None
        replica, place = self.replica, self._place
        try:
            claimed = place.claim()
        except LikewiseError as error:
            replica.notes.append(f"{error}; the replica is in memory only")
            return None
        if not claimed:
            replica.notes.append(
                f"{place.image} belongs to process {place.owner() or 'unknown'}; the replica of this one is in memory only"
            )
            return None
        replica.file = str(place.image)
        return place

    # --- one life ---------------------------------------------------------------------------------------------------------------

    async def _follow(self) -> None:
        replica = self.replica
        async with self._open() as feed, self._forgetting_by(feed):
            if self._image is None and not self._looked:
                self._image = await self._load()
            image, self._looked = self._image, True
            if await feed.begin(None if image is None else image.position) and image is not None:
                replica.resumed += 1
            else:
                # Not two of them in memory at a time.
                image = self._image = None
                replica.leave("building")
                # What is noted of the old one's file must not be taken for something of the new one.
                await self._saved_by_now()
                image = self._image = await self._build(feed)
            await self._apart(_give_back)
            replica.follow(image, feed)
            self._feed, self._failure = feed, None
            self.hurry()
            try:
                await self._pump(image, feed)
            except asyncio.CancelledError:
                if not self.forgetting:
                    await self._save_at_the_end(image, feed)
                raise
            finally:
                self._feed = None
                if self._hurrying is not None:
                    self._hurrying.cancel()

    @contextlib.asynccontextmanager
    async def _forgetting_by(self, feed: Feed) -> AsyncIterator[None]:
        """Where the collection turns out to be no more, its feed is asked to forget: it alone knows which table that was, if it was renamed."""
        try:
            yield
        except CollectionNotFound:
            self.ending = True
            self.replica.leave("stopped")
            with contextlib.suppress(LikewiseError):
                await feed.forget()
                self._forgotten = True
            raise

    async def _load(self) -> Image | None:
        """The image in the file, if it is whole and of this collection."""
        if self._place is None or not self._place.image.exists():
            return None
        replica, place = self.replica, self._place
        replica.leave("building")
        try:
            image = await self._apart(partial(Image.load, place.image, replica.spec, holds=replica.holds))
        except DamagedImage as error:
            _log.warning("the file of the replica of %s cannot be used: %s", replica.spec.name, error)
            replica.notes.append(f"its file could not be used, so it was built anew: {error}")
            place.discard()
            return None
        assert image.position is not None
        self._saved = image.position
        self._kept = place.later(image.position)
        self._saved_at = self._kept_at = time.monotonic()
        image.apply(Commit(self._kept))
        return image

    async def _build(self, feed: Feed) -> Image:
        image = Image(self.replica.spec, holds=self.replica.holds)
        async for rows in feed.snapshot():
            image.fill(rows)
        await self._apart(partial(image.filled, feed.position))
        self.replica.built += 1
        self._saved = self._kept = None
        return image

    async def _pump(self, image: Image, feed: Feed) -> None:
        """Apply what is told, for ever."""
        stream = feed.commits()
        told = asyncio.ensure_future(_next(stream))
        heard = time.monotonic()
        more, rested = True, heard
        try:
            while True:
                await asyncio.wait({told}, timeout=max(0.0, rested - time.monotonic()) if more else _QUIET)
                now = time.monotonic()
                more, self._merging_waited = more or self._merging_waited, False
                if told.done():
                    commits = told.result()
                    told, heard = asyncio.ensure_future(_next(stream)), now
                    more = await self._apply(image, commits) or more
                elif not more:
                    if now - heard > _DEAD:
                        raise BackendUnavailable(f"the database told nothing for {now - heard:.0f} s, and was asked")
                    await feed.hurry()
                if more and now >= rested:
                    more = await self._apart(image.maintain)
                    # What is told has at least as much of the time as what is merged.
                    ended = time.monotonic()
                    rested = ended + (ended - now)
                await self._store(image, feed)
        finally:
            told.cancel()
            await asyncio.wait([told])

    async def _apply(self, image: Image, commits: Sequence[Commit]) -> bool:
        """Apply them; whether anything has changed."""
        changes = 0
        self.replica.commits += sum(len(commit.changes) > 0 for commit in commits)
        for commit in _together(commits):
            count = len(commit.changes)
            if count > _FEW_CHANGES:
                await self._apart(partial(image.apply, commit))
            else:
                image.apply(commit)
            changes += count
        self._changes += changes
        self.replica.moved()
        return changes > 0

    # --- readers that wait ------------------------------------------------------------------------------------------------------

    def hurry(self) -> None:
        """Somebody waits. In the loop."""
        if self._feed is not None and (self._hurrying is None or self._hurrying.done()):
            self._hurrying = asyncio.create_task(self._hurry(self._feed))

    async def _hurry(self, feed: Feed) -> None:
        seconds = _ASK_FIRST
        # A lost connection is found by who reads it.
        with contextlib.suppress(LikewiseError):
            while self._feed is feed and self.replica.waited_for():
                await feed.hurry()
                await asyncio.sleep(seconds)
                seconds = min(2 * seconds, _ASK_MOST)

    # --- the file ---------------------------------------------------------------------------------------------------------------

    async def _store(self, image: Image, feed: Feed) -> None:
        """Write the file, or note that it is still right, where it is time for that."""
        if self._place is None or (self._saving is not None and not self._saving.done()):
            return
        now = time.monotonic()
        age = now - self._saved_at
        many = self._changes >= max(_SAVE_CHANGES, len(image) // 10) and age > _SAVE_LEAST_SECONDS
        if self._kept is None or many or (self._changes and age > _SAVE_SECONDS):
            self._saving = asyncio.create_task(self._save(self._place, image, feed))
        elif not self._changes and image.position != self._kept and now - self._kept_at > _NOTE_SECONDS:
            await self._note(self._place, image, feed)

    async def _note(self, place: Place, image: Image, feed: Feed) -> None:
        position = image.position
        assert position is not None
        if self._saved is not None:
            self._kept_at = time.monotonic()
            try:
                place.kept(self._saved, position)
            except OSError as error:
                self._unwritten(error)
                return
            self._kept = position
            self._written()
            await feed.kept(position)

    async def _save(self, place: Place, image: Image, feed: Feed) -> None:
        """Write the file beside what is going on, then let the database forget what it has."""
        changes = self._changes
        self._changes, self._saved_at = 0, time.monotonic()
        self._kept = image.position
        try:
            self._saved = self._kept = await self._apart(partial(image.save, place.image))
            self._written()
            await feed.kept(self._saved)
        except OSError as error:
            # It is tried again after a while, though nothing may happen until then.
            self._changes += max(1, changes)
            self._unwritten(error)
        except BackendUnavailable:
            pass  # Found by who reads the feed; the file is as good as it was.
        finally:
            self._merging_waited = True

    def _unwritten(self, error: OSError) -> None:
        notes = self.replica.notes
        if not any(note.startswith(_UNWRITTEN) for note in notes):
            _log.warning("the file of the replica of %s could not be written: %s", self.replica.spec.name, error)
            notes.append(f"{_UNWRITTEN}: {error.strerror or error}; until it is, the database keeps its log")

    def _written(self) -> None:
        notes = self.replica.notes
        notes[:] = [note for note in notes if not note.startswith(_UNWRITTEN)]

    async def _saved_by_now(self) -> None:
        """Wait until the file is written that is being written."""
        if self._saving is not None:
            await asyncio.wait([self._saving])

    async def _save_at_the_end(self, image: Image, feed: Feed) -> None:
        if self._place is None:
            return
        await self._saved_by_now()
        if self._changes or self._saved is None:
            await self._save(self._place, image, feed)
        elif image.position != self._kept:
            with contextlib.suppress(LikewiseError):
                await self._note(self._place, image, feed)

    async def _apart(self, function: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, function)


def _together(commits: Sequence[Commit]) -> Iterator[Commit]:
    """Small commits that have come together as one, which takes less time than each by itself."""
    changes: list[Change] = []
    for place, commit in enumerate(commits, 1):
        if changes and len(changes) + len(commit.changes) > _FEW_CHANGES:
            yield Commit(commits[place - 2].position, changes)
            changes = []
        if len(commit.changes) > _FEW_CHANGES:
            yield commit
        else:
            changes += commit.changes
            if place == len(commits):
                yield Commit(commit.position, changes)


def _give_back() -> None:
    """Have the C library give back to the system what building has left free: else it stays with the process, as much again as an image takes."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # Not glibc: then there is nobody to ask.
            ctypes.CDLL(None).malloc_trim(0)


async def _next(stream: AsyncIterator[Sequence[Commit]]) -> Sequence[Commit]:
    async for commits in stream:
        return commits
    raise BackendUnavailable("the feed of changes ended")
