# Generated from src/likewise/backends/postgres/query_cache_async.py by tools/async_to_sync.py; edit that file instead.
"""The vectors of queries in the table ``likewise.query_cache``, which all processes share. The statements are in ``sql/``.

A search never fails for want of this cache. Where the table cannot be read or written (a standby, a role without the right, a database
that an older version has set up), that is logged once, counted in ``usage``, and tried again after a minute; the model is asked
meanwhile. What the search itself could not survive, a database that does not answer or a deadline that has passed, is raised.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from psycopg import sql

from likewise._deadline import check_deadline, remaining
from likewise.abc.embedder import Embedder
from likewise.abc.embedding import SharedQueries
from likewise.abc.models import model_key
from likewise.abc.query_cache import QueryCacheUsage
from likewise.backends.postgres._install import resource
from likewise.backends.postgres._parameters import own_sql
from likewise.backends.postgres._rows import pack_reals, unpack_reals
from likewise.backends.postgres._statements import Statement
from likewise.backends.postgres.connection import Database, run
from likewise.errors import BackendError, BackendUnavailable

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["SharedQueryCache"]

_log = logging.getLogger("likewise.backends.postgres")

#: How many queries the table holds, and after how many that one process has added it is cut back to that.
MOST_ROWS = 10_000
_EVERY = 100
#: After a failure the table is left alone for so many seconds.
_PAUSE_SECONDS = 60.0


class SharedQueryCache(SharedQueries):
    """The table of one database. ``on`` says for which models it is used; None: for those that leave the machine."""

    def __init__(self, database: Database, *, on: bool | None = None, most: int = MOST_ROWS) -> None:
        self._database = database
        self._on = on
        self._most = most
        self._lock = threading.Lock()
        self._usage = QueryCacheUsage()
        self._paused: dict[str, float] = {}
        self._said: set[str] = set()

    @property
    def usage(self) -> QueryCacheUsage:
        """What the cache did for this store."""
        return self._usage

    def get(self, embedder: Embedder, text: str) -> NDArray[np.float32] | None:
        key = self._key(embedder, text)
        if key is None or self._pausing("read"):
            return None
        try:
            found = self._database.fetch(_statement("get", key))
        except BackendUnavailable:
            raise
        except BackendError as error:
            check_deadline()
            self._failed("read", error)
            return None
        vector = unpack_reals(found[0]["vector"]) if found else None
        if vector is None or vector.shape != (embedder.card.dimension,) or not np.isfinite(vector).all():
            self._count(misses=1)
            return None
        self._count(hits=1)
        if found[0]["stale"]:
            self._write("touch", key)
        return vector

    def put(self, embedder: Embedder, text: str, vector: NDArray[np.float32]) -> None:
        key = self._key(embedder, text)
        if key is None or vector.shape != (embedder.card.dimension,) or not np.isfinite(vector).all():
            return
        if self._write("put", {**key, "vector": pack_reals(vector)}):
            self._count(stored=1)
            if self._usage.stored % _EVERY == 1:
                self._write("evict", {"most": self._most})

    def _write(self, what: Literal["put", "touch", "evict"], parameters: dict[str, Any]) -> bool:
        """Whether it was written."""
        if self._pausing("write"):
            return False
        statement = _statement(what, parameters)
        try:
            if self._database.source.private and remaining() is None:
                # One statement in autocommit: one round trip.
                with self._database.session() as connection:
                    run(connection, statement)
            else:
                with self._database.transaction() as connection:
                    run(connection, statement)
        except BackendError as error:
            check_deadline()
            self._failed("write", error)
            return False
        return True

    def _key(self, embedder: Embedder, text: str) -> dict[str, Any] | None:
        """The parameters that name a query, None for one that is not remembered."""
        if not (embedder.remote if self._on is None else self._on) or not self._database.source.separate:
            return None
        card = embedder.card
        try:
            query = hashlib.sha256(str.__str__(text).encode()).digest()
            model = model_key(card, card.query_prompt)
            model.encode()
        except UnicodeEncodeError:
            return None  # for the model to refuse
        return None if "\\u0000" in model else {"model": model, "query": query}

    def _pausing(self, what: Literal["read", "write"]) -> bool:
        return time.monotonic() < self._paused.get(what, 0.0)

    def _failed(self, what: Literal["read", "write"], error: BackendError) -> None:
        with self._lock:
            self._paused[what] = time.monotonic() + _PAUSE_SECONDS
            self._usage = replace(self._usage, failures=self._usage.failures + 1, last_failure=str(error))
            said = what in self._said
            self._said.add(what)
        if not said:
            _log.warning(
                "the table likewise.query_cache cannot be %s, so queries are embedded each time: %s",
                "read" if what == "read" else "written",
                error,
                extra={"sqlstate": error.sqlstate},
            )

    def _count(self, *, hits: int = 0, misses: int = 0, stored: int = 0) -> None:
        with self._lock:
            usage = self._usage
            self._usage = replace(
                usage, hits=usage.hits + hits, misses=usage.misses + misses, stored=usage.stored + stored
            )


def _statement(what: str, parameters: dict[str, Any]) -> Statement:
    return Statement(sql.Composed([own_sql(resource(f"query_cache_{what}.sql"))]), parameters, {})
