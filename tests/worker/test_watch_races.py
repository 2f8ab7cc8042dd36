"""Two workers at one row, held at the worst places: what is stored in the end is of what the row is."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pytest

from likewise.embedding import HashingEmbedder
from likewise.worker import watching
from likewise.worker.connections import Reader

from .watch_helpers import Database, assert_embedded, working

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Held(HashingEmbedder):
    """Waits with texts that have "old" in them."""

    def __init__(self) -> None:
        super().__init__(32)
        self.reached, self.go_on = threading.Event(), threading.Event()

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        if any("old" in text for text in texts):
            self.reached.set()
            assert self.go_on.wait(30)
        return super().embed_texts(texts)


def until(database: Database, query: str, value: object) -> None:
    ends = time.monotonic() + 20
    while database.one(query) != value:
        assert time.monotonic() < ends, query
        time.sleep(0.02)


@pytest.fixture
def things(database: Database) -> Database:
    """A watched table that is embedded, with a row that is about to be."""
    database.run(
        "create table things (id int primary key, name text); insert into things values (1, 'first'), (2, 'second')"
    )
    database.watch("things", content="name")
    with working(database.url):
        database.settled()
    return database


@pytest.mark.parametrize("change", ["update things set name = 'new' where id = 1", "delete from things where id = 1"])
def test_a_slow_worker_does_not_write_what_was(things: Database, change: str) -> None:
    model = Held()
    things.run("update things set name = 'old' where id = 1")
    with working(things.url, embedders=lambda _: model):
        assert model.reached.wait(20)
        things.run(change)
        with working(things.url):
            until(things, "select count(*) from things_embeddings where id = '1' and content <> 'new'", 0)
            model.go_on.set()
            things.settled()
    assert_embedded(things, "things_embeddings", dict(things.rows("select id::text, name from things")))


@pytest.mark.parametrize("walk", [False, True])
def test_who_has_looked_at_a_row_writes_before_others_look(
    things: Database, monkeypatch: pytest.MonkeyPatch, walk: bool
) -> None:
    """The row changes after the first worker has seen that it is still what it embedded, and before that worker has written it."""
    looked, go_on = threading.Event(), threading.Event()
    really = Reader.fingerprints

    async def slowly(self: Reader, watch: int, keys: Sequence[str]) -> Any:
        found = await really(self, watch, keys)
        if not looked.is_set() and "1" in keys:
            looked.set()
            assert await asyncio.get_running_loop().run_in_executor(None, go_on.wait, 30)
        return found

    monkeypatch.setattr(Reader, "fingerprints", slowly)
    if walk:
        things.run("alter table things disable trigger user; update things set name = 'old' where id = 1")
        things.run("alter table things enable trigger user; select likewise.resync('things')")
    else:
        things.run("update things set name = 'old' where id = 1")
    with working(things.url):
        assert looked.wait(20)
        things.run("update things set name = 'new' where id = 1")
        with working(things.url):
            time.sleep(1.5)  # as long as a worker would need that did not wait
            go_on.set()
            things.settled()
    assert_embedded(things, "things_embeddings", {"1": "new", "2": "second"})


def test_entries_of_who_was_killed_are_taken_by_the_next(things: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the process had ended between the model and the database."""

    async def killed(*_arguments: Any, **_named: Any) -> None:
        raise RuntimeError("killed")

    things.run("update things set name = 'new' where id = 1")
    with monkeypatch.context() as patch:
        patch.setattr(watching, "write_prepared", killed)
        with working(things.url):
            assert "killed" in things.error_of("things")
    assert things.one("select depth from likewise.pending") == 1
    with working(things.url):
        things.settled()
    assert_embedded(things, "things_embeddings", {"1": "new", "2": "second"})
