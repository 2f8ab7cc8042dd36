"""The collections of watched tables: making them, and embedding rows for them. What is written, and when, is decided in ``watching``."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from psycopg import sql

from likewise.abc.blocks import Block
from likewise.abc.embedding_async import AsyncEmbedding
from likewise.abc.runs import Run
from likewise.abc.specs import EmbedderResolver
from likewise.backends.postgres import AsyncPostgresStore
from likewise.backends.postgres._ddl import default_vector_index
from likewise.backends.postgres._table import Table
from likewise.errors import CollectionNotFound, DimensionMismatch, InvalidArgument, InvalidRecord, UnsupportedFeature
from likewise.records import Record
from likewise.schema import CollectionSpec
from likewise.worker._guarded import Guarded
from likewise.worker._watching import Prepared, Row, Watch, records_of
from likewise.worker.connections import Connections
from likewise.worker.pictures import Pictures

if TYPE_CHECKING:
    from likewise.backends.postgres.collection_async import AsyncPostgresCollection

__all__ = ["Opened", "WatchedCollections"]

_BLOCK_ROWS = 500


@dataclass(frozen=True, slots=True)
class Opened:
    """A watch's collection, and what embeds for it."""

    collection: AsyncPostgresCollection
    embedding: AsyncEmbedding

    async def table(self) -> Table:
        """The collection's table, as it was known within the last minute."""
        return await self.collection._table()

    async def index(self) -> None:
        """Build the vector index. Only workers write here, and wait while it is built, so others need not be let in."""
        field = self.collection.spec.vector_fields[""]
        await self.collection.ensure_indexes(vector=default_vector_index(field), concurrently=False)

    async def prepare(
        self,
        found: tuple[Mapping[str, Row], Mapping[str, str]],
        keys: Sequence[str],
        pictures: Pictures,
        threads: Executor,
        *,
        again: bool = True,
    ) -> Prepared:
        """Embed rows as they were read; with ``again`` what is stored already is not embedded again."""
        rows, unread = found
        fingerprints = {key: bytes(row.fingerprint) for key, row in rows.items()}
        prepared = Prepared(keys, fingerprints, unread, errors=dict(unread))
        images = await self._images(rows.values(), prepared, pictures, threads)
        spec = self.collection.spec
        records: list[Record] = []
        owners: list[str] = []
        for key, row in rows.items():
            made = records_of(row, images.get(key), multimodal=bool(spec.multimodal))
            prepared.ids[key] = {record.id for record in made}
            records += made
            owners += [key] * len(made)
        rejected: list[InvalidRecord] = []
        runs = await self.embedding.missing(
            records,
            0,
            spec.vector_fields[""],
            known=self.collection._stored_vectors if again else None,
            rejected=rejected,
        )
        for run in runs:
            prepared.blocks += _sound(run, spec, rejected)
        for error in rejected:
            assert error.position is not None
            key = owners[error.position]
            prepared.ids[key].discard(records[error.position].id)
            prepared.errors.setdefault(key, str(error))
        return prepared

    async def _images(
        self, rows: Iterable[Row], prepared: Prepared, pictures: Pictures, threads: Executor
    ) -> dict[str, bytes]:
        """The pictures of the rows; those that cannot be read are errors of theirs."""
        found: dict[str, bytes] = {}
        loop = asyncio.get_running_loop()

        async def read(row: Row, address: str) -> None:
            try:
                found[row.key] = await loop.run_in_executor(threads, pictures.read, address)
            except InvalidArgument as error:
                prepared.errors[row.key] = str(error)

        waiting = []
        for row in rows:
            if row.image is not None:
                found[row.key] = bytes(row.image)
            elif row.address is not None and row.address.strip():
                waiting.append(read(row, row.address))
        await asyncio.gather(*waiting)
        return found


class WatchedCollections:
    """Opens the collections of watches, and makes those that are not there yet."""

    def __init__(self, conninfo: str, embedders: EmbedderResolver) -> None:
        self._conninfo = conninfo
        self._embedders = embedders
        self._stores: dict[str, AsyncPostgresStore] = {}
        self._opened: dict[int, Opened] = {}
        #: The queue and a comparison of all rows may want one at the same time.
        self._opening = asyncio.Lock()

    def forget(self, watch: Watch) -> None:
        """Open the collection anew the next time."""
        self._opened.pop(watch.id, None)

    async def open(self, watch: Watch, connections: Connections) -> Opened:
        """The collection of a watch, made if it is not there; raises what the model or the database has to say."""
        async with self._opening:
            if watch.id not in self._opened:
                self._opened[watch.id] = await self._open(watch, connections)
            return self._opened[watch.id]

    async def _open(self, watch: Watch, connections: Connections) -> Opened:
        store = self._stores.get(watch.schema_name)
        if store is None:
            store = await AsyncPostgresStore.open(
                self._conninfo, embedders=self._embedders, schema=watch.schema_name, max_connections=3
            )
            self._stores[watch.schema_name] = store
        embedder = self._embedders(watch.model)
        if watch.pictures and "image" not in embedder.card.modalities:
            raise UnsupportedFeature(
                "embedding pictures",
                backend=watch.model,
                hint="watch the table with a model for pictures, for example 'mini' or 'clip'",
            )
        try:
            collection = await store.collection(watch.collection)
            new = False
        except CollectionNotFound:
            spec = CollectionSpec(watch.collection, embedder=watch.model, multimodal=True if watch.pictures else None)
            collection = await store.ensure_collection(spec)
            new = True
        vectors = sql.Identifier(watch.schema_name, watch.collection)
        name = {"watch": watch.id, "vectors": vectors.as_string(None)}
        for row in await connections.fetch("owner", name):
            await connections.writer.execute(
                sql.SQL("GRANT SELECT ON {} TO {} WITH GRANT OPTION").format(vectors, sql.Identifier(row["owner"]))
            )
        if new and watch.stage is None:
            # The collection was dropped by hand: everything is to be embedded again.
            await connections.run("restart", {"watch": watch.id})
        known = collection.embedder
        assert known is not None
        return Opened(collection, AsyncEmbedding(Guarded(known), collection=watch.collection))

    async def aclose(self) -> None:
        """Let go of the connections."""
        stores = list(self._stores.values())
        self._stores.clear()
        self._opened.clear()
        for store in stores:
            await store.aclose()


def _sound(run: Run, spec: CollectionSpec, rejected: list[InvalidRecord]) -> list[Block]:
    """The rows of a run, checked; those that cannot be stored are rejected."""
    try:
        return list(run.blocks(spec, _BLOCK_ROWS))
    except (InvalidRecord, DimensionMismatch) as error:
        if len(run) == 1:
            rejected.append(InvalidRecord(str(error), position=run.position))
            return []
    half = len(run) // 2
    return _sound(run.part(0, half), spec, rejected) + _sound(run.part(half, len(run)), spec, rejected)
