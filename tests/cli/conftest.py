"""Runs the command inside the test's process, with a database of its own."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from likewise.cli.main import main


@dataclass(frozen=True)
class Done:
    """What a call of the command gave."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one JSON document on stdout."""
        return json.loads(self.out)

    @property
    def error(self) -> dict[str, Any]:
        """The error on stderr, as JSON."""
        assert self.out == ""
        document: dict[str, Any] = json.loads(self.err)["error"]
        return document


Likewise = Callable[..., Done]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Likewise:
    """Call ``likewise`` with these arguments."""
    monkeypatch.delenv("LIKEWISE_DATABASE_URL", raising=False)

    def call(*arguments: object) -> Done:
        capsys.readouterr()
        code = main([str(a) for a in arguments])
        captured = capsys.readouterr()
        return Done(code, captured.out, captured.err)

    return call


@pytest.fixture
def likewise(run: Likewise, fresh_database_url: str, monkeypatch: pytest.MonkeyPatch) -> Likewise:
    """Call ``likewise`` with a clean PostgreSQL database named by the environment."""
    monkeypatch.setenv("LIKEWISE_DATABASE_URL", fresh_database_url)
    return run
