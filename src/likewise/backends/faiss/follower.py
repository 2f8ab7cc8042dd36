"""The thread that keeps the replicas of a store: an event loop in which each collection has a task that builds its copy and follows its feed.

No reader waits in this thread, and nothing of a caller's event loop comes into it. What a feed says is ``abc/feeds``'s affair, what is in
memory ``image``'s; what both sides know is in ``replica``.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
import weakref
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from likewise.abc.feeds import Feed, Payload
from likewise.backends.faiss._folder import Place
from likewise.backends.faiss._options import ReplicaOptions
from likewise.backends.faiss.following import Following
from likewise.backends.faiss.replica import Replica
from likewise.errors import BackendConflict, BackendError, LikewiseError
from likewise.schema import CollectionSpec

__all__ = ["Follower"]

_log = logging.getLogger("likewise.backends.faiss")

T = TypeVar("T")

#: What is heavy (building an index, writing a file) is done in so many threads beside the loop.
_THREADS = 2

_followers: weakref.WeakSet[Follower] = weakref.WeakSet()


class Follower:
    """The replicas of one store. The thread begins with the first of them, and ends with ``close``."""

    def __init__(self, options: ReplicaOptions, *identity: str) -> None:
        self.options = options
        self._identity = identity
        self._replicas: dict[str, Replica] = {}
        self._following: dict[str, Following] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._lock = threading.Lock()
        self._rebuilding = threading.Lock()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended: asyncio.Event | None = None
        self._executor: ThreadPoolExecutor | None = None
        self._closed = False
        _followers.add(self)

    def holds(self, spec: CollectionSpec) -> frozenset[Payload]:
        """What the replica of such a collection holds beside ids and vectors."""
        # A record of a multimodal collection always says what it is and of what.
        always: frozenset[Payload] = frozenset(("modality", "content_id")) if spec.multimodal else frozenset()
        return self.options.hold | always

    def replica(self, spec: CollectionSpec, open_feed: Callable[[frozenset[Payload], str | None], Feed]) -> Replica:
        """The replica of a collection, the same for all who ask; it does not begin before ``start``."""
        holds = self.holds(spec)
        with self._lock:
            known = self._replicas.get(spec.name)
            if known is not None and known.state != "stopped" and _alike(known.spec, spec):
                return known
            replica = Replica(spec, holds, lambda slot: open_feed(holds, slot), patience=self.options.patience)
            self._replicas[spec.name] = replica
        if known is not None and not self._closed:
            self._call(self._end(spec.name, forget=False))
        return replica

    def known(self) -> list[Replica]:
        """The replicas that there are."""
        with self._lock:
            return list(self._replicas.values())

    def start(self, replica: Replica) -> None:
        """Have it built, if that has not begun. Returns at once."""
        with self._lock:
            if self._closed or replica.state != "idle" or self._replicas.get(replica.spec.name) is not replica:
                return
            replica.leave("building")
            loop = self._running()
        loop.call_soon_threadsafe(self._begin, replica)

    def hurry(self, replica: Replica) -> None:
        """Somebody waits for the replica. Returns at once."""
        following = self._following.get(replica.spec.name)
        loop = self._loop
        if following is not None and following.replica is replica and loop is not None:
            with contextlib.suppress(RuntimeError):  # The loop has ended: so have the waits.
                loop.call_soon_threadsafe(following.hurry)

    def rebuild(self, replica: Replica) -> None:
        """Throw the copy and its file away, and have it built anew. Blocks until the old one is gone."""
        name = replica.spec.name
        with self._rebuilding:
            with self._lock:
                if self._closed or self._replicas.get(name) is not replica:
                    return
            if self._loop is not None:
                self._call(self._end(name, forget=False))
            place = self._place(name)
            # Files that cannot be had are noted as it begins.
            with contextlib.suppress(BackendError):
                if place is not None and place.claim():
                    place.discard()
                    place.release()
            replica.leave("idle")
            self.start(replica)

    def keeps(self, name: str) -> bool:
        """Whether there is a replica of a collection of this name, or files of an earlier one."""
        place = self._place(name)
        return name in self._replicas or (place is not None and place.exists())

    def drop(self, replica: Replica) -> None:
        """Stop and forget the replica, with its files and what the database keeps for it. Blocks.

        ``BackendConflict`` if another process has the files; ``LikewiseError`` if what the database keeps could not be dropped: then the files
        say still what it is, and it may be tried again.
        """
        name = replica.spec.name
        with self._lock:
            if self._closed or self._replicas.get(name) is not replica:
                return
            del self._replicas[name]
        try:
            self._drop(replica)
        except LikewiseError:
            with self._lock:
                self._replicas.setdefault(name, replica)
            raise
        replica.leave("stopped")

    def _drop(self, replica: Replica) -> None:
        name = replica.spec.name
        place = self._place(name)
        if replica.state not in ("idle", "stopped"):
            problem = self._call(self._end(name, forget=True))
            if problem is not None:
                raise problem
        elif place is not None and place.exists():
            # Of an earlier run: only the database and the folder know of it.
            if not place.claim():
                raise BackendConflict(
                    f"{place.image} belongs to process {place.owner() or 'unknown'}, which follows the collection: end that first"
                )
            try:
                self._call(_forget(replica.open_feed(place.slot())))
                place.remove()
            finally:
                place.release()

    def close(self) -> None:
        """Store what is to be stored, let go of the database, and end the thread. Blocks; does nothing the second time."""
        with self._lock:
            self._closed = True
            thread, loop, ended = self._thread, self._loop, self._ended
        if thread is not None and loop is not None and ended is not None:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(ended.set)
            thread.join()
        for replica in self.known():
            replica.leave("stopped")

    def disown(self) -> None:
        """In a child that was forked: there is no thread here, so what was inherited may not answer any longer."""
        self._lock, self._closed, self._thread = threading.Lock(), True, None
        # Files are locked for who has them open, and that is the child too.
        for following in self._following.values():
            following.disown()
        for replica in self._replicas.values():
            replica.disown()

    # --- the thread -------------------------------------------------------------------------------------------------------------

    def _place(self, name: str) -> Place | None:
        return None if self.options.path is None else Place(self.options.path, *self._identity, name)

    def _running(self) -> asyncio.AbstractEventLoop:
        """The loop; the thread is started for it. The lock is held."""
        if self._loop is None:
            ready = threading.Event()
            self._executor = ThreadPoolExecutor(_THREADS, thread_name_prefix="likewise-replica-work")
            self._thread = threading.Thread(target=self._run, args=(ready,), name="likewise-replica", daemon=True)
            self._thread.start()
            ready.wait()
        assert self._loop is not None
        return self._loop

    def _run(self, ready: threading.Event) -> None:
        # Of sockets that libpq has opened this kind of loop can be told on every system.
        with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
            runner.run(self._serve(ready))

    async def _serve(self, ready: threading.Event) -> None:
        self._loop, self._ended = asyncio.get_running_loop(), asyncio.Event()
        ready.set()
        await self._ended.wait()
        await asyncio.gather(*(self._end(name, forget=False) for name in list(self._tasks)))
        assert self._executor is not None
        self._executor.shutdown()

    def _call(self, work: Awaitable[T]) -> T:
        """What the coroutine gives, from the thread's loop."""

        async def done() -> T:
            return await work

        with self._lock:
            loop = self._running()
        return asyncio.run_coroutine_threadsafe(done(), loop).result()

    def _begin(self, replica: Replica) -> None:
        name = replica.spec.name
        assert self._executor is not None
        following = Following(replica, self._place(name), self._executor)
        self._following[name] = following
        self._tasks[name] = asyncio.create_task(following.run(), name=f"replica of {name}")

    async def _end(self, name: str, *, forget: bool) -> LikewiseError | None:
        """End the task of a collection, and wait for it; why the database keeps something still, if it was to forget."""
        task, following = self._tasks.pop(name, None), self._following.pop(name, None)
        if task is None or following is None:
            return None
        if not following.ending:
            following.forgetting = forget
            task.cancel()
        await asyncio.wait([task])
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("the replica of %s ended badly", name, exc_info=error)
        return following.unforgotten


def _alike(one: CollectionSpec, other: CollectionSpec) -> bool:
    """Whether a replica of the one is a replica of the other."""
    return one.vector_fields == other.vector_fields and bool(one.multimodal) == bool(other.multimodal)


async def _forget(feed: Feed) -> None:
    async with feed:
        await feed.forget()


def _after_fork() -> None:
    for follower in list(_followers):
        follower.disown()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
