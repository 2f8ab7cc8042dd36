"""What the tests of replicas share: URLs, and a look at what the database keeps for them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import cast

import psycopg

import likewise
from likewise.backends.faiss import FaissCollection, FaissStore
from likewise.schema import CollectionSpec

SPEC = CollectionSpec("things", dimension=4)


def replica_url(url: str, **options: object) -> str:
    """The URL of a store with replicas on this database."""
    given = "&".join(f"replica_{name}={value}" for name, value in options.items())
    return f"faiss+{url}{'&' if '?' in url else '?'}{given}"


def open_store(url: str, **options: object) -> FaissStore:
    """Such a store, patient unless said."""
    return cast("FaissStore", likewise.connect(replica_url(url, **{"patience": 30, **options})))


def things(store: FaissStore) -> FaissCollection:
    """The collection of the tests, made if need be."""
    return store.ensure_collection(SPEC)


def slots(url: str) -> list[tuple[str, bool]]:
    """The slots of this database, and whether somebody reads them."""
    with psycopg.connect(url, autocommit=True) as connection:
        return connection.execute(
            "select slot_name, active from pg_replication_slots where database = current_database() order by 1"
        ).fetchall()


def publications(url: str) -> list[str]:
    """The publications of this database that are for replicas."""
    with psycopg.connect(url, autocommit=True) as connection:
        return [
            name for (name,) in connection.execute("select pubname from pg_publication where pubname <> 'likewise'")
        ]


def kill_followers(url: str) -> int:
    """End the connections of replicas of this database; how many there were."""
    with psycopg.connect(url, autocommit=True) as connection:
        return len(
            connection.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where datname = current_database() and application_name like 'likewise copy of %'"
            ).fetchall()
        )


def eventually(holds: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait until it holds; an error if it does not in so many seconds."""
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until, "it did not come to hold"
        time.sleep(0.02)
