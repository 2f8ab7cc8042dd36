"""A PostgreSQL for tests: the one that a URL names, or an embedded one in a temporary folder; and empty databases in it.

The server must be there: where it is missing, tests fail, they are not skipped.
"""

from __future__ import annotations

import secrets
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg import sql

from likewise.backends.postgres.embedded import EmbeddedServer

__all__ = ["empty_database", "server_url"]

#: How long a database may have a replication slot whose connection was closed.
_SLOTS_SECONDS = 10.0


@contextmanager
def server_url(url: str | None = None, *, version: int | None = None) -> Iterator[str]:
    """The URL of a server on which databases may be created: the one given, or an embedded one for the length of the block."""
    if url is not None:
        yield url
        return
    with tempfile.TemporaryDirectory(prefix="likewise-test-", ignore_cleanup_errors=True) as directory:
        # The server may have to run as another user than ours, who needs to pass through the temporary folder.
        Path(directory).chmod(0o711)
        with EmbeddedServer(Path(directory) / "postgres", version=version) as server:
            yield server.url()


@contextmanager
def empty_database(server: str) -> Iterator[str]:
    """The URL of a new, empty database on the server, dropped at the end of the block."""
    name = f"likewise_test_{secrets.token_hex(6)}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
    try:
        yield urlunsplit(urlsplit(server)._replace(path=f"/{name}"))
    finally:
        with psycopg.connect(server, autocommit=True) as connection:
            _drop(connection, name)


def _drop(connection: psycopg.Connection[Any], name: str) -> None:
    """Drop a database, whoever is connected to it."""
    until = time.monotonic() + _SLOTS_SECONDS
    while True:
        try:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
        except psycopg.errors.ObjectInUse:
            # A connection that was closed takes its replication slot with it, but only a moment later.
            if time.monotonic() > until:
                raise
            time.sleep(0.05)
        else:
            return
