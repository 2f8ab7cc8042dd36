"""``likewise worker`` as whoever starts it sees it: what it says on stderr, and how it ends."""

from __future__ import annotations

import io
import json
import logging
import re
import subprocess
import threading
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import psycopg
import pytest

from likewise.cli.exits import Exit
from likewise.cli.main import main
from likewise.cli.output import Output
from worker.conftest import process, wait_until

WAITING = "waiting until the transactions have ended that are writing now: the server then lets the log be read"


def until(running: subprocess.Popen[str], word: str) -> list[str]:
    """The lines on stderr up to the one with this word in it. A worker that does not say it within half a minute is killed."""
    assert running.stderr is not None
    lines = []
    killing = threading.Timer(30, running.kill)
    killing.start()
    try:
        for line in running.stderr:
            lines.append(line.rstrip("\n"))
            if word in line:
                return lines
    finally:
        killing.cancel()
    raise AssertionError(f"the worker ended without saying {word!r}: {lines}")


def test_it_says_that_it_waits_for_transactions_that_write(url: str) -> None:
    with psycopg.connect(url) as writing:
        writing.execute("create table long_one (n int)")
        with process(url) as running:
            lines = until(running, "waiting")
            writing.rollback()
            lines += until(running, "answering")
    assert lines[0] == WAITING
    assert lines.count(WAITING) == 1
    assert lines[-1].startswith("answering: postgresql://")


def test_it_does_not_say_so_where_there_are_none(url: str) -> None:
    with process(url) as running:
        assert WAITING not in until(running, "answering")


def test_warnings_are_on_stderr(url: str, client: psycopg.Connection[Any]) -> None:
    ignored = "a message was ignored: a message that is not JSON: JSONDecodeError"
    with process(url) as running:
        until(running, "answering")
        client.execute("select likewise.emit('likewise.embed', '{')")
        line = until(running, "ignored")[-1]
        assert re.fullmatch(rf"\d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d[+-]\d{{4}} WARNING {ignored}", line)
    with process(url, "--json") as running:
        leads = "select count(*) from likewise.worker where leads and process = %s"
        wait_until(lambda: client.execute(leads, [running.pid]).fetchone() == (1,))
        client.execute("select likewise.emit('likewise.embed', '{')")
        (line,) = until(running, "ignored")
        logged = json.loads(line)["log"]
        assert (logged["level"], logged["message"]) == ("warning", ignored)
        assert datetime.fromisoformat(logged["time"]).tzinfo is not None


def test_the_command_leaves_logging_as_it_was(capsys: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger("likewise")
    before = logger.level, list(logger.handlers), logger.propagate
    assert main(["worker", "--database", "memory://"]) == Exit.INVALID
    assert capsys.readouterr().err.startswith("error: ")
    assert (logger.level, logger.handlers, logger.propagate) == before


class TestLog:
    """What ``Output.log`` makes of what a logger says."""

    @pytest.fixture
    def logger(self) -> Iterator[logging.Logger]:
        logger = logging.getLogger("likewise.told_in_a_test")
        logger.setLevel(logging.CRITICAL)
        yield logger
        assert (logger.level, logger.handlers) == (logging.CRITICAL, [])
        logger.setLevel(logging.NOTSET)

    def said(self, logger: logging.Logger, *, as_json: bool) -> str:
        stderr = io.StringIO()
        with Output(as_json=as_json, stdout=io.StringIO(), stderr=stderr).log(logger.name):
            logger.info("nobody's business")
            logger.warning("lost %s", "postgresql://me:geheim@host/db and host=x password=geheim \x1b[2J")
            try:
                raise RuntimeError("postgresql://me:geheim@host/db")
            except RuntimeError:
                logger.exception("a fault")
        logger.critical("after the block")
        return stderr.getvalue()

    def test_for_people(self, logger: logging.Logger) -> None:
        first, second, *trace = self.said(logger, as_json=False).splitlines()
        assert first.endswith(" WARNING lost postgresql://me:***@host/db and host=x password=*** \\x1b[2J")
        assert second.endswith(" ERROR a fault")
        assert trace[0] == "Traceback (most recent call last):"
        assert trace[-1] == "RuntimeError: postgresql://me:***@host/db"

    def test_for_programs(self, logger: logging.Logger) -> None:
        first, second = (json.loads(line)["log"] for line in self.said(logger, as_json=True).splitlines())
        assert first["level"] == "warning"
        assert first["message"].startswith("lost postgresql://me:***@host/db and host=x password=*** ")
        assert (second["level"], second["message"]) == ("error", "a fault")
        assert second["traceback"].endswith("RuntimeError: postgresql://me:***@host/db")
        assert "traceback" not in first
