"""Fixtures of the tests of loads."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

import likewise
from likewise import (
    Collection,
    VectorStore,
)
from likewise.backends.postgres.loading import Load

from .helpers import SPEC, quiet


@pytest.fixture
def store(fresh_database_url: str) -> Iterator[VectorStore]:
    with likewise.connect(fresh_database_url) as store:
        yield store


@pytest.fixture
def things(store: VectorStore) -> Collection:
    return quiet(store, SPEC)


@pytest.fixture
def ways(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ways that loads took: straight into the table, or by a stage; and what they did with indexes."""
    taken: list[str] = []
    for name in ("_into_table", "_by_stage", "_build"):
        original = getattr(Load, name)

        def spied(self: Load, *args: Any, name: str = name, original: Any = original) -> Any:
            if name != "_build" or args[1]:
                taken.append(name.removeprefix("_"))
            return original(self, *args)

        monkeypatch.setattr(Load, name, spied)
    return taken


@pytest.fixture
def role(store: VectorStore) -> Iterator[str]:
    """A role that may read what Likewise knows, and nothing else yet."""
    name = f"loader_{time.time_ns()}"
    with store.transaction() as connection:
        connection.execute(f"create role {name}")
        connection.execute(f"grant usage on schema likewise, public to {name}")
    store.ensure_collection(SPEC)
    with store.transaction() as connection:
        connection.execute(f"grant select on all tables in schema likewise to {name}")
    yield name
    with store.transaction() as connection:
        connection.execute(f"drop owned by {name}")
        connection.execute(f"drop role {name}")
