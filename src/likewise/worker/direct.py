"""Answers what is asked over the wire protocol: the models of one database, for whoever knows the worker's password. See ``wire``."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

import numpy as np
from psycopg import AsyncConnection
from psycopg.conninfo import make_conninfo

from likewise._deadline import deadline
from likewise.abc.batching import queries_of
from likewise.abc.embedder import Embedder
from likewise.abc.running_async import run_blocking, run_together
from likewise.backends.postgres._errors import translating
from likewise.errors import InvalidArgument, ModelNotAvailable, UnsupportedFeature
from likewise.worker._messages import Kind
from likewise.worker._sql import statement
from likewise.worker._statement import WireRequest
from likewise.worker.lanes import digest_of, identity_of, key_of, shown_identity
from likewise.worker.metrics import WorkerCounts

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Direct", "another_model", "not_offered"]

#: How many vectors are remembered in the process. Sessions reach several databases, or a standby, so they are in no table.
_MOST_REMEMBERED = 10_000


class Direct:
    """Has the models of a database embed what single callers ask for; what comes while one is busy goes into its next call together."""

    def __init__(
        self,
        conninfo: str,
        *,
        embedders: Callable[[str], Embedder],
        models: Collection[str] = (),
        counts: WorkerCounts,
    ) -> None:
        self._conninfo = conninfo
        self._embedders = embedders
        self._models = frozenset(models)
        self._counts = counts
        self._offered: frozenset[str] = frozenset()
        self._offered_at = -1e9
        self._asking = asyncio.Lock()
        self._known: OrderedDict[tuple[str, bytes], NDArray[np.float32]] = OrderedDict()

    async def answer(self, request: WireRequest) -> NDArray[np.float32]:
        """The vector of what is asked for: float32 of shape (dimension,).

        ``ModelNotAvailable`` if the model is not offered or is another one than the caller knows, ``UnsupportedFeature`` if it does not know
        pictures, and what the model raises.
        """
        self._counts.requests += 1
        name = request.model if isinstance(request.model, str) else request.model[0]
        await self._check_offered(name)
        embedder = await run_blocking(self._embedders, name)
        card = embedder.card
        identity = request.identity if isinstance(request.model, str) else request.model
        if identity is not None and identity != identity_of(card):
            raise another_model(identity, embedder, name)
        kind: Kind = request.kind
        if kind not in card.modalities:
            raise UnsupportedFeature("embedding pictures" if kind == "image" else "embedding texts", backend=card.name)
        key = key_of(card, kind), digest_of(request.input)
        known = self._known.get(key)
        if known is not None:
            self._known.move_to_end(key)
            self._counts.remembered += 1
            return known
        vector = await self._embed(embedder, request)
        self._known[key] = vector
        if len(self._known) > _MOST_REMEMBERED:
            self._known.popitem(last=False)
        self._counts.answered += 1
        return vector

    async def _embed(self, embedder: Embedder, request: WireRequest) -> NDArray[np.float32]:
        began = time.perf_counter()
        self._counts.batches += 1
        with deadline(request.within):
            if isinstance(request.input, bytes):
                rows = await run_blocking(embedder.embed_images, [request.input])
            else:
                rows = await run_together(queries_of(embedder), embedder.embed_queries, [request.input])
        self._counts.model_seconds += time.perf_counter() - began
        if rows.shape != (1, embedder.card.dimension) or not np.isfinite(rows).all():
            raise InvalidArgument(
                "the model gave a vector that is not of finite numbers, or not as long as its card says"
            )
        row: NDArray[np.float32] = rows[0]
        return row

    async def _check_offered(self, name: str) -> None:
        if name in self._models or name in self._offered:
            return
        async with self._asking:
            if name not in self._offered and time.monotonic() - self._offered_at > 1:
                with translating():
                    async with await AsyncConnection.connect(
                        make_conninfo(self._conninfo, application_name="likewise worker", connect_timeout=5),
                        autocommit=True,
                    ) as connection:
                        cursor = await connection.execute(statement("models"))
                        self._offered = frozenset(row[0] for row in await cursor.fetchall())
                        self._offered_at = time.monotonic()
        if name not in self._offered:
            raise not_offered(name, self._offered | self._models)


def not_offered(name: str, offered: Collection[str]) -> ModelNotAvailable:
    """Whoever may ask a worker does not decide what models its machine loads."""
    return ModelNotAvailable(
        f"the worker does not offer the model {name!r:.80}; it offers {', '.join(sorted(offered))}. Others are named when it is started: "
        "likewise worker --model NAME",
        model=name,
    )


def another_model(identity: tuple[object, ...], embedder: Embedder, name: str) -> ModelNotAvailable:
    """The caller's vectors are not comparable with this model's."""
    return ModelNotAvailable(
        f"the vectors that are searched are by the model {shown_identity(identity)}; "
        f"the worker has {shown_identity(identity_of(embedder.card))}",
        model=name,
    )
