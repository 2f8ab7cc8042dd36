"""``likewise worker`` as whoever starts it sees it: what it says on stderr, and how it ends."""

from __future__ import annotations

import subprocess
import threading

import psycopg

from worker.conftest import process

WAITING = "waiting until the transactions have ended that are writing now: the server then lets the log be read"


def until(running: subprocess.Popen[str], word: str) -> list[str]:
    """The lines on stderr up to the one with this word in it."""
    assert running.stderr is not None
    lines = []
    for line in running.stderr:
        lines.append(line.rstrip("\n"))
        if word in line:
            return lines
    raise AssertionError(f"the worker ended without saying {word!r}: {lines}")


def test_it_says_that_it_waits_for_transactions_that_write(url: str) -> None:
    with psycopg.connect(url) as writing:
        writing.execute("create table long_one (n int)")
        with process(url) as running:
            # Rolled back by the clock, so that a worker that says nothing fails the test rather than hangs it.
            ending = threading.Timer(5, writing.rollback)
            ending.start()
            lines = until(running, "answering")
            ending.join()
    assert lines[0] == WAITING
    assert lines.count(WAITING) == 1
    assert lines[-1].startswith("answering: postgresql://")


def test_it_does_not_say_so_where_there_are_none(url: str) -> None:
    with process(url) as running:
        assert WAITING not in until(running, "answering")
