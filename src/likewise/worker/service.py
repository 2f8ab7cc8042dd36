"""A worker out of its parts: what ``likewise worker`` runs, and ``connect(worker=True)`` in a thread."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future
from ssl import SSLContext
from types import TracebackType
from typing import Protocol, Self

from likewise.abc.embedder import Embedder
from likewise.errors import BackendUnavailable
from likewise.worker.answering import MOST_REMEMBERED, Answering
from likewise.worker.direct import Direct
from likewise.worker.metrics import WorkerCounts
from likewise.worker.watching import Watching
from likewise.worker.wire import WireServer

__all__ = ["Part", "Worker", "WorkerThread"]

_log = logging.getLogger("likewise.worker")


class Part(Protocol):
    """One of the things that a worker does, side by side with the others."""

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until ``stop`` is set, making lost connections again."""


class Worker:
    """Answers ``embed()`` in one database, and does what else it is given to do.

    Args:
        conninfo: the database. The role must be allowed to replicate (``ALTER ROLE … REPLICATION``), and own Likewise's schema or be a
            superuser.
        embedders: gives the embedder of a name, as ``likewise.embedding.load_embedder`` does.
        models: names of models that are offered beside those of the database's collections and its default.
        remember: how many vectors the database remembers.

        log: read requests from the log. Without it there are the parts that are added.
        watching: keeps watched tables embedded.

    Any number may serve one database: one answers, the others take over when it ends, with its requests, in less than two seconds.
    """

    def __init__(
        self,
        conninfo: str,
        *,
        embedders: Callable[[str], Embedder],
        models: Collection[str] = (),
        remember: int = MOST_REMEMBERED,
        log: bool = True,
        watching: Watching | None = None,
    ) -> None:
        self._answering = Answering(
            conninfo,
            embedders=embedders,
            models=models,
            remember=remember,
            changed=watching.wake if watching is not None else lambda: None,
        )
        self._direct = Direct(conninfo, embedders=embedders, models=models, counts=self._answering.counts)
        self._watching = watching
        self._parts: list[Part] = [part for part in (self._answering if log else None, watching) if part is not None]
        self._by_log = log
        self._ready = self._answering.ready
        if not log:
            # What is added has nothing to wait for, unless it listens.
            self._ready.set()

    def listen(self, host: str, port: int, password: str, *, ssl: SSLContext | None = None) -> WireServer:
        """Answer what databases ask through dblink, at this address, too; before ``run``. Without the log it is ready while it listens."""
        server = WireServer(self._direct.answer, host=host, port=port, password=password, ssl=ssl)
        self.add(server)
        if not self._by_log:
            self._ready = server.listening
        return server

    def add(self, part: Part) -> None:
        """Have something else done beside; before ``run``."""
        self._parts.append(part)

    def metrics(self) -> Mapping[str, float]:
        """What it has done so far and what it is doing, by name."""
        found = {**self.counts.as_dict(), "leads": float(self.leads)}
        if self._watching is not None:
            found |= self._watching.counts()
        return found

    @property
    def counts(self) -> WorkerCounts:
        """What it has done so far."""
        return self._answering.counts

    @property
    def leads(self) -> bool:
        """Whether it is the one that answers."""
        return self._answering.leads

    @property
    def ready(self) -> asyncio.Event:
        """Set while it is there for callers: while it reads the log, or, without that, while it listens."""
        return self._ready

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until ``stop`` is set. What is being embedded then is still answered.

        Raises:
            BackendUnavailable: the database does not answer at the beginning; later it is waited for.
            BackendError: the database is not set up for a worker.
        """
        try:
            async with asyncio.TaskGroup() as group:
                for part in self._parts:
                    group.create_task(part.run(stop))
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None


class WorkerThread:
    """A worker in a thread with an event loop of its own, for a program that has something else to do."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._ready: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, name="likewise-worker", daemon=True)

    def start(self, seconds: float = 30.0) -> Self:
        """Start, and return when callers are answered.

        Raises what ``Worker.run`` raises at the beginning, and ``BackendUnavailable`` if it takes longer than ``seconds``: transactions
        that were writing when it started are waited for by the server.
        """
        self._thread.start()
        try:
            self._ready.result(seconds)
        except TimeoutError:
            self.close()
            raise BackendUnavailable(
                f"the worker was not ready in {seconds:g} s: a transaction that writes and does not end keeps it from reading the log"
            ) from None
        return self

    def _run(self) -> None:
        try:
            # Of sockets that libpq has opened this kind of loop can be told on every system.
            with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
                runner.run(self._serve())
        except BaseException as error:  # noqa: BLE001 -- carried over to who started the thread, or logged
            if self._ready.done():
                _log.critical("the worker ended", exc_info=error)
            else:
                self._ready.set_exception(error)

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        announcing = asyncio.create_task(self._announce())
        try:
            await self.worker.run(self._stop)
        finally:
            announcing.cancel()

    async def _announce(self) -> None:
        await self.worker.ready.wait()
        self._ready.set_result(None)

    def close(self) -> None:
        """Stop after what is being embedded; the thread has ended when this returns. Does nothing the second time."""
        loop, stop = self._loop, self._stop
        if loop is not None and stop is not None:
            with contextlib.suppress(RuntimeError):  # The loop has ended by itself.
                loop.call_soon_threadsafe(stop.set)
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
