"""Answers ``embed()``: reads the requests from the log, has models embed them, stores the vectors, and wakes the callers.

Every worker reads every request; one of them, which holds an advisory lock, answers. The others keep what nobody has answered yet, so that
whoever takes over when that one dies has its requests too. ``likewise.ask`` is the other side of this.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.conninfo import make_conninfo

from likewise.abc.embedder import Embedder
from likewise.abc.running_async import run_blocking
from likewise.backends.postgres._errors import translating
from likewise.errors import InvalidArgument, LikewiseError, UnsupportedFeature
from likewise.worker._messages import LogMessage, Request, Used, read_request, read_used
from likewise.worker._sql import statement
from likewise.worker.direct import another_model, not_offered
from likewise.worker.lanes import Answer, Lane, Refusal, digest_of, identity_of, refusal
from likewise.worker.metrics import WorkerCounts
from likewise.worker.post import Post
from likewise.worker.stream import LogStream

__all__ = ["Answering"]

_log = logging.getLogger("likewise.worker")

REQUEST, USED, CHANGED = "likewise.embed", "likewise.used", "likewise.changed"
#: How often a worker that does not answer tries to become the one that does.
TRY_SECONDS = 0.2
SEEN_SECONDS = 5.0
#: How many vectors are remembered, and after how many new ones the table is cut back to that.
MOST_REMEMBERED = 100_000
_EVICT_EVERY = 2_000
#: How many requests are kept until they are answered, and how many bytes of them.
_MOST_KEPT, _MOST_KEPT_BYTES = 20_000, 256_000_000
#: Before PostgreSQL 17: how often somebody looks whether messages wait to be flushed.
_FLUSH_SECONDS = 0.01
_FLUSHES_ITSELF = 170_000
#: Seconds until a lost connection is made again, twice as many each time, up to the most; one that has lasted so long was a good one.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0
_WELL_SECONDS = 10.0


class Answering:
    """One worker's part in answering; ``run`` serves until it is told to stop.

    ``models`` are offered beside those of the database's collections and its default. ``remember`` is how many vectors are kept in the
    database. ``changed`` is called when a transaction has committed that changed rows of a watched table.
    """

    def __init__(
        self,
        conninfo: str,
        *,
        embedders: Callable[[str], Embedder],
        models: Collection[str] = (),
        counts: WorkerCounts | None = None,
        remember: int = MOST_REMEMBERED,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self.conninfo = conninfo
        self.embedders = embedders
        self.models = frozenset(models)
        self.remember = remember
        self.changed = changed
        self.counts = WorkerCounts() if counts is None else counts
        self.number = uuid.uuid4()
        self.started_at = datetime.now(UTC)
        #: Whether this worker is the one that answers.
        self.leads = False
        #: Set while requests are read: by the one that answers, and by those that would take over.
        self.ready = asyncio.Event()

    async def run(self, stop: asyncio.Event) -> None:
        """Answer until ``stop`` is set; then what models are at work on is still answered. A lost connection is made again.

        Raises:
            BackendError: at the beginning, if the database is not set up for it; the text says what is missing. Once it has been ready,
                nothing ends it but ``stop``: what goes wrong is logged, and it connects again, after a pause.
        """
        began = False
        pause = _FIRST_PAUSE
        while not stop.is_set():
            connected_at = time.monotonic()
            try:
                await self._serve(stop)
            except Exception as error:
                # A session sets ``ready``, and nobody but this method clears it: so the first one tells its faults from those before it.
                began = began or self.ready.is_set()
                if not began:
                    raise
                self.counts.reconnected += 1
                if isinstance(error, LikewiseError):
                    _log.warning("the worker lost the database, and connects again: %s", error)
                else:
                    _log.exception("the worker failed, and connects again")
            if time.monotonic() - connected_at > _WELL_SECONDS:
                pause = _FIRST_PAUSE
            self.leads = False
            self.ready.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await stop.wait()
            pause = min(_LONGEST_PAUSE, 2 * pause)

    async def _serve(self, stop: asyncio.Event) -> None:
        """One connection's time. The server may take long to let the log be read; ``stop`` is heard meanwhile."""
        session = asyncio.create_task(_Session(self).serve(stop))
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({session, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not session.done() and not self.ready.is_set():
                session.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await session
        finally:
            stopping.cancel()
            session.cancel()


class _Session:
    """The time of one connection."""

    def __init__(self, part: Answering) -> None:
        self._part = part
        self._counts = part.counts
        #: Requests that are not answered, by their numbers, with the moment in which their callers go.
        self._open: OrderedDict[UUID, tuple[Request, float]] = OrderedDict()
        self._open_bytes = 0
        self._lanes: dict[str, Lane] = {}
        self._opening: dict[str, list[tuple[Request, float]]] = {}
        self._offered: frozenset[str] = frozenset()
        self._offered_at = -1e9
        self._outbox: asyncio.Queue[tuple[Sequence[Answer], Sequence[Refusal], Sequence[UUID]]] = asyncio.Queue()
        self._used: set[Used] = set()
        self._stored = 0

    async def serve(self, stop: asyncio.Event) -> None:
        """Until ``stop``, or until the connection is lost: then it raises."""
        part = self._part
        async with await Post.open(part.conninfo) as post:
            self._post = post
            async with LogStream(part.conninfo, frozenset({REQUEST, USED, CHANGED})) as stream:
                await post.be_there()
                _log.info("reading requests", extra={"slot": stream.slot})
                try:
                    async with asyncio.TaskGroup() as group:
                        self._group = group
                        reading = [group.create_task(self._read(stream)), group.create_task(self._lead())]
                        serving = [group.create_task(self._write()), group.create_task(self._be_seen())]
                        part.ready.set()
                        await stop.wait()
                        # What models are at work on is answered still; what only waits is left to others, who have it too.
                        for task in reading:
                            task.cancel()
                        await asyncio.gather(*(lane.finish() for lane in self._lanes.values()))
                        await self._outbox.join()
                        for task in serving:
                            task.cancel()
                except BaseExceptionGroup as errors:
                    raise _first(errors) from errors
            await post.fetch("leave", {"id": part.number})

    # --- from the log to a model --------------------------------------------------------------------------------------------------

    async def _read(self, stream: LogStream) -> None:
        async for messages in stream.messages():
            for message in messages:
                self._receive(message)
            self._counts.waiting = len(self._open)

    def _receive(self, message: LogMessage) -> None:
        if message.prefix == CHANGED:
            self._part.changed()
            return
        try:
            if message.prefix == USED:
                used = read_used(message.content)
                if self._part.leads:
                    self._used.add(used)
                return
            request = read_request(message.content)
        except InvalidArgument as error:
            self._counts.malformed += 1
            if self._counts.malformed <= 10:
                _log.warning("a message was ignored: %s", error)
            return
        if request.number in self._open:
            return
        ends_at = time.monotonic() + request.within
        self._open[request.number] = (request, ends_at)
        self._open_bytes += len(request.input)
        if self._part.leads and self._too_many():
            # Of those that wait in lanes none can be taken back, so the new ones have to go.
            self._outbox.put_nowait(([], [_too_busy(request.number)], []))
        elif self._part.leads:
            self._dispatch(request, ends_at)
        else:
            self._forget_old()

    def _forget_old(self) -> None:
        """The oldest, if their callers have gone or they are too many."""
        now = time.monotonic()
        for number, (_, ends_at) in list(self._open.items())[:2]:
            if ends_at <= now or self._too_many():
                self._close([number])

    def _too_many(self) -> bool:
        return len(self._open) > _MOST_KEPT or self._open_bytes > _MOST_KEPT_BYTES

    def _close(self, numbers: Sequence[UUID]) -> None:
        for number in numbers:
            found = self._open.pop(number, None)
            if found is not None:
                self._open_bytes -= len(found[0].input)

    def _dispatch(self, request: Request, ends_at: float) -> None:
        self._counts.requests += 1
        lane = self._lanes.get(request.model)
        if lane is not None:
            self._hand(lane, request, ends_at)
            return
        waiting = self._opening.get(request.model)
        if waiting is None:
            waiting = self._opening[request.model] = []
            self._group.create_task(self._open_lane(request.model))
        waiting.append((request, ends_at))

    async def _open_lane(self, name: str) -> None:
        """Find the model, and hand it the requests that came for it meanwhile."""
        embedder = await self._embedder(name)
        if isinstance(embedder, Exception):
            refused = [refusal(request.number, embedder) for request, _ in self._opening.pop(name)]
            await self._deliver([], refused, [])
            return
        await self._post.introduce(name, embedder.card)
        lane = self._lanes[name] = Lane(embedder, self._deliver, self._counts)
        self._group.create_task(lane.run())
        for request, ends_at in self._opening.pop(name):
            self._hand(lane, request, ends_at)

    async def _embedder(self, name: str) -> Embedder | Exception:
        """The model of this name, or why there is none. Raised is only what the database has to say: then the connection is lost."""
        if not await self._offers(name):
            return not_offered(name, self._offered | self._part.models)
        try:
            embedder = await run_blocking(self._part.embedders, name)
            identity_of(embedder.card)  # What is no model at all fails here, and not where it is used.
        except LikewiseError as error:
            return error
        except Exception as error:  # noqa: BLE001 -- who makes models may raise anything; the callers are told, and the worker goes on
            _log.exception("the model %r cannot be made", name, extra={"model": name})
            return error
        return embedder

    async def _offers(self, name: str) -> bool:
        """Whoever may call ``embed()`` does not decide what models the worker's machine loads."""
        if name in self._part.models or name in self._offered:
            return True
        if time.monotonic() - self._offered_at > 1:
            self._offered, self._offered_at = await self._post.offered(), time.monotonic()
        return name in self._offered

    def _hand(self, lane: Lane, request: Request, ends_at: float) -> None:
        card = lane.embedder.card
        error: LikewiseError | None = None
        if request.identity is not None and request.identity != identity_of(card):
            error = another_model(request.identity, lane.embedder, request.model)
        elif request.kind not in card.modalities:
            what = "pictures" if request.kind == "image" else "texts"
            error = UnsupportedFeature(f"embedding {what}", backend=card.name)
        if error is None:
            lane.add(request, digest_of(request.input), ends_at)
        else:
            self._outbox.put_nowait(([], [refusal(request.number, error)], []))

    # --- from a model to the callers ----------------------------------------------------------------------------------------------

    async def _deliver(self, answers: Sequence[Answer], refusals: Sequence[Refusal], done: Sequence[UUID]) -> None:
        self._outbox.put_nowait((answers, refusals, done))

    async def _write(self) -> None:
        """Store what models have done; what comes while that is stored goes together."""
        while True:
            batches = [await self._outbox.get()]
            while not self._outbox.empty():
                batches.append(self._outbox.get_nowait())
            answers = [answer for batch in batches for answer in batch[0]]
            refusals = [refusal for batch in batches for refusal in batch[1]]
            if answers or refusals:
                await self._post.store(answers, refusals)
            done = [number for batch in batches for number in batch[2]]
            self._close(done)
            self._close([refusal.request for refusal in refusals])
            self._counts.answered += len(answers)
            self._counts.refused += len(refusals)
            self._counts.waiting = len(self._open)
            self._stored += len(answers)
            for _ in batches:
                self._outbox.task_done()

    # --- one answers, all are seen ------------------------------------------------------------------------------------------------

    async def _lead(self) -> None:
        while not await self._post.try_to_lead():  # noqa: ASYNC110 -- the lock is another process's
            await asyncio.sleep(TRY_SECONDS)
        for name in await self._post.known_models():
            # What the names stand for may have changed since another worker said it.
            embedder = await self._embedder(name)
            if not isinstance(embedder, Exception):
                await self._post.introduce(name, embedder.card)
        await self._forget_what_is_answered()
        self._answer_what_is_open()
        self._counts.took_over += 1
        _log.info("this worker answers now")
        await self._post.be_seen(self._part.number, self._part.started_at, self._counts, leads=True)
        if self._post.version < _FLUSHES_ITSELF:
            await self._flush()

    async def _forget_what_is_answered(self) -> None:
        """Of the requests that came while another worker answered."""
        keys = {number: _key(request) for number, (request, _) in self._open.items() if request.identity is not None}
        there = await self._post.remembered(set(keys.values()))
        self._close([number for number, key in keys.items() if key in there])

    def _answer_what_is_open(self) -> None:
        """What the one before has not answered. From here on requests are dispatched as they come.

        Nothing may be awaited in here, so that none is left out and none taken twice.
        """
        self._part.leads = True
        now = time.monotonic()
        for request, ends_at in list(self._open.values()):
            if ends_at > now:
                self._dispatch(request, ends_at)
            else:
                self._close([request.number])

    async def _be_seen(self) -> None:
        part = self._part
        evicted = -_EVICT_EVERY
        while True:
            await self._post.be_seen(part.number, part.started_at, self._counts, leads=part.leads)
            if part.leads:
                used, self._used = self._used, set()
                if used:
                    await self._post.note_used(used)
                if self._stored - evicted >= _EVICT_EVERY:
                    evicted = self._stored
                    await self._post.evict(part.remember)
                await self._post.fetch("tidy")
            else:
                self._used.clear()
            await asyncio.sleep(SEEN_SECONDS)

    async def _flush(self) -> None:
        """Has messages leave that nobody flushes: for servers before PostgreSQL 17."""
        with translating():
            async with await AsyncConnection.connect(
                make_conninfo(self._part.conninfo, application_name="likewise worker (flush)"), autocommit=True
            ) as connection:
                await connection.execute("set synchronous_commit = local")
                while True:
                    await connection.execute(statement("flush"))
                    await asyncio.sleep(_FLUSH_SECONDS)


def _key(request: Request) -> tuple[str, bytes]:
    """Under what the vector of a request is remembered, if the model is the one that its caller knows."""
    identity = [*(request.identity or ()), *(["image"] if request.kind == "image" else [])]
    return json.dumps(identity, ensure_ascii=False), digest_of(request.input)


def _too_busy(number: UUID) -> Refusal:
    return Refusal(
        number, "53000", "the worker has more requests than it can keep", "ask for less at a time, or again later"
    )


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first error that is no group, ours before others."""
    flat: list[BaseException] = []
    for error in errors.exceptions:
        flat.append(_first(error) if isinstance(error, BaseExceptionGroup) else error)
    return next((error for error in flat if isinstance(error, LikewiseError)), flat[0])
