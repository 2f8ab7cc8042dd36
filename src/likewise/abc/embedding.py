# Generated from src/likewise/abc/embedding_async.py by tools/async_to_sync.py; edit that file instead.
"""Embeds what records and queries give in place of vectors, by the collection's embedder and off the event loop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from likewise.abc.batching import passages_of, queries_of
from likewise.abc.embedder import Embedder
from likewise.abc.query_cache import cache_of
from likewise.abc.running import run_blocking, run_together
from likewise.errors import InvalidArgument, InvalidRecord
from likewise.records import Record

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Embedding"]

#: So many passages, and fewer, are embedded together with those of others who write at the same time.
FEW = 8


class Embedding:
    """What embeds for one collection; without an embedder every call but ``missing`` is an ``InvalidArgument``."""

    def __init__(self, embedder: Embedder | None, *, collection: str) -> None:
        self.embedder = embedder
        self._collection = collection

    def query(self, text: str) -> NDArray[np.float32]:
        """The vector of a text that searches, of shape (dimension,); remembered for the next time."""
        embedder = self._need("texts")
        cache = cache_of(embedder)
        # What is not text is for the model to name.
        vector = cache.get(text) if isinstance(text, str) else None
        if vector is None:
            # What is not text goes alone. A copy: a model may use its array again.
            if isinstance(text, str):
                rows = run_together(queries_of(embedder), embedder.embed_queries, [text])
            else:
                rows = run_blocking(embedder.embed_queries, [text])
            vector = rows[0].copy()
            vector.flags.writeable = False
            cache.put(text, vector)
        return vector

    def texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of texts that are to be found, of shape (texts, dimension)."""
        embedder = self._need("texts")
        if len(texts) <= FEW and all(isinstance(text, str) for text in texts):
            return run_together(passages_of(embedder), embedder.embed_passages, texts)
        return run_blocking(embedder.embed_passages, texts)

    def images(self, images: Sequence[Any]) -> NDArray[np.float32]:
        """Vectors of shape (images, dimension)."""
        return run_blocking(self._need("pictures").embed_images, images)

    def missing(self, batch: Sequence[Record], position: int) -> Sequence[Record]:
        """The records, those without a vector given that of their picture or else their text; ``position`` is the first's place."""
        if self.embedder is None:
            return batch
        texts: list[int] = []
        images: list[int] = []
        for i, record in enumerate(batch):
            if isinstance(record, Record) and record.vector is None:
                if record.image is not None:
                    images.append(i)
                elif isinstance(record.content, str):
                    texts.append(i)
        if not texts and not images:
            return batch
        result = list(batch)
        for places, kind in ((texts, "text"), (images, "image")):
            if not places:
                continue
            try:
                if kind == "text":
                    vectors = self.texts([batch[i].content or "" for i in places])
                else:
                    vectors = self.images([batch[i].image for i in places])
            except InvalidArgument as error:
                first = position + places[0]
                raise InvalidRecord(
                    f"records {first} to {position + places[-1]} could not be embedded: {error}", position=first
                ) from error
            for i, vector in zip(places, vectors, strict=True):
                result[i] = replace(batch[i], vector=vector)
        return result

    def _need(self, what: str) -> Embedder:
        if self.embedder is None:
            raise InvalidArgument(
                f"collection {self._collection!r} has no embedder, so {what} cannot be embedded: create it with "
                "CollectionSpec(…, embedder='mini'), or give vectors"
            )
        return self.embedder
