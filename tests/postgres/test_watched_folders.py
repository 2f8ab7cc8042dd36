"""Watching folders through errors that pass."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import likewise
from likewise import CollectionSpec, InvalidArgument, LikewiseError, ModelNotAvailable
from likewise.ingest import IngestReport, watch_folders, watching
from likewise.ingest.pipeline import ingest


def wait_until(true: Callable[[], bool]) -> None:
    until = time.monotonic() + 20
    while not true():
        assert time.monotonic() < until
        time.sleep(0.02)


class Failing:
    """``ingest``, of which some calls, counted from 0, raise."""

    def __init__(self, error: Exception, calls: set[int]) -> None:
        self.error = error
        self.calls = calls
        self.count = 0

    def __call__(self, *args: Any, **how: Any) -> IngestReport:
        self.count += 1
        if self.count - 1 in self.calls:
            raise self.error
        return ingest(*args, **how)


def test_what_changes_while_the_model_is_away_is_ingested_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "_FIRST_WAIT", 0.1)
    monkeypatch.setattr(watching, "ingest", Failing(ModelNotAvailable("away", model="m"), {1, 2}))
    (tmp_path / "a.txt").write_text("one")
    (tmp_path / "b.txt").write_text("two")
    stop = threading.Event()
    troubles: list[LikewiseError] = []
    with likewise.connect("memory://") as store:
        notes = store.ensure_collection(CollectionSpec("notes", embedder="hashing:64"))
        watcher = threading.Thread(
            target=watch_folders,
            args=(notes, [tmp_path]),
            kwargs={"stop": stop, "troubled": troubles.append, "base": tmp_path},
        )
        watcher.start()
        try:
            wait_until(lambda: notes.count() == 2)
            (tmp_path / "a.txt").unlink()
            wait_until(lambda: bool(troubles))
            (tmp_path / "c.txt").write_text("three")
            wait_until(lambda: [record.id for record in notes.scan()] == ["b.txt#0", "c.txt#0"])
        finally:
            stop.set()
            watcher.join()
    assert [str(error) for error in troubles] == ["away", "away"]


@pytest.mark.parametrize(
    ("error", "calls"), [(ModelNotAvailable("away", model="m"), {0}), (InvalidArgument("never right"), {1})]
)
def test_an_error_at_the_beginning_and_one_that_does_not_pass_are_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: LikewiseError, calls: set[int]
) -> None:
    monkeypatch.setattr(watching, "ingest", Failing(error, calls))
    with likewise.connect("memory://") as store:
        notes = store.ensure_collection(CollectionSpec("notes", embedder="hashing:64"))
        with pytest.raises(type(error), match=str(error)):
            watch_folders(notes, [tmp_path], stop=threading.Event(), rescan=0.1)
