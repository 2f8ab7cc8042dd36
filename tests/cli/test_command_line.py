"""The command line itself: help, usage, errors and exit codes, without any database."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import likewise
from likewise import errors
from likewise.cli.exits import EXPLANATIONS, Exit, exit_code
from likewise.cli.main import COMMANDS, build_parser

if TYPE_CHECKING:
    from cli.conftest import Likewise

ROOT = Path(__file__).resolve().parents[2]
COMMAND_LINE = [sys.executable, "-m", "likewise.cli.main"]


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT / "src"), "COLUMNS": "100", **more}


def parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                yield from parsers(inner)


ALL = {parser.prog: parser for parser in parsers(build_parser())}


@pytest.mark.parametrize("prog", ALL)
def test_everything_has_a_description(prog: str) -> None:
    parser = ALL[prog]
    assert parser.description
    assert parser.description.endswith(".")
    for action in parser._actions:
        assert action.help or isinstance(action, argparse._SubParsersAction), f"{prog}: {action.dest} has no help"
        if isinstance(action, argparse._SubParsersAction):
            described = {choice.dest for choice in action._choices_actions if choice.help}
            assert described == set(action.choices)
    assert parser.format_help()


@pytest.mark.parametrize("prog", ALL)
def test_the_common_options_are_everywhere(prog: str) -> None:
    options = {option for action in ALL[prog]._actions for option in action.option_strings}
    assert {"--database", "--json", "--debug", "--help"} <= options


def test_exit_codes_are_explained_in_the_help_and_in_the_documentation() -> None:
    assert set(EXPLANATIONS) == set(Exit)
    page = (ROOT / "docs/howto/command-line.md").read_text("utf-8")
    for code, text in EXPLANATIONS.items():
        assert text in build_parser().format_help()
        assert f"| {int(code)} | {text} |" in page


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_and_option_is_in_the_documentation(command: str) -> None:
    page = (ROOT / "docs/howto/command-line.md").read_text("utf-8")
    section = page.partition(f"\n## likewise {command}\n")[2].partition("\n## ")[0]
    assert section
    common = {"--help", "--json", "--debug", "--database"}
    for parser in parsers(ALL[f"likewise {command}"]):
        options = {o for action in parser._actions for o in action.option_strings if o.startswith("--")} - common
        assert not [o for o in options if o not in section], parser.prog


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.RecordNotFound("a", collection="b"), 3),
        (errors.CollectionNotFound("a"), 3),
        (errors.BackendUnavailable(), 4),
        (errors.BackendTimeout(), 4),
        (errors.InvalidFilter(), 5),
        (errors.DimensionMismatch(expected=1, actual=2), 5),
        (errors.SchemaMismatch("no", collection="a"), 5),
        (errors.UnsupportedFeature("sql", backend="memory"), 5),
        (errors.BackendError(), 1),
        (errors.ModelNotAvailable("no", model="m"), 1),
        (OSError(), 1),
    ],
)
def test_exit_codes(error: Exception, code: int) -> None:
    assert exit_code(error) == code


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nope"],
        ["--nope"],
        ["search", "--nope"],
        ["search", "-k", "many"],
        ["search", "a", "b"],
        ["search", "a", "--modality", "smell"],
        ["ingest"],
        ["ingest", "somewhere"],
        ["collections", "destroy"],
        ["collections", "create"],
        ["demo", "--keep", "--reset"],
        ["--dat", "memory://", "search"],
        ["search", "a", "--min-score", "--exact"],
    ],
)
def test_what_cannot_be_understood(run: Likewise, arguments: list[str]) -> None:
    done = run(*arguments)
    assert done.code == Exit.USAGE
    assert done.out == ""
    assert "usage: likewise" in done.err
    if arguments:
        assert run("--json", *arguments).error["type"] == "UsageError"


def test_a_usage_error_does_not_repeat_a_password(run: Likewise) -> None:
    done = run("search", "--nope", "postgresql://me:secret@localhost/db")
    assert done.code == Exit.USAGE
    assert "secret" not in done.err


def test_version(run: Likewise, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run("--version")
    assert caught.value.code == 0
    assert capsys.readouterr().out.startswith("likewise ")


@pytest.mark.parametrize(
    "where", [["--json", "collections"], ["collections", "--json"], ["collections", "list", "--json"]]
)
def test_common_options_stand_before_and_after_the_command(run: Likewise, where: list[str]) -> None:
    done = run("--database", "memory://", *where)
    assert (done.code, done.json) == (0, {"collections": []})
    assert run(*where, "--database", "memory://").json == {"collections": []}


def test_the_environment_names_the_database(run: Likewise, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIKEWISE_DATABASE_URL", "memory://")
    assert run("collections", "--json").json == {"collections": []}


class TestErrors:
    def test_a_database_that_is_not_there(self, run: Likewise) -> None:
        url = "postgresql://me:secret@127.0.0.1:1/nothing?connect_timeout=2"
        done = run("collections", "--json", "--database", url)
        assert done.code == Exit.UNAVAILABLE
        assert done.error["type"] == "BackendUnavailable"
        assert "secret" not in done.err
        told = run("collections", "--database", url)
        assert told.err.startswith("error: ")
        assert "Traceback" not in told.err
        assert "secret" not in told.err

    def test_debug_shows_where(self, run: Likewise) -> None:
        url = "postgresql://me:secret@127.0.0.1:1/nothing?connect_timeout=2"
        done = run("collections", "--debug", "--database", url)
        assert done.code == Exit.UNAVAILABLE
        assert "Traceback" in done.err
        assert "secret" not in done.err

    @pytest.mark.parametrize("url", ["nonsense", "gopher://x", "://", "postgresql://[", "\x00"])
    def test_urls_that_cannot_be(self, run: Likewise, url: str) -> None:
        done = run("collections", "--json", "--database", url)
        assert done.code in (Exit.UNAVAILABLE, Exit.INVALID)
        assert done.error["message"]

    def test_interrupted(self, run: Likewise, monkeypatch: pytest.MonkeyPatch) -> None:
        def interrupt(*_arguments: object, **_options: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(likewise, "connect", interrupt)
        assert run("collections").code == Exit.INTERRUPTED
        assert run("collections", "--json").error == {"type": "Interrupted", "message": "interrupted"}


class TestProcess:
    """In a process of its own, since signals and broken pipes are the process's."""

    def test_nobody_reads(self) -> None:
        command = [*COMMAND_LINE, "--database", "memory://", "collections", "--json"]
        process = subprocess.Popen(
            command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        error = process.stderr.read()
        process.stderr.close()
        assert process.wait(60) == Exit.BROKEN_PIPE
        assert error == ""

    @pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, Exit.INTERRUPTED), (signal.SIGTERM, Exit.TERMINATED)])
    def test_signals(self, tmp_path: Path, number: signal.Signals, code: int) -> None:
        started = tmp_path / "started"
        script = (
            "import pathlib, sys, time, likewise, likewise.cli.main\n"
            f"def wait(*a, **k):\n    pathlib.Path({str(started)!r}).touch()\n    time.sleep(60)\n"
            "likewise.connect = wait\n"
            "sys.exit(likewise.cli.main.main(['collections', '--json']))"
        )
        process = subprocess.Popen([sys.executable, "-c", script], env=environment(), stderr=subprocess.PIPE, text=True)
        give_up = time.monotonic() + 30
        while not started.exists() and time.monotonic() < give_up:
            time.sleep(0.02)
        process.send_signal(number)
        _, error = process.communicate(timeout=30)
        assert process.returncode == code
        assert "Traceback" not in error

    def test_output_in_a_small_encoding(self) -> None:
        done = subprocess.run(
            [*COMMAND_LINE, "--help"],
            env=environment(PYTHONIOENCODING="utf-8"),
            capture_output=True,
            text=True,
            check=True,
        )
        assert "exit codes:" in done.stdout

    def test_help_is_quick(self) -> None:
        """Neither a driver nor a model is loaded to print help."""
        script = (
            "import sys\nfrom likewise.cli.main import main\ntry:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
            "heavy = {'psycopg', 'onnxruntime', 'numpy', 'PIL', 'tokenizers'} & set(sys.modules)\nprint(sorted(heavy), file=sys.stderr)"
        )
        done = subprocess.run(
            [sys.executable, "-c", script], env=environment(), capture_output=True, text=True, check=True
        )
        assert done.stderr.strip() == "[]"

    def test_a_command_that_is_named_first_loads_no_other(self) -> None:
        script = (
            "import sys\nfrom likewise.cli.main import main\ntry:\n    main(['collections', '--help'])\nexcept SystemExit:\n    pass\n"
            "print(sorted(name for name in sys.modules if name.startswith(('likewise.cli.commands.', 'likewise.ingest'))), file=sys.stderr)"
        )
        done = subprocess.run(
            [sys.executable, "-c", script], env=environment(), capture_output=True, text=True, check=True
        )
        assert done.stderr.strip() == "['likewise.cli.commands.collections']"


def test_json_of_odd_values() -> None:
    import datetime
    import decimal
    import uuid

    from likewise.cli.output import to_json

    values: list[tuple[Any, Any]] = [
        (decimal.Decimal("1.50"), 1.5),
        (decimal.Decimal(3), 3),
        (decimal.Decimal("NaN"), "NaN"),
        (b"\x00", "AA=="),
        (datetime.date(2024, 2, 29), "2024-02-29"),
        (uuid.UUID(int=0), "00000000-0000-0000-0000-000000000000"),
    ]
    for value, wanted in values:
        assert json.loads(json.dumps(value, default=to_json)) == wanted


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("postgresql://me:secret@host/db", "postgresql://me:***@host/db"),
        ("no postgresql://host/db here", "no postgresql://host/db here"),
        ("host=h password=secret user=u", "host=h password=*** user=u"),
        ("password = 'a secret' x", "password = *** x"),
        ("postgresql://h/db?password=secret&user=me", "postgresql://h/db?password=***&user=me"),
    ],
)
def test_passwords_are_left_out(text: str, wanted: str) -> None:
    from likewise.cli.output import redacted

    assert redacted(text) == wanted


def test_control_characters_are_written_out() -> None:
    from likewise.cli.output import plain, printable

    assert printable("a\x1b[31mb\x07\n") == "a\\x1b[31mb\\x07\n"
    assert plain("a\n\tb\x9b\u202e") == "a b\\x9b\\u202e"


def test_a_models_server_that_does_not_answer_is_told_from_a_failure() -> None:
    assert exit_code(errors.ModelUnreachable("no answer", model="m", attempts=3)) == Exit.UNAVAILABLE
    assert exit_code(errors.ModelNotAvailable("no such model", model="m")) == Exit.FAILURE
