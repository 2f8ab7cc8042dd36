"""Embeds what records and queries give in place of vectors, by the collection's embedder and off the event loop."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from likewise.abc.batching import passages_of, queries_of
from likewise.abc.digests import StoredVector, Wanted, digest_of, reusable, take_digests, wanted_of
from likewise.abc.embedder import Embedder, Modality
from likewise.abc.query_cache import cache_of
from likewise.abc.running_async import run_blocking, run_together
from likewise.abc.runs import Run, checked_rows, refusal, runs, split, storable_id
from likewise.errors import InvalidArgument, InvalidRecord, UnsupportedFeature
from likewise.records import Record
from likewise.schema import VectorField

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["AsyncEmbedding", "AsyncKnown", "AsyncSharedQueries"]

#: Finds, of some ids, what is stored of the collection's own vector and what it was embedded from.
AsyncKnown: TypeAlias = Callable[[list[str]], Awaitable[Mapping[str, StoredVector]]]


class AsyncSharedQueries(ABC):
    """Vectors of queries that are remembered where other processes find them too. Neither method raises for a cache that is out of order."""

    @abstractmethod
    async def get(self, embedder: Embedder, text: str) -> NDArray[np.float32] | None:
        """The query's vector of shape (dimension,), None if it is not remembered."""

    @abstractmethod
    async def put(self, embedder: Embedder, text: str, vector: NDArray[np.float32]) -> None:
        """Remember the query's vector."""


#: So many passages, and fewer, are embedded together with those of others who write at the same time.
FEW = 8


class AsyncEmbedding:
    """What embeds for one collection; without an embedder every call but ``missing`` is an ``InvalidArgument``."""

    def __init__(self, embedder: Embedder | None, *, collection: str) -> None:
        self.embedder = embedder
        #: Where queries are remembered beyond this process, if anywhere.
        self.shared: AsyncSharedQueries | None = None
        self._collection = collection

    async def query(self, text: str) -> NDArray[np.float32]:
        """The vector of a text that searches, of shape (dimension,); remembered for the next time."""
        embedder = self._need("texts")
        cache = cache_of(embedder)
        # What is not text is for the model to name.
        shared = self.shared if isinstance(text, str) else None
        vector = cache.get(text) if isinstance(text, str) else None
        if vector is None and shared is not None:
            vector = await shared.get(embedder, text)
            if vector is not None:
                cache.put(text, vector)
        if vector is None:
            # What is not text goes alone. A copy: a model may use its array again.
            if isinstance(text, str):
                rows = await run_together(queries_of(embedder), embedder.embed_queries, [text])
            else:
                rows = await run_blocking(embedder.embed_queries, [text])
            vector = rows[0].copy()
            vector.flags.writeable = False
            # What is not finite is refused by the search, and may be another the next time.
            if math.isfinite(vector.min()) and math.isfinite(vector.max()):
                cache.put(text, vector)
                if shared is not None:
                    await shared.put(embedder, text, vector)
        return vector

    async def queries(self, modality: Modality, queries: Sequence[Any]) -> NDArray[np.float32]:
        """Vectors of many texts or pictures that search, of shape (queries, dimension); none is remembered."""
        if modality == "image":
            return await self.images(queries)
        return await run_blocking(self._need("texts").embed_queries, queries)

    async def texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of texts that are to be found, of shape (texts, dimension)."""
        embedder = self._need("texts")
        if len(texts) <= FEW and all(isinstance(text, str) for text in texts):
            return await run_together(passages_of(embedder), embedder.embed_passages, texts)
        return await run_blocking(embedder.embed_passages, texts)

    async def images(self, images: Sequence[Any]) -> NDArray[np.float32]:
        """Vectors of shape (images, dimension)."""
        return await run_blocking(self._need("pictures").embed_images, images)

    async def missing(
        self,
        batch: Sequence[Record],
        position: int,
        field: VectorField | None,
        *,
        known: AsyncKnown | None = None,
        rejected: list[InvalidRecord] | None = None,
    ) -> list[Run]:
        """The records, those without a vector given that of their picture or else their text; ``position`` is the first's place.

        ``field`` is the collection's own vector. ``known`` finds what is stored: the vector of a text or picture that has not changed
        is taken from there. A record that cannot be embedded is an ``InvalidRecord``; with ``rejected`` it is put there and left out.
        """
        embedder = self.embedder
        wanted = wanted_of(batch)
        if embedder is None or field is None or not wanted:
            return [Run(list(batch), position)]
        await run_blocking(take_digests, wanted, embedder)
        vectors = await self._unchanged(batch, wanted, field, known)
        bad: dict[int, InvalidRecord] = {}
        kinds: tuple[Literal["text", "image"], ...] = ("text", "image")
        for kind in kinds:
            left = [w for w in wanted if w.kind == kind and w.place not in vectors]
            found, problems = await self._embedded(kind, left, first_only=rejected is None)
            vectors |= found
            for place, error in problems.items():
                bad[place] = refusal(batch[place], position + place, kind, error)
                if rejected is None:
                    raise bad[place] from error
        if rejected is not None:
            rejected += [bad[place] for place in sorted(bad)]
        digests: list[bytes | None] = [None] * len(batch)
        for w in wanted:
            vector = vectors.get(w.place)
            if vector is not None and w.source is not None and vector.shape == (field.dimension,) and w.is_as_it_was():
                digests[w.place] = digest_of(w.source, vector, field)
        placed = [replace(record, vector=vectors[i]) if i in vectors else record for i, record in enumerate(batch)]
        return list(runs(placed, digests, position, bad))

    async def _unchanged(
        self, batch: Sequence[Record], wanted: Sequence[Wanted], field: VectorField, known: AsyncKnown | None
    ) -> dict[int, NDArray[np.float32]]:
        """By place, the stored vectors of texts and pictures that are as they were."""
        ids = {w.place: i for w in wanted if w.source is not None and (i := storable_id(batch[w.place])) is not None}
        if known is None or not ids:
            return {}
        stored = await known(list(dict.fromkeys(ids.values())))
        return {
            w.place: before.vector
            for w in wanted
            if (before := stored.get(ids.get(w.place, ""))) is not None and reusable(w, before, field)
        }

    async def _embedded(
        self, kind: Literal["text", "image"], wanted: Sequence[Wanted], *, first_only: bool
    ) -> tuple[dict[int, NDArray[np.float32]], dict[int, InvalidArgument | UnsupportedFeature]]:
        """Vectors by place, what is equal embedded once; and the places that the model finds fault with, or the first it finds."""
        groups: dict[object, list[Wanted]] = {}
        for w in wanted:
            groups.setdefault(w.source or w.place, []).append(w)
        vectors: dict[int, NDArray[np.float32]] = {}
        problems: dict[int, InvalidArgument | UnsupportedFeature] = {}
        waiting = [list(groups.values())] if groups else []
        while waiting and not (problems and first_only):
            part = waiting.pop()
            values = [group[0].value for group in part]
            try:
                given = await (self.texts(values) if kind == "text" else self.images(values))
            except InvalidArgument as error:
                blamed = part[0] if len(part) == 1 else None
                if blamed is None and first_only and error.position is not None and 0 <= error.position < len(part):
                    blamed = part[error.position]
                if blamed is None:
                    waiting += split(part, error.position)
                else:
                    problems |= {w.place: error for w in blamed}
            except UnsupportedFeature as error:
                problems |= {w.place: error for group in part for w in group}
            else:
                assert self.embedder is not None
                for group, row in zip(part, checked_rows(given, len(part), self.embedder.card), strict=True):
                    vectors |= {w.place: row for w in group}
        return vectors, problems

    def _need(self, what: str) -> Embedder:
        if self.embedder is None:
            raise InvalidArgument(
                f"collection {self._collection!r} has no embedder, so {what} cannot be embedded: create it with "
                "CollectionSpec(…, embedder='mini'), or give vectors"
            )
        return self.embedder
