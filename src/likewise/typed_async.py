"""A collection of domain objects instead of records: ``AsyncTypedCollection``. Asynchronous code; ``typed.py`` is the generated twin.

Everything is said in terms of a collection and a codec; no backend and no driver enters here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any, Generic, TypeVar, cast

from likewise.abc.embedder import ImageInput, Modality
from likewise.abc.stores_async import AsyncCollection, Progress
from likewise.codecs import Codec, DataclassCodec, PydanticCodec, TypedPage, TypedResult, TypedResults
from likewise.filters import Where
from likewise.records import Include, Record, SearchResults, VectorInput

__all__ = [
    "AsyncTypedCollection",
    "Codec",
    "DataclassCodec",
    "PydanticCodec",
    "TypedPage",
    "TypedResult",
    "TypedResults",
]

T = TypeVar("T")

_INCLUDE: Include = ("metadata", "content")


class AsyncTypedCollection(Generic[T]):
    """Objects of one class in a collection: written, read and found as themselves.

    ``codec`` turns an object into a record and back; ``DataclassCodec`` and ``PydanticCodec`` do it for dataclasses and pydantic
    models. What is not here (indexes, recall, searches by several vectors) is done on ``collection``.
    """

    def __init__(self, collection: AsyncCollection, codec: Codec[T]) -> None:
        self._collection = collection
        self._codec = codec

    @property
    def collection(self) -> AsyncCollection:
        """The collection of records underneath."""
        return self._collection

    @property
    def codec(self) -> Codec[T]:
        """What turns objects into records and back."""
        return self._codec

    @property
    def name(self) -> str:
        """The collection's name."""
        return self._collection.name

    # --- writing ----------------------------------------------------------------------------------------------------------------

    async def insert(self, items: T | Iterable[T], *, progress: Progress | None = None) -> int:
        """Store new objects (one, or any iterable of them), all or none; their number.

        ``RecordExists`` if an id is known already; ``InvalidRecord`` for an object that cannot be stored. ``progress`` is told now and
        then how far the call is.
        """
        return await self._collection.insert(self._encode(items), progress=progress)

    async def upsert(self, items: T | Iterable[T], *, progress: Progress | None = None) -> int:
        """Store objects (one, or any iterable of them), replacing those whose id is known, all or none; the number of ids."""
        return await self._collection.upsert(self._encode(items), progress=progress)

    async def delete(self, ids: str | Iterable[str] | None = None, *, where: Where = None) -> int:
        """Delete the objects with these ids, or those that match the filter; how many there were. Give one of the two."""
        return await self._collection.delete(ids, where=where)

    # --- reading ----------------------------------------------------------------------------------------------------------------

    async def get(self, item_id: str, *, include: Include = _INCLUDE) -> T:
        """The object with this id; ``RecordNotFound`` if there is none."""
        return self._codec.decode(await self._collection.get(item_id, include=include))

    async def get_many(self, ids: Iterable[str], *, include: Include = _INCLUDE) -> list[T]:
        """The objects with these ids, each once, in the order of the ids; unknown ids are left out."""
        return [self._codec.decode(r) for r in await self._collection.get_many(ids, include=include)]

    async def count(self, where: Where = None) -> int:
        """How many objects there are, or match the filter."""
        return await self._collection.count(where)

    async def scan(
        self, where: Where = None, *, cursor: str | None = None, limit: int = 100, include: Include = _INCLUDE
    ) -> TypedPage[T]:
        """A page of objects in the order of their ids; ``page.cursor`` asks for the next, and is None on the last."""
        page = await self._collection.scan(where, cursor=cursor, limit=limit, include=include)
        return TypedPage([self._codec.decode(r) for r in page], cursor=page.cursor)

    async def iterate(self, where: Where = None, *, page_size: int = 500) -> AsyncIterator[T]:
        """Every object, or every one that matches the filter, in the order of ids, fetched a page at a time."""
        cursor: str | None = None
        while True:
            page = await self.scan(where, cursor=cursor, limit=page_size)
            for item in page:
                yield item
            cursor = page.cursor
            if cursor is None:
                return

    # --- searching --------------------------------------------------------------------------------------------------------------

    async def search(
        self,
        text: str | None = None,
        *,
        image: ImageInput | None = None,
        like: str | None = None,
        target_modality: Modality | None = None,
        top_k: int = 10,
        where: Where = None,
        max_distance: float | None = None,
        min_score: float | None = None,
        min_similarity: float | None = None,
        include: Include = _INCLUDE,
        exact: bool = False,
        ef_search: int | None = None,
        recall: float | None = None,
    ) -> TypedResults[T]:
        """The objects nearest to a text, to a picture, or to the object whose id is ``like``; as ``AsyncCollection.search``."""
        found = await self._collection.search(
            text,
            image=image,
            like=like,
            target_modality=target_modality,
            top_k=top_k,
            where=where,
            max_distance=max_distance,
            min_score=min_score,
            min_similarity=min_similarity,
            include=include,
            exact=exact,
            ef_search=ef_search,
            recall=recall,
        )
        return self._decode(found)

    async def search_by_vector(
        self,
        vector: VectorInput,
        *,
        top_k: int = 10,
        where: Where = None,
        max_distance: float | None = None,
        min_score: float | None = None,
        using: str | None = None,
        include: Include = _INCLUDE,
        exact: bool = False,
        ef_search: int | None = None,
        recall: float | None = None,
    ) -> TypedResults[T]:
        """The objects nearest to a vector; as ``AsyncCollection.search_by_vector``."""
        found = await self._collection.search_by_vector(
            vector,
            top_k=top_k,
            where=where,
            max_distance=max_distance,
            min_score=min_score,
            using=using,
            include=include,
            exact=exact,
            ef_search=ef_search,
            recall=recall,
        )
        return self._decode(found)

    def using(self, connection: Any) -> AsyncTypedCollection[T]:
        """The same objects inside the caller's transaction."""
        return AsyncTypedCollection(self._collection.using(connection), self._codec)

    def _decode(self, found: SearchResults) -> TypedResults[T]:
        results = [
            TypedResult(self._codec.decode(r.record), r.record, r.distance, r.score, r.similarity, r.rank)
            for r in found
        ]
        return TypedResults(results, complete=found.complete, explanation=found.explain())

    def _encode(self, items: T | Iterable[T]) -> Iterator[Record]:
        # A pydantic model is an iterable of its fields, so the codec's own class is asked for first.
        model = getattr(self._codec, "model", None)
        if (isinstance(model, type) and isinstance(items, model)) or not isinstance(items, Iterable):
            yield self._codec.encode(cast("T", items))
            return
        for item in items:
            yield self._codec.encode(item)
