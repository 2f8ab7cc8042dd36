"""A PostgreSQL database as a store: opening, installing, and the life of collections. The statements are in ``_ddl`` and ``sql/``."""

from __future__ import annotations

import logging
import warnings
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self, cast

import psycopg
from psycopg import AsyncConnection, sql
from psycopg.types.json import Jsonb

from likewise.abc.capabilities import Capabilities, ServerInfo
from likewise.abc.embedder import Embedder
from likewise.abc.models import ModelIdentity, check_model, opened_embedder, stored_model
from likewise.abc.query_cache import QueryCacheUsage
from likewise.abc.running_async import run_apart, run_blocking
from likewise.abc.specs import EmbedderResolver, compare_specs, resolve_spec, settled_spec
from likewise.abc.vector_stores_async import AsyncVectorStore
from likewise.backends.postgres import _ddl, _install
from likewise.backends.postgres._errors import translating
from likewise.backends.postgres._parameters import own_sql
from likewise.backends.postgres._statements import Statement
from likewise.backends.postgres._table import Extension, Server, Table, indexes_from_rows
from likewise.backends.postgres._url import check_url, public_url
from likewise.backends.postgres.borrowed_async import AsyncBorrowedConnection, borrow
from likewise.backends.postgres.collection_async import AsyncPostgresCollection
from likewise.backends.postgres.connection_async import AsyncDatabase, AsyncOwnPool, AsyncSource, rows
from likewise.backends.postgres.query_cache_async import AsyncSharedQueryCache
from likewise.errors import BackendError, CollectionNotFound, LikewiseError, SchemaMismatch, UnsupportedFeature
from likewise.schema import CollectionSpec, check_name

if TYPE_CHECKING:
    from likewise.backends.postgres.embedded import EmbeddedServer

__all__ = ["AsyncPostgresStore"]

_log = logging.getLogger("likewise.backends.postgres")

CAPABILITIES = Capabilities(
    "postgres",
    vector_indexes=frozenset({"hnsw", "ivfflat"}),
    metadata_indexes=True,
    transactions=True,
    durable=True,
)
OLDEST_SERVER = 140_000
OLDEST_EXTENSION = (0, 7)
SOUND_EXTENSION = (0, 8, 4)


class AsyncPostgresStore(AsyncVectorStore):
    """Collections in one schema of one PostgreSQL database."""

    def __init__(
        self,
        database: AsyncDatabase,
        *,
        url: str,
        embedders: EmbedderResolver,
        schema: str = "public",
        server: EmbeddedServer | None = None,
        query_cache: bool | None = None,
    ) -> None:
        self._database = database
        self._url = url
        self._embedders = embedders
        self._schema = check_name(schema, "schema")
        self._server = server
        self._queries = AsyncSharedQueryCache(database, on=query_cache)
        self._closing: list[Callable[[], None]] = []

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        embedders: EmbedderResolver,
        schema: str = "public",
        max_connections: int = 10,
        server: EmbeddedServer | None = None,
        query_cache: bool | None = None,
    ) -> Self:
        """Open a database by its connection string; ``BackendUnavailable`` if it cannot be reached.

        ``server`` is an embedded server that the store leaves when it is closed. ``query_cache`` as for ``connect_async``.
        """
        check_url(url)
        with translating():
            # One connection first, outside the pool: its errors say why, the pool's only that time ran out.
            async with await AsyncConnection.connect(url, autocommit=True, connect_timeout=10) as first:
                shown = public_url(url, first.info)
        pool = AsyncOwnPool(url, max_connections=max_connections)
        await pool.open()
        store = cls(
            AsyncDatabase(pool), url=shown, embedders=embedders, schema=schema, server=server, query_cache=query_cache
        )
        try:
            info = await store.info()
        except BaseException:
            await pool.aclose()
            raise
        for warning in info.warnings:
            warnings.warn(warning, stacklevel=2)
        return store

    @classmethod
    def attach(
        cls, lender: Any, *, embedders: EmbedderResolver, schema: str = "public", query_cache: bool | None = None
    ) -> Self:
        """A store on connections that the caller lends, and keeps."""
        source = borrow(lender)
        return cls(
            AsyncDatabase(source), url="postgresql://", embedders=embedders, schema=schema, query_cache=query_cache
        )

    @property
    def capabilities(self) -> Capabilities:
        return CAPABILITIES

    @property
    def url(self) -> str:
        return self._url

    @property
    def query_cache_usage(self) -> QueryCacheUsage:
        return self._queries.usage

    @property
    def source(self) -> AsyncSource:
        """Where the store's connections come from."""
        return self._database.source

    async def info(self) -> ServerInfo:
        state = await self._state("")
        found = []
        if state["server_version"] < OLDEST_SERVER:
            raise BackendError(f"PostgreSQL {state['server_version_text']} is too old: Likewise needs 14 or newer")
        extension = _extension(state)
        if extension is not None:
            _check_extension(extension)
            if extension.version_tuple < SOUND_EXTENSION:
                found.append(
                    f"pgvector {extension.version} has known faults in parallel index builds and vacuum, which can damage an index "
                    "(mended in 0.8.2 to 0.8.4): ALTER EXTENSION vector UPDATE after installing 0.8.4 or newer"
                )
        return ServerInfo(
            backend="postgres",
            version=state["server_version_text"],
            vector_extension=extension.version if extension else None,
            warnings=tuple(found),
        )

    # --- collections ------------------------------------------------------------------------------------------------------------

    async def ensure_collection(self, spec: CollectionSpec) -> AsyncPostgresCollection:
        spec, embedder = resolve_spec(spec, self._embedders)
        table = await self._as_wanted(spec, embedder)
        if table is None:
            async with self._database.transaction() as connection:
                await self._install(connection)
                await self._create_or_migrate(connection, spec, embedder)
            table = await self._table(spec.name)
        return self._opened(table, embedder)

    async def collection(self, name: str) -> AsyncPostgresCollection:
        table = await self._table(name)
        return self._opened(table, opened_embedder(table.spec, table.model, self._embedders))

    def _opened(self, table: Table, embedder: Embedder | None) -> AsyncPostgresCollection:
        opened = AsyncPostgresCollection(self._database, table, load=self._table, embedder=embedder)
        # Not so the collections that ``using`` makes of it: nothing of ours comes into a caller's transaction.
        opened._embedding.shared = self._queries
        return opened

    async def drop_collection(self, name: str, *, missing_ok: bool = False) -> None:
        known = [spec.name for spec in await self.collections()]
        if name not in known:
            if missing_ok:
                return
            raise CollectionNotFound(name, known=known)
        async with self._database.transaction(collection=name) as connection:
            await connection.execute(_install.LOCK)
            cursor = await connection.execute(own_sql(_install.resource("published.sql")), (self._schema, name))
            for (publication,) in await cursor.fetchall():
                await connection.execute(sql.SQL("DROP PUBLICATION {}").format(sql.Identifier(publication)))
            await connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(sql.Identifier(self._schema, name)))
            await connection.execute(
                "delete from likewise.registry where schema_name = %s and name = %s", (self._schema, name)
            )

    async def collections(self) -> list[CollectionSpec]:
        state = await self._state("")
        if not state["registry_exists"]:
            return []
        found = await self._database.fetch(self._registered(None))
        return [CollectionSpec.from_json(row["spec"]) for row in found]

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[AsyncConnection[Any]]:
        theirs: psycopg.Error | None = None
        try:
            async with self._database.transaction() as connection:
                try:
                    yield connection
                except psycopg.Error as error:
                    # The block's own statements are the caller's: their errors go out as the driver raised them.
                    theirs = error
                    raise
        except LikewiseError as ours:
            if theirs is not None and ours.__cause__ is theirs:
                raise theirs from None
            raise

    def transaction(self) -> AbstractAsyncContextManager[AsyncConnection[Any]]:
        return self._transaction()

    async def install(self) -> None:
        """Bring the database's schema ``likewise`` up to this version: migrations, views, functions. May be called again."""
        async with self._database.transaction() as connection:
            await self._install(connection)

    def close_first(self, close: Callable[[], None]) -> None:
        """Have this called when the store is closed, before anything of the store's own is."""
        self._closing.append(close)

    async def aclose(self) -> None:
        while self._closing:
            await run_apart(self._closing.pop())
        await self._database.aclose()
        if self._server is not None:
            await run_blocking(self._server.close)

    # --- what the catalogue says --------------------------------------------------------------------------------------------------

    def _registered(self, name: str | None) -> Statement:
        text = sql.Composed([own_sql(_install.resource("registered.sql"))])
        return Statement(text, {"schema": self._schema, "name": name}, {})

    def _catalog(self, name: str) -> Statement:
        text = sql.Composed([own_sql(_install.resource("catalog.sql"))])
        return Statement(text, {"schema": self._schema, "name": name}, {})

    async def _state(self, name: str, database: AsyncDatabase | None = None) -> Mapping[str, Any]:
        return (await (database or self._database).fetch(self._catalog(name)))[0]

    async def _table(self, name: str, database: AsyncDatabase | None = None) -> Table:
        """The table as the catalogue has it now, asked by way of the database that is given."""
        state = await self._state(name, database)
        asked = database or self._database
        found = await asked.fetch(self._registered(name)) if state["registry_exists"] else []
        if not found:
            raise CollectionNotFound(name, known=[s.name for s in await self.collections()])
        return self._table_from(state, found[0]["spec"])

    def _table_from(self, state: Mapping[str, Any], registered: Mapping[str, Any]) -> Table:
        spec = CollectionSpec.from_json(registered)
        extension = _extension(state)
        if extension is None:
            raise BackendError(f"collection {spec.name!r} needs the extension pgvector, which this database has lost")
        server = Server(
            state["server_version"],
            state["server_version_text"],
            state["code_point_order"],
            state["lower_collation"],
        )
        return Table(
            self._schema,
            spec,
            server,
            extension,
            indexes_from_rows(state["indexes"] or ()),
            rows=float(state["rows"] or 0),
            embedded=_ddl.has_digests(spec, state["columns"] or ()),
            model=ModelIdentity.from_json(registered.get("model")),
        )

    async def _as_wanted(self, spec: CollectionSpec, embedder: Embedder | None) -> Table | None:
        """The table, if it is just what the specification says: then nothing is locked or written."""
        state = await self._state(spec.name)
        if not state["registry_exists"] or not state["table_exists"]:
            return None
        found = await self._database.fetch(self._registered(spec.name))
        if not found:
            return None
        stored = CollectionSpec.from_json(found[0]["spec"])
        if stored.embedder == spec.embedder:
            check_model(ModelIdentity.from_json(found[0]["spec"].get("model")), embedder, spec)
        try:
            compare_specs(spec, stored)
        except SchemaMismatch:
            if spec.mode == "strict":
                raise
            return None
        if _ddl.table_differences(stored, state["columns"], state["primary_key"]):
            return None
        if spec.mode == "auto_migrate" and _ddl.missing_columns(stored, state["columns"]):
            return None
        return self._table_from(state, found[0]["spec"])

    # --- what changes the database ------------------------------------------------------------------------------------------------

    async def _install(self, connection: AsyncConnection[Any]) -> None:
        await connection.execute(_install.LOCK)
        (state,) = await rows(connection, self._catalog(""))
        extension = _extension(state)
        if extension is None:
            available = await connection.execute("select 1 from pg_available_extensions where name = 'vector'")
            if await available.fetchone() is None:
                raise UnsupportedFeature(
                    "collections in this database",
                    backend="postgres",
                    hint="the server has no pgvector; install it (package postgresql-NN-pgvector, or your provider's switch)",
                )
            await connection.execute("create extension if not exists vector")
            (state,) = await rows(connection, self._catalog(""))
            extension = cast("Extension", _extension(state))
        _check_extension(extension)
        if not state["registry_exists"] or await self._outdated(connection, extension):
            await self._migrate(connection, extension)

    async def _outdated(self, connection: AsyncConnection[Any], extension: Extension) -> bool:
        cursor = await connection.execute(
            "select (select jsonb_object_agg(number, sha256) from likewise.migration),"
            " (select value from likewise.setting where name = 'functions')"
        )
        applied, functions = await cursor.fetchone() or (None, None)
        missing = _install.missing_migrations({int(n): sha256 for n, sha256 in (applied or {}).items()})
        return bool(missing) or functions != _install.functions_hash(extension)

    async def _migrate(self, connection: AsyncConnection[Any], extension: Extension) -> None:
        await connection.execute(_install.PREPARE)
        cursor = await connection.execute("select number, sha256 from likewise.migration")
        for migration in _install.missing_migrations(dict(await cursor.fetchall())):
            await connection.execute(own_sql(migration.text))
            await connection.execute(
                "insert into likewise.migration (number, name, sha256) values (%s, %s, %s)",
                (migration.number, migration.name, migration.sha256),
            )
            _log.info("migration applied", extra={"number": migration.number, "migration": migration.name})
        # Load the extension's library, so that the server knows the settings that the functions name.
        await connection.execute(sql.SQL("select '[1]'::{}").format(extension.type("vector")))
        for function in _install.functions(extension):
            await connection.execute(function)
        cursor = await connection.execute(own_sql(_install.resource("granted.sql")))
        if await cursor.fetchone() == (True,):
            await connection.execute(own_sql(_install.resource("grants.sql")))
        await connection.execute(
            "insert into likewise.setting values ('functions', %s) on conflict (name) do update set value = excluded.value",
            (_install.functions_hash(extension),),
        )

    async def _create_or_migrate(
        self, connection: AsyncConnection[Any], spec: CollectionSpec, embedder: Embedder | None
    ) -> None:
        (state,) = await rows(connection, self._catalog(spec.name))
        extension = cast("Extension", _extension(state))
        found = await rows(connection, self._registered(spec.name))
        registered = CollectionSpec.from_json(found[0]["spec"]) if found and state["table_exists"] else None
        spec = settled_spec(spec, registered, embedder)
        model = None if embedder is None else stored_model(embedder.card)
        if not state["table_exists"]:
            await connection.execute(_ddl.create_table(self._schema, spec, extension))
            await connection.execute(_ddl.set_storage(self._schema, spec))
            if not state["code_point_order"]:
                await connection.execute(_ddl.id_order_index(self._schema, spec))
            if spec.multimodal:
                await connection.execute(_ddl.modality_index(self._schema, spec))
            # If its table was dropped by hand, what is known of loads into it is about nothing.
            await connection.execute(
                "delete from likewise.load where schema_name = %s and name = %s", (self._schema, spec.name)
            )
        else:
            stored = registered or spec
            if found and stored.embedder == spec.embedder:
                model = found[0]["spec"].get("model", model)
                check_model(ModelIdentity.from_json(model), embedder, spec)
            if spec.mode == "auto_migrate":
                stored = replace(
                    stored,
                    vectors={**spec.vectors, **stored.vectors},
                    multimodal=bool(stored.multimodal or spec.multimodal),
                    calibration=spec.calibration,
                )
                await self._add_missing(connection, stored, state["columns"], extension)
                (state,) = await rows(connection, self._catalog(spec.name))
            compare_specs(spec, stored)
            self._refuse_differences(stored, state["columns"], state["primary_key"])
        await connection.execute(
            "insert into likewise.registry (schema_name, name, spec) values (%s, %s, %s)"
            " on conflict (schema_name, name) do update set spec = excluded.spec, updated_at = now()",
            (self._schema, spec.name, Jsonb({**spec.to_json(), **({} if model is None else {"model": model})})),
        )

    async def _add_missing(
        self,
        connection: AsyncConnection[Any],
        spec: CollectionSpec,
        columns: Sequence[Mapping[str, Any]],
        extension: Extension,
    ) -> None:
        missing = _ddl.missing_columns(spec, columns)
        if not missing:
            return
        await connection.execute(_ddl.add_columns(self._schema, spec, extension, missing))
        if "content_id" in missing:
            await connection.execute(
                sql.SQL("UPDATE {} SET content_id = id").format(sql.Identifier(self._schema, spec.name))
            )
            await connection.execute(_ddl.modality_index(self._schema, spec))
        _log.info("columns added", extra={"collection": spec.name, "columns": missing})

    def _refuse_differences(
        self, spec: CollectionSpec, columns: Sequence[Mapping[str, Any]], primary_key: Sequence[str] | None
    ) -> None:
        differences = _ddl.table_differences(spec, columns, primary_key)
        if differences:
            cure = "" if spec.mode == "auto_migrate" else "; mode='auto_migrate' adds optional columns that are missing"
            raise SchemaMismatch(
                f"table {self._schema}.{spec.name} cannot hold the collection: {'; '.join(differences)}{cure}",
                collection=spec.name,
                differences=differences,
            )

    def using(self, connection: Any) -> Self:
        """The same store inside the caller's transaction."""
        return type(self)(
            AsyncDatabase(AsyncBorrowedConnection(connection)),
            url=self._url,
            embedders=self._embedders,
            schema=self._schema,
        )


def _extension(state: Mapping[str, Any]) -> Extension | None:
    found = state["extension"]
    return None if found is None else Extension(found["schema"], found["version"], found["oids"])


def _check_extension(extension: Extension) -> None:
    if extension.version_tuple < OLDEST_EXTENSION:
        raise BackendError(
            f"pgvector {extension.version} is too old: Likewise needs 0.7 or newer (0.8.4 is recommended); "
            "install it and run ALTER EXTENSION vector UPDATE"
        )
