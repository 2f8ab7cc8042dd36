"""Requests on their way to a model: what comes while it is busy goes into its next call together. One lane for each model.

No SQL here: a lane takes requests and gives answers, which ``answering`` stores.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias
from uuid import UUID

import numpy as np

from likewise._deadline import deadline
from likewise.abc.batching import queries_of
from likewise.abc.embedder import Embedder, ModelCard
from likewise.abc.models import model_key
from likewise.abc.running_async import run_blocking, run_together
from likewise.errors import InvalidArgument, LikewiseError, UnsupportedFeature
from likewise.worker._messages import Kind, Request
from likewise.worker._statement import wire_error
from likewise.worker.metrics import WorkerCounts

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Answer", "Lane", "Refusal", "digest_of", "identity_of", "key_of", "refusal", "shown_identity"]

_log = logging.getLogger("likewise.worker")

#: How many texts go into one call of a model, and how many pictures.
MOST: dict[Kind, int] = {"text": 64, "image": 16}
#: How many characters of an error its caller is told.
MOST_SAID = 2_000

Outcome: TypeAlias = "NDArray[np.float32] | Exception"


@dataclass(frozen=True, slots=True)
class Answer:
    """A vector to be remembered: under which model, and the digest of what it is of."""

    model: str
    digest: bytes
    vector: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a caller gets no vector."""

    request: UUID
    sqlstate: str
    message: str
    hint: str | None


@dataclass(slots=True)
class _Item:
    """One text or picture, for all who want it."""

    kind: Kind
    input: str | bytes
    digest: bytes
    ends_at: float
    requests: list[UUID] = field(default_factory=list)


def identity_of(card: ModelCard) -> tuple[str, str, int, str]:
    """Which model this is, as callers know it."""
    return card.name, card.revision, card.dimension, card.query_prompt


def key_of(card: ModelCard, kind: Kind) -> str:
    """Under which model a vector is remembered; pictures are kept apart from texts."""
    if kind == "text":
        return model_key(card, card.query_prompt)
    return json.dumps([*identity_of(card), "image"], ensure_ascii=False)


def shown_identity(identity: tuple[object, ...]) -> str:
    """An identity in words."""
    return f"{identity[0]!r:.80} in revision {identity[1]!r:.80} with {identity[2]!r:.20} dimensions"


def digest_of(value: str | bytes) -> bytes:
    """What stands for a text or picture in the table of what is remembered."""
    return hashlib.sha256(value.encode() if isinstance(value, str) else value).digest()


def refusal(request: UUID, error: Exception) -> Refusal:
    """What a caller is told of an error: in texts that PostgreSQL can store, whatever a model or a request has put into them."""
    said = wire_error(error, within=0)
    return Refusal(request, said.sqlstate, _storable(said.message), _storable(said.hint) or None)


def _storable(text: str) -> str:
    """The text with each NUL and each half of a surrogate pair written out, cut to ``MOST_SAID`` characters."""
    written = text[:MOST_SAID].replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode()
    return written[:MOST_SAID]


class Lane:
    """The requests for one model."""

    def __init__(
        self,
        embedder: Embedder,
        deliver: Callable[[Sequence[Answer], Sequence[Refusal], Sequence[UUID]], Awaitable[None]],
        counts: WorkerCounts,
    ) -> None:
        self.embedder = embedder
        self._deliver = deliver
        self._counts = counts
        self._waiting: OrderedDict[tuple[Kind, bytes], _Item] = OrderedDict()
        self._under_way: dict[tuple[Kind, bytes], _Item] = {}
        self._some = asyncio.Event()
        self._closing = False
        self._ended = asyncio.Event()

    def add(self, request: Request, digest: bytes, ends_at: float) -> None:
        """Have this embedded; what waits already, or is being embedded, is not embedded again."""
        key = request.kind, digest
        item = self._waiting.get(key) or self._under_way.get(key)
        if item is None:
            self._waiting[key] = item = _Item(request.kind, request.input, digest, ends_at)
            self._some.set()
        else:
            self._counts.remembered += 1
            item.ends_at = max(item.ends_at, ends_at)
        item.requests.append(request.number)

    async def run(self) -> None:
        """Embed what comes until cancelled; in as many calls at a time as a model far away likes, in one where it is here."""
        calls = max(1, self.embedder.calls_at_once) if self.embedder.remote else 1
        async with asyncio.TaskGroup() as group:
            for _ in range(calls):
                group.create_task(self._serve())
        self._ended.set()

    async def finish(self) -> None:
        """Take nothing more, and wait until the calls under way are done and their answers delivered."""
        self._closing = True
        self._some.set()
        await self._ended.wait()

    async def _serve(self) -> None:
        while True:
            await self._some.wait()
            if self._closing:
                return
            batch, late = self._take()
            if not self._waiting:
                self._some.clear()
            if late:
                await self._deliver([], [], late)
            if batch:
                await self._embed(batch)

    def _take(self) -> tuple[list[_Item], list[UUID]]:
        """The next call's: of one kind, the longest waiting first; and the requests that nobody waits for any more."""
        batch: list[_Item] = []
        late: list[UUID] = []
        now = time.monotonic()
        for key, item in list(self._waiting.items()):
            if item.ends_at <= now:
                self._counts.expired += len(item.requests)
                late += item.requests
            elif not batch or (item.kind == batch[0].kind and len(batch) < MOST[item.kind]):
                batch.append(item)
                self._under_way[key] = item
            else:
                continue
            del self._waiting[key]
        return batch, late

    async def _embed(self, batch: list[_Item]) -> None:
        began = time.perf_counter()
        self._counts.batches += 1
        self._counts.largest_batch = max(self._counts.largest_batch, len(batch))
        try:
            outcomes = await self._outcomes(
                batch[0].kind, [item.input for item in batch], max(i.ends_at for i in batch)
            )
        finally:
            for item in batch:
                self._under_way.pop((item.kind, item.digest), None)
        self._counts.model_seconds += time.perf_counter() - began
        key = key_of(self.embedder.card, batch[0].kind)
        answers, refusals, done = [], [], []
        for item, outcome in zip(batch, outcomes, strict=True):
            if isinstance(outcome, Exception):
                refusals += [refusal(number, outcome) for number in item.requests]
            else:
                answers.append(Answer(key, item.digest, outcome))
                done += item.requests
        await self._deliver(answers, refusals, done)

    async def _outcomes(self, kind: Kind, inputs: list[str | bytes], ends_at: float) -> list[Outcome]:
        """A vector or an error for each; one that the model refuses does not harm the others."""
        try:
            # A model of anybody's may answer with something else than it ought to; that is its failure, as any other.
            rows = np.asarray(await self._rows(kind, inputs, ends_at), np.float32)
        except (InvalidArgument, UnsupportedFeature) as error:
            if len(inputs) == 1:
                return [error]
            half = len(inputs) // 2
            first = await self._outcomes(kind, inputs[:half], ends_at)
            return first + await self._outcomes(kind, inputs[half:], ends_at)
        except LikewiseError as error:
            return [error] * len(inputs)
        except Exception as error:  # noqa: BLE001 -- a model may raise anything; its callers are told, and the worker goes on
            _log.exception("a model failed", extra={"model": self.embedder.card.name})
            return [error] * len(inputs)
        if rows.shape != (len(inputs), self.embedder.card.dimension):
            wrong = InvalidArgument(
                f"the model gave vectors of shape {rows.shape}; its dimension is {self.embedder.card.dimension}"
            )
            return [wrong] * len(inputs)
        return [
            row if np.isfinite(row).all() else InvalidArgument("the model gave a vector that is not of finite numbers")
            for row in rows
        ]

    async def _rows(self, kind: Kind, inputs: list[str | bytes], ends_at: float) -> NDArray[np.float32]:
        with deadline(max(0.001, ends_at - time.monotonic())):
            if kind == "image":
                images = [value for value in inputs if isinstance(value, bytes)]
                return await run_blocking(self.embedder.embed_images, images)
            texts = [value for value in inputs if isinstance(value, str)]
            return await run_together(queries_of(self.embedder), self.embedder.embed_queries, texts)
