"""``connect_async`` and ``attach_async``: where a URL becomes a store. The only place that knows backends, embedders and servers at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

from likewise.abc.embedder import Embedder
from likewise.abc.running_async import run_apart, run_blocking
from likewise.abc.vector_stores_async import AsyncVectorStore
from likewise.errors import InvalidArgument, UnsupportedFeature

if TYPE_CHECKING:
    from likewise.backends.postgres import AsyncPostgresStore

__all__ = ["attach_async", "connect_async"]


async def connect_async(
    url: str | None = None,
    *,
    schema: str = "public",
    max_connections: int = 10,
    keep_running: bool = False,
    query_cache: bool | None = None,
    worker: bool = False,
    progress: Callable[[str], None] | None = None,
) -> AsyncVectorStore:
    """Open a store; use it as an async context manager, or ``aclose`` it.

    ============================ ===================================================================================
    url                          store
    ============================ ===================================================================================
    None                         an embedded PostgreSQL with pgvector in the user's data directory, started if need be
    ``embedded:///path``         the same in a directory of your own; ``?version=16`` asks for another major version
    ``postgresql://…``           any PostgreSQL from 14 on that has pgvector 0.7 or newer
    ``memory://``                exact, in this process, gone with it
    ``faiss+<one of these>``     the same database; searches are answered by replicas of its collections in this process, which FAISS searches.
                                 Options in the URL's query: ``replica_path``, ``replica_hold``, ``replica_follow``, ``replica_patience``
    ============================ ===================================================================================

    ``schema`` is where tables are made, ``max_connections`` bounds the pool. ``keep_running`` leaves an embedded server running
    when its last user goes. ``query_cache`` remembers the vectors of queries in the database, for all processes: always, never, or (None) for
    models that leave the machine, for which asking the database is the shorter way. ``worker`` answers ``embed()`` of SQL and keeps watched tables
    embedded in a thread of this process, until the store is closed, as ``likewise worker`` does in one of its own. ``progress`` is told what an
    embedded server is busy with when it takes long.

    ``InvalidArgument`` for a URL that cannot be read, ``BackendUnavailable`` if the database does not answer, ``UnsupportedFeature`` for a
    worker where there is no SQL.
    """
    if url is not None and not isinstance(url, str):
        raise InvalidArgument(f"a URL is text, not {type(url).__name__}; attach() borrows connections and engines")
    scheme = "embedded" if url is None else url.partition(":")[0].lower()
    if url is not None and scheme.startswith("faiss+"):
        from likewise.backends.faiss import AsyncFaissStore, split_url
        from likewise.backends.faiss._library import library

        of_record, options = split_url(url)
        library()  # Missing, it is better missed before anything is opened.
        inner = await connect_async(
            of_record,
            schema=schema,
            max_connections=max_connections,
            keep_running=keep_running,
            query_cache=query_cache,
            worker=worker,
            progress=progress,
        )
        return AsyncFaissStore(inner, options, schema=schema)
    if scheme == "memory":
        from likewise.backends.memory import AsyncMemoryStore

        if worker:
            raise UnsupportedFeature("a worker", backend="memory")
        return AsyncMemoryStore(embedders=_embedder)
    if scheme in ("postgresql", "postgres") or (url is not None and "://" not in url and "=" in url):
        from likewise.backends.postgres import AsyncPostgresStore

        assert url is not None
        store = await AsyncPostgresStore.open(
            url, embedders=_embedder, schema=schema, max_connections=max_connections, query_cache=query_cache
        )
        return await _with_worker(store, url) if worker else store
    if scheme == "embedded":
        from likewise.backends.postgres import AsyncPostgresStore
        from likewise.backends.postgres.embedded import EmbeddedServer

        directory, version = embedded_options(url)
        server = EmbeddedServer(directory, keep_running=keep_running, version=version, progress=progress)
        await run_blocking(server.start)
        try:
            store = await AsyncPostgresStore.open(
                server.url(),
                embedders=_embedder,
                schema=schema,
                max_connections=max_connections,
                server=server,
                query_cache=query_cache,
            )
        except BaseException:
            await run_blocking(server.close)
            raise
        return await _with_worker(store, server.url()) if worker else store
    raise InvalidArgument(
        f"no backend is known for URLs that begin with {scheme[:30]!r}; known are: embedded:///path, postgresql://…, memory://, faiss+postgresql://…"
    )


async def _with_worker(store: AsyncPostgresStore, conninfo: str) -> AsyncVectorStore:
    """The store, with a thread that works for its database until it is closed."""
    from likewise.worker import Watching, Worker, WorkerThread

    try:
        await store.install()
        watching = Watching(conninfo, embedders=_embedder)
        thread = WorkerThread(Worker(conninfo, embedders=_embedder, watching=watching))
        store.close_first(thread.close)
        await run_apart(thread.start)
    except BaseException:
        await store.aclose()
        raise
    return store


def attach_async(connection: Any, *, schema: str = "public", query_cache: bool | None = None) -> AsyncVectorStore:
    """A store on what the caller lends: a psycopg connection or pool, or SQLAlchemy's engine, connection or session (psycopg 3).

    On a connection or session the store works inside the caller's transaction, which it never commits or rolls back: records and
    other rows become visible together, or not at all. On a pool or engine each call is a transaction of its own, and ``query_cache`` is as
    for ``connect_async``; on a connection or session queries are not remembered in the database, for that would be in the transaction.
    """
    from likewise.backends.postgres import AsyncPostgresStore

    return AsyncPostgresStore.attach(connection, embedders=_embedder, schema=schema, query_cache=query_cache)


def embedded_options(url: str | None) -> tuple[Path | None, int | None]:
    """The directory and the major version that an ``embedded://`` URL names, None for what it leaves open."""
    if url is None:
        return None, None
    parts = urlsplit(url)
    if parts.netloc:
        raise InvalidArgument("an embedded database has a path and no host: embedded:///path (three slashes)")
    options = parse_qs(parts.query, strict_parsing=bool(parts.query))
    version = options.pop("version", [None])[-1]
    if options or (version is not None and not version.isdecimal()):
        raise InvalidArgument("an embedded:// URL takes one option, a major version: embedded:///path?version=16")
    return Path(unquote(parts.path)) if parts.path.strip("/") else None, None if version is None else int(version)


def _embedder(name: str) -> Embedder:
    from likewise.embedding import load_embedder

    return load_embedder(name)
