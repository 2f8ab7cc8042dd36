"""Everything the command prints goes through here: tables and lines for people, one JSON document for programs.

Results go to stdout, all else (progress, notes, errors) to stderr. Text from a database is printed without its control
characters, which could otherwise drive the terminal.
"""

from __future__ import annotations

import base64
import datetime
import decimal
import json
import logging
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TextIO

from rich.cells import cell_len
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table
from rich.text import Text

from likewise.schema import IndexProgress

__all__ = ["Output", "plain", "printable", "redacted", "to_json"]

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_PASSWORD_IN_URL = re.compile(r"(?<=://)([^\s/@:?#]*):([^\s/?#]*)@")
_PASSWORD_FIELD = re.compile(r"\b(password|sslpassword|passwd|pwd)(\s*=\s*)('[^']*'|[^\s&;]+)", re.IGNORECASE)


def printable(text: str) -> str:
    """The text with its control characters written out, so that none of them reaches a terminal; line breaks stay."""
    return _CONTROL.sub(
        lambda match: f"\\x{ord(match[0]):02x}" if ord(match[0]) < 256 else f"\\u{ord(match[0]):04x}", text
    )


def redacted(text: str) -> str:
    """The text without the passwords of any connection string in it."""
    text = _PASSWORD_IN_URL.sub(r"\1:***@", text)
    return _PASSWORD_FIELD.sub(r"\1\2***", text)


def plain(value: object, *, width: int | None = None) -> str:
    """A value as one line of a table, cut to ``width`` characters."""
    if value is None:
        text = ""
    elif isinstance(value, str):
        text = value
    elif isinstance(value, bool):
        text = "true" if value else "false"
    elif isinstance(value, float):
        text = f"{value:.4g}" if abs(value) < 1 else f"{value:g}"
    elif isinstance(value, Mapping | list | tuple | bytes):
        text = json.dumps(value, ensure_ascii=False, default=to_json)
    else:
        text = str(value)
    text = printable(" ".join(text.split()))
    return text if width is None or len(text) <= width else text[: width - 1] + "…"


def to_json(value: object) -> Any:
    """What JSON has no word for, said in JSON: numbers stay numbers, bytes become base64, the rest text."""
    if isinstance(value, decimal.Decimal):
        if not value.is_finite():
            return str(value)
        return int(value) if value == value.to_integral_value() and abs(value) < 10**15 else float(value)
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, bytes | memoryview | bytearray):
        return base64.b64encode(bytes(value)).decode("ascii")
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, set | frozenset | tuple):
        return list(value)
    if callable(to_list := getattr(value, "tolist", None)):  # numpy arrays and scalars
        return to_list()
    return str(value)


class Output:
    """Where a command writes. ``as_json`` silences everything for people but errors, which become JSON too."""

    def __init__(self, *, as_json: bool = False, stdout: TextIO | None = None, stderr: TextIO | None = None) -> None:
        self.as_json = as_json
        self._stdout = stdout or sys.stdout
        self.console = Console(file=self._stdout, highlight=False, soft_wrap=False, emoji=False)
        self._errors = Console(file=stderr or sys.stderr, highlight=False, soft_wrap=True, emoji=False)

    @property
    def is_terminal(self) -> bool:
        """Whether a person reads stdout."""
        return not self.as_json and self.console.is_terminal

    def document(self, value: object) -> None:
        """Print one JSON document, if JSON was asked for."""
        if self.as_json:
            # Lone surrogates (from odd file names) are escaped rather than fatal.
            text = json.dumps(value, ensure_ascii=False, indent=2, default=to_json, allow_nan=False)
            self._stdout.write(text.encode("utf-8", "backslashreplace").decode("utf-8") + "\n")
            self._stdout.flush()

    def line(self, text: str = "", style: str = "") -> None:
        """Print a line for people."""
        if not self.as_json:
            self.console.print(Text(printable(text), style=style), soft_wrap=True)

    def note(self, text: str, style: str = "dim") -> None:
        """Say something on stderr that is no result."""
        if not self.as_json:
            self._errors.print(Text(printable(redacted(text)), style=style))

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[object]], *, title: str = "") -> None:
        """Print rows: a drawn table on a terminal, aligned columns without any cutting elsewhere."""
        if self.as_json:
            return
        if not self.console.is_terminal:
            self._aligned(columns, rows)
            return
        table = Table(title=printable(title) or None, title_justify="left", header_style="bold")
        for place, column in enumerate(columns):
            numbers = bool(rows) and all(_is_number(row[place]) for row in rows)
            table.add_column(Text(printable(column)), justify="right" if numbers else "left", overflow="fold")
        for row in rows:
            table.add_row(*(Text(plain(value, width=300)) for value in row))
        self.console.print(table)

    def _aligned(self, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        lines = [[plain(c) for c in columns], *([plain(value) for value in row] for row in rows)]
        widths = [max(cell_len(line[i]) for line in lines) for i in range(len(columns))]
        for line in lines:
            padded = [cell + " " * (width - cell_len(cell)) for cell, width in zip(line, widths, strict=True)]
            self._write("  ".join(padded).rstrip() + "\n")

    def _write(self, text: str) -> None:
        encoding = getattr(self._stdout, "encoding", None) or "utf-8"
        self._stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))

    def error(self, kind: str, message: str, **details: object) -> None:
        """Print an error on stderr: a line for people, or ``{"error": {"type", "message"}}``."""
        message = redacted(message)
        if self.as_json:
            document = {"error": {"type": kind, "message": message, **details}}
            self._errors.file.write(json.dumps(document, ensure_ascii=True, default=to_json) + "\n")
            self._errors.file.flush()
        else:
            self._errors.print(Text("error: ", style="bold red").append(printable(message), style="not bold default"))

    @contextmanager
    def log(self, name: str, level: int = logging.WARNING) -> Iterator[None]:
        """Print on stderr what a logger says in the block, from this level on: time, level and message, with the traceback of an exception.

        As JSON each is one line, ``{"log": {"time", "level", "message"}}``, with a ``traceback`` where there is one.
        """
        logger, handler = logging.getLogger(name), _Logged(self)
        before = logger.level
        handler.setLevel(level)
        logger.addHandler(handler)
        if logger.getEffectiveLevel() > level:
            logger.setLevel(level)
        try:
            yield
        finally:
            logger.setLevel(before)
            logger.removeHandler(handler)

    def _logged(self, time: datetime.datetime, level: str, message: str, trace: str) -> None:
        message, trace = redacted(message), redacted(trace)
        if self.as_json:
            facts = {
                "time": time,
                "level": level.lower(),
                "message": message,
                **({"traceback": trace} if trace else {}),
            }
            self._errors.file.write(json.dumps({"log": facts}, ensure_ascii=True, default=to_json) + "\n")
            self._errors.file.flush()
        else:
            text = f"{time:%Y-%m-%d %H:%M:%S%z} {level} {message}" + (f"\n{trace}" if trace else "")
            self._errors.print(Text(printable(text), style="yellow" if level == "WARNING" else "red"))

    @contextmanager
    def progress(self, what: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
        """A progress bar on stderr, if that is a terminal; calls give the number done so far."""
        if self.as_json or not self._errors.is_terminal:
            yield lambda _done: None
            return
        columns = [SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn()]
        counters = [MofNCompleteColumn(), TimeRemainingColumn()] if total else []
        with Progress(*columns, *counters, console=self._errors, transient=True) as bar:
            task = bar.add_task(what, total=total)
            yield lambda done: bar.update(task, completed=done)

    @contextmanager
    def building(self) -> Iterator[Callable[[IndexProgress], None]]:
        """The same for indexes: a bar for each that is built, with what the server is at."""
        if self.as_json or not self._errors.is_terminal:
            yield lambda _progress: None
            return
        columns = [SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn()]
        with Progress(*columns, console=self._errors, transient=True) as bar:
            tasks: dict[str, TaskID] = {}

            def show(progress: IndexProgress) -> None:
                if progress.index not in tasks:
                    tasks[progress.index] = bar.add_task(progress.index, total=None)
                bar.update(
                    tasks[progress.index],
                    description=f"{progress.index}: {progress.phase}",
                    total=progress.total or None,
                    completed=progress.done,
                )

            yield show

    @contextmanager
    def downloading(self) -> Iterator[Callable[[str, int, int | None], None]]:
        """The same for files that are fetched: a bar for each, with its bytes; calls give a file's name, the bytes here, and all of them."""
        if self.as_json or not self._errors.is_terminal:
            yield lambda _name, _done, _total: None
            return
        columns = [TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn()]
        with Progress(*columns, TimeRemainingColumn(), console=self._errors, transient=True) as bar:
            tasks: dict[str, TaskID] = {}

            def show(name: str, done: int, total: int | None) -> None:
                if name not in tasks:
                    tasks[name] = bar.add_task(printable(name), total=total)
                bar.update(tasks[name], completed=done, total=total)

            yield show


class _Logged(logging.Handler):
    """Hands what is logged to the output."""

    _FORMATTER = logging.Formatter()

    def __init__(self, output: Output) -> None:
        super().__init__()
        self._output = output

    def emit(self, record: logging.LogRecord) -> None:
        try:
            time = datetime.datetime.fromtimestamp(record.created).astimezone()
            trace = "" if record.exc_info is None else self._FORMATTER.formatException(record.exc_info)
            self._output._logged(time, record.levelname, record.getMessage(), trace)
        except Exception:  # noqa: BLE001 -- what cannot be printed must not stop what is logged about
            self.handleError(record)


def _is_number(value: object) -> bool:
    return value is None or (isinstance(value, int | float | decimal.Decimal) and not isinstance(value, bool))
