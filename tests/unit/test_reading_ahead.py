"""Files that are cut before it is their turn: their order, the memory that they may take, and that nobody waits for ever."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import likewise
from likewise import CollectionSpec
from likewise.abc.document_rows import NewChunk, NewDocument, Trouble
from likewise.ingest import pipeline
from likewise.ingest.ahead import Ahead
from likewise.ingest.cutting import Seen

WORKERS = 3


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(WORKERS) as executor:
        yield executor


def seen(number: int) -> Seen:
    return Seen(Path(f"/files/{number}"), str(number))


class Cuts:
    """Makes documents of pictures, so many bytes large, and counts."""

    def __init__(self, held: int = 10) -> None:
        self.held = held
        self.begun: list[str] = []

    def __call__(self, file: Seen) -> NewDocument:
        self.begun.append(file.source)
        time.sleep(0.001)
        picture = NewChunk(image=bytes(self.held))
        return NewDocument(source=file.source, sha256=bytes(32), size=1, media_type="application/pdf", chunks=[picture])


def settled(cuts: Cuts) -> int:
    """How many have begun, when no more do."""
    while True:
        before = len(cuts.begun)
        time.sleep(0.2)
        if len(cuts.begun) == before:
            return before


def test_what_a_document_holds() -> None:
    chunks = [NewChunk(text="four"), NewChunk(image=b"123"), NewChunk()]
    document = NewDocument(source="a", sha256=bytes(32), size=1000, media_type="text/plain", chunks=chunks)
    assert document.held == 7


def test_they_come_in_their_order(threads: ThreadPoolExecutor) -> None:
    cuts = Cuts()
    with Ahead(threads, WORKERS, cuts, most=1_000_000) as ahead:
        for number in range(100):
            if number % 7 == 0:
                ahead.put(Trouble(str(number), "no file", "loading", bytes(32), 0))
            else:
                ahead.add(seen(number))
        assert len(ahead) == 100
        assert [one.source for one in ahead.rest()] == [str(number) for number in range(100)]
        assert len(ahead) == 0
    assert len(cuts.begun) == 85


def test_no_more_are_begun_than_memory_allows_and_all_come(threads: ThreadPoolExecutor) -> None:
    """Of those that are done at most three may be there, and then as many again that had begun meanwhile."""
    cuts = Cuts(held=10)
    with Ahead(threads, WORKERS, cuts, most=25) as ahead:
        for number in range(40):
            ahead.add(seen(number))
        assert 3 <= settled(cuts) <= 3 + WORKERS
        for taken in range(1, 41):
            assert ahead.take().source == str(taken - 1)
            assert len(cuts.begun) <= taken + 3 + WORKERS
    assert cuts.begun == [str(number) for number in range(40)]


def test_one_that_is_larger_than_all_that_is_allowed_has_its_turn(threads: ThreadPoolExecutor) -> None:
    cuts = Cuts(held=1000)
    with Ahead(threads, 1, cuts, most=1) as ahead:
        for number in range(5):
            ahead.add(seen(number))
        assert settled(cuts) == 1
        assert [one.source for one in ahead.rest()] == ["0", "1", "2", "3", "4"]


def test_what_was_not_begun_does_not_begin_after_the_end(threads: ThreadPoolExecutor) -> None:
    cuts, go_on = Cuts(), threading.Event()

    def slow(file: Seen) -> NewDocument:
        made = cuts(file)
        go_on.wait(10)
        return made

    with pytest.raises(ZeroDivisionError), Ahead(threads, WORKERS, slow, most=1_000) as ahead:
        for number in range(20):
            ahead.add(seen(number))
        raise ZeroDivisionError
    go_on.set()
    threads.shutdown()
    assert len(cuts.begun) <= WORKERS


def test_an_error_is_raised_in_its_turn_and_others_have_theirs(threads: ThreadPoolExecutor) -> None:
    cuts = Cuts()

    def failing(file: Seen) -> NewDocument:
        if file.source == "1":
            raise ZeroDivisionError("a fault of ours")
        return cuts(file)

    with Ahead(threads, WORKERS, failing, most=1_000) as ahead:
        for number in range(3):
            ahead.add(seen(number))
        assert ahead.take().source == "0"
        with pytest.raises(ZeroDivisionError, match="ours"):
            ahead.take()
        assert ahead.take().source == "2"


def test_an_ingestion_with_next_to_no_memory_stores_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(200):
        (tmp_path / f"{number:03}.txt").write_text(f"number {number // 2}", encoding="utf-8")
    monkeypatch.setattr(pipeline, "_MOST_AHEAD", 1)
    monkeypatch.setattr(pipeline, "_MOST_BYTES", 1)
    with likewise.connect("memory://") as store:
        things = store.ensure_collection(CollectionSpec("things", embedder="hashing:16"))
        report = pipeline.ingest(things, [tmp_path], workers=3)
        assert (report.stored, report.duplicates, report.failed) == (100, 100, [])
        assert things.count() == 100
