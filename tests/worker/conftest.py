"""An empty database with Likewise in it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import likewise

from .watch_helpers import Database


@pytest.fixture
def database(fresh_database_url: str) -> Iterator[Database]:
    """A connection to a database of the test's own."""
    with likewise.connect(fresh_database_url) as store:
        store.install()  # type: ignore[attr-defined]
    opened = Database(fresh_database_url)
    yield opened
    opened.connection.close()
