"""Fixtures of the tests of feeds."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from likewise.testing.database import empty_database

from .helpers import How


@pytest.fixture(params=["log", "triggers"])
def how(request: pytest.FixtureRequest) -> How:
    """Each way to follow."""
    way: How = request.param
    return way


@pytest.fixture
def url(fresh_database_url: str) -> Iterator[str]:
    """An empty database; at the end no slot of it is left."""
    yield fresh_database_url
    without_slots(fresh_database_url)


@pytest.fixture
def url_16(postgres_16_server: str) -> Iterator[str]:
    """The same on PostgreSQL 16."""
    with empty_database(postgres_16_server) as url:
        yield url
        without_slots(url)


def without_slots(url: str) -> None:
    """A database with a slot cannot be dropped. A connection that was closed takes its slot with it, a moment later."""
    with psycopg.connect(url, autocommit=True) as connection:
        for _ in range(100):
            left = connection.execute(
                "select slot_name, active_pid from pg_replication_slots where database = current_database()"
            ).fetchall()
            if not left:
                return
            time.sleep(0.05)
        for name, process in left:
            connection.execute(
                "select pg_terminate_backend(%s)" if process else "select pg_drop_replication_slot(%s)",
                (process or name,),
            )
    raise AssertionError(f"slots were left: {left}")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder for a server of the test's own, which may run as another user than ours. Not pytest's: that shuts its folders to others."""
    with tempfile.TemporaryDirectory(prefix="likewise-test-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o711)
        yield Path(name)
