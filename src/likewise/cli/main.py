"""The ``likewise`` command: its parser, its errors and exit codes. What a command does is in ``commands``."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import logging
import os
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from types import FrameType, ModuleType
from typing import Any, NoReturn

import likewise
from likewise.cli.exits import EXPLANATIONS, Exit, exit_code
from likewise.cli.output import Output, redacted
from likewise.errors import LikewiseError

__all__ = ["COMMANDS", "build_parser", "main"]

#: The commands in the order of the help; each is a module of ``likewise.cli.commands``.
COMMANDS = (
    "demo",
    "search",
    "ask",
    "ingest",
    "watch",
    "unwatch",
    "collections",
    "calibrate",
    "models",
    "replica",
    "sql",
    "worker",
    "doctor",
    "install",
)

_DESCRIPTION = "Semantic search over text and images inside PostgreSQL."


class _UsageError(Exception):
    """The command line cannot be understood."""

    def __init__(self, message: str, usage: str) -> None:
        super().__init__(message)
        self.usage = usage


class _Terminated(KeyboardInterrupt):
    """SIGTERM: end as after Ctrl-C, so that a query is cancelled and the embedded server let go."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise _UsageError(message, self.format_usage())


def _common(parser: argparse.ArgumentParser, *, top: bool) -> None:
    """The options that stand before or after the command's name."""
    unset: Any = argparse.SUPPRESS
    group = parser.add_argument_group("everywhere")
    group.add_argument(
        "--database",
        metavar="URL",
        default=os.environ.get("LIKEWISE_DATABASE_URL") or None if top else unset,
        help="the database (postgresql://…, memory://, embedded:///path); by default $LIKEWISE_DATABASE_URL, else the embedded "
        "PostgreSQL. A password is better kept in ~/.pgpass or $PGPASSWORD",
    )
    group.add_argument(
        "--json",
        action="store_true",
        default=False if top else unset,
        help="print one JSON document, and errors as JSON on stderr",
    )
    group.add_argument(
        "--debug", action="store_true", default=False if top else unset, help="print the traceback of an error"
    )


def build_parser(names: Sequence[str] = COMMANDS) -> argparse.ArgumentParser:
    """The parser of the command line, with these commands."""
    codes = "\n".join(f"  {int(code):>3}  {text}" for code, text in EXPLANATIONS.items())
    parser = _Parser(
        prog="likewise",
        description=_DESCRIPTION,
        epilog=f"exit codes:\n{codes}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--version", action="version", version=f"likewise {likewise.__version__}", help="print the version and exit"
    )
    _common(parser, top=True)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    for name in names:
        module = _module(name)
        command = commands.add_parser(
            name, help=module.HELP, description=f"{module.HELP[0].upper()}{module.HELP[1:]}.", allow_abbrev=False
        )
        module.configure(command)
        for inner in _inner_parsers(command):
            _common(inner, top=False)
    return parser


def _inner_parsers(command: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    yield command
    for action in command._actions:
        if isinstance(action, argparse._SubParsersAction):
            yield from action.choices.values()


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"likewise.cli.commands.{name}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; nothing is raised but what ``--help`` and ``--version`` raise."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    with _terminable():
        try:
            return int(_run(arguments))
        except BrokenPipeError:
            # Nobody reads any more; what is still buffered must not raise again at the interpreter's exit.
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return Exit.BROKEN_PIPE
        except _Terminated:
            return Exit.TERMINATED


def _run(arguments: Sequence[str]) -> int:
    # Known before the parser runs, since its errors are printed as JSON too.
    output = Output(as_json="--json" in arguments)
    # Where the command comes first the others' modules are not needed: importing them took a third of the time of a short command.
    parser = build_parser(arguments[:1] if arguments and arguments[0] in COMMANDS else COMMANDS)
    try:
        options = parser.parse_args(arguments)
    except _UsageError as error:
        if output.as_json:
            output.error("UsageError", str(error))
        else:
            sys.stderr.write(redacted(f"{error.usage}likewise: error: {error}\n"))
        return Exit.USAGE
    if options.command is None:
        parser.print_help(sys.stderr)
        return Exit.USAGE
    from likewise.cli.context import Context

    _log(verbose=options.debug)
    try:
        return int(_module(options.command).run(Context(options, output)))
    except _Terminated:
        raise
    except KeyboardInterrupt:
        output.error("Interrupted", "interrupted")
        return Exit.INTERRUPTED
    except LikewiseError as error:
        _debug(options.debug)
        output.error(type(error).__name__, str(error))
        return exit_code(error)
    except BrokenPipeError:
        raise
    except OSError as error:
        _debug(options.debug)
        output.error(type(error).__name__, str(error))
        return Exit.FAILURE
    finally:
        sys.stdout.flush()


def _log(*, verbose: bool) -> None:
    """What libraries log is for --debug; errors reach the user as errors."""
    logging.basicConfig(
        level=logging.INFO if verbose else logging.CRITICAL,
        format="%(name)s: %(message)s",
        handlers=None if verbose else [logging.NullHandler()],
    )


def _debug(wanted: bool) -> None:
    if wanted:
        sys.stderr.write(redacted(traceback.format_exc()))


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    def stop(_number: int, _frame: FrameType | None) -> None:
        raise _Terminated

    try:
        before = signal.signal(signal.SIGTERM, stop)
    except ValueError:  # not in the main thread: the signal is not ours to catch
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


if __name__ == "__main__":
    sys.exit(main())
