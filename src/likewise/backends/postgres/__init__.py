"""The PostgreSQL backend, on pgvector. What we say is in the modules that begin with ``_``; what waits is in ``*_async``."""

from likewise.backends.postgres.store import PostgresStore
from likewise.backends.postgres.store_async import AsyncPostgresStore

__all__ = ["AsyncPostgresStore", "PostgresStore"]
