"""Databases that are dropped only when the server has noticed that their readers are gone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .helpers import eventually, slots


@pytest.fixture
def fresh_database_url(fresh_database_url: str) -> Iterator[str]:
    """The URL of a database of this test's own."""
    yield fresh_database_url
    eventually(lambda: not any(active for _, active in slots(fresh_database_url)))
