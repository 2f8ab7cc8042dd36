"""Parsing in processes of its own, with limits of time and memory: what hangs, crashes or grows is an error of one file.

A worker is ``python -m likewise.ingest.parsing.worker``, spoken to by pipes: a head in JSON on one line, then the bytes. It is started
when it is needed, serves one file at a time, and ends with its pipe, so it does not outlive us. It answers in JSON, and pictures of
pages behind it as they are: unlike pickle, neither can make us run anything, should a document take it over. It is no sandbox: it has
our rights to files and network.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Self

from likewise.errors import InvalidArgument, OptionalDependencyError
from likewise.ingest.parsing.ocr import check_installed
from likewise.ingest.parsing.parsed import DEFAULT_LIMITS, DEFAULT_OPTIONS, Limits, Parsed, ParseOptions, Unreadable
from likewise.ingest.parsing.reading import read_bytes
from likewise.ingest.parsing.rendering import DPI, MOST_PIXELS, check_rendering

__all__ = ["ParserPool", "parse_isolated"]

#: Seconds that a document may take, and bytes that its parser may take beside what the interpreter has.
SECONDS, MEMORY = 60.0, 1024 * 1024 * 1024
#: The same where text in pictures is read: for each of them, and with the models.
OCR_SECONDS, OCR_MEMORY = 120.0, 3 * 1024 * 1024 * 1024
_START_SECONDS, _END_SECONDS = 60.0, 2.0
_PARSER = "likewise.ingest.parsing.formats:parse"
_LARGEST_ANSWER = 512 * 1024 * 1024


class _Worker:
    """One process, and whether it can be asked again."""

    def __init__(self) -> None:
        if not sys.executable:
            raise Unreadable(
                "there is no Python interpreter to start a process with (sys.executable is empty)", stage="isolating"
            )
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
            "PYTHONIOENCODING": "utf-8",
            "OPENBLAS_NUM_THREADS": "1",  # each of its threads takes address space, and nothing there needs them
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", "likewise.ingest.parsing.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
        )
        if self.wait(_START_SECONDS) is None:
            self.close()
            raise Unreadable(
                f"the process that parses did not start (exit code {self._process.returncode})", stage="isolating"
            )

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process.poll() is None

    @property
    def ended_by(self) -> int:
        """The exit code, or the negative number of the signal that ended it."""
        try:
            return self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:  # it closed its pipe and goes on
            self._process.kill()
            return self._process.wait()

    def ask(self, head: dict[str, Any], data: bytes, seconds: float) -> dict[str, Any] | None:
        """Send a document; the answer, or None if the process ended or the time was over: it is of no use then."""
        return self._exchange(json.dumps({**head, "bytes": len(data)}).encode() + b"\n", data, seconds)

    def go_on(self, seconds: float) -> dict[str, Any] | None:
        """Ask for the answer after this one."""
        return self._exchange(b"\n", b"", seconds)

    def wait(self, seconds: float) -> dict[str, Any] | None:
        """The answer after this one, which comes unasked."""
        return self._exchange(b"", b"", seconds)

    def _exchange(self, head: bytes, data: bytes, seconds: float) -> dict[str, Any] | None:
        # Pipes know no deadline on every system; a process that is killed closes its ends, and we wake.
        self.timed_out = False
        timer = threading.Timer(seconds, self._expire)
        timer.daemon = True
        timer.start()
        send, receive = self._process.stdin, self._process.stdout
        if send is None or receive is None:
            raise AssertionError("the process was started without pipes")
        try:
            if head:
                send.write(head)
                send.write(data)
                send.flush()
            size = receive.readline(32)
            if not size.strip().isdigit() or int(size) > _LARGEST_ANSWER:
                return None
            body = receive.read(int(size))
            if len(body) != int(size):
                return None
            answer = dict(json.loads(body))
            size_of_data = int(answer["bytes"])
            if not 0 <= size_of_data <= _LARGEST_ANSWER:
                return None
            answer["data"] = receive.read(size_of_data)
            return answer if len(answer["data"]) == size_of_data else None
        except (OSError, ValueError, LookupError, TypeError):
            return None
        finally:
            timer.cancel()
            timer.join()  # or it might yet end a process that has answered

    def _expire(self) -> None:
        self.timed_out = True
        self._process.kill()

    def close(self) -> None:
        """End the process, whatever it does."""
        self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except OSError:  # what was never sent
                    continue
        self._process.wait()


class ParserPool:
    """Processes that parse, started as they are needed and kept until ``close()``; use it in a ``with`` statement.

    A document may take ``seconds`` and ``memory`` bytes (on Linux and other systems that keep RLIMIT_AS): 60 and a gibibyte; 120 and
    three where ``options`` ask for character recognition, which then may take so many seconds for each page. Threads may share a pool:
    each call that finds no idle process starts one. A process that a document has spoiled is ended, and the next document gets another.
    ``parser`` is a function by ``module:name``, called with the bytes, ``path``, ``limits``, ``options`` and ``on_scan``.
    ``OptionalDependencyError`` where recognition is asked for and the extra ``ocr`` is missing.
    """

    def __init__(
        self,
        *,
        seconds: float | None = None,
        memory: int | None = None,
        limits: Limits = DEFAULT_LIMITS,
        options: ParseOptions = DEFAULT_OPTIONS,
        parser: str = _PARSER,
    ) -> None:
        if options.ocr:
            check_installed()
        seconds = (OCR_SECONDS if options.ocr else SECONDS) if seconds is None else seconds
        memory = (OCR_MEMORY if options.ocr else MEMORY) if memory is None else memory
        if not seconds > 0 or seconds > threading.TIMEOUT_MAX:
            raise InvalidArgument(
                f"seconds must be greater than 0, not {seconds!r}: it is how long a document may take"
            )
        if memory < 1024 * 1024:
            raise InvalidArgument(f"memory must be at least 1048576, not {memory!r}: it is in bytes")
        self._seconds = seconds
        self._head = {
            "seconds": seconds,
            "memory": memory,
            "parser": parser,
            "limits": dataclasses.asdict(limits),
            "options": dataclasses.asdict(options),
        }
        self._limits, self._options = limits, options
        self._idle: list[_Worker] = []
        self._lock = threading.Lock()
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def options(self) -> ParseOptions:
        """What it does with documents beside reading their text."""
        return self._options

    def close(self) -> None:
        """End the processes that are idle; those at work end as they finish. A closed pool refuses documents."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for worker in idle:
            worker.close()

    def parse(self, data: bytes, *, path: Path) -> Parsed:
        """What ``parse`` gives, from another process. ``Unreadable`` (while isolating) if it hung, crashed or took too much memory."""
        with self._working(path) as work:
            answer = work.ask({**self._head, "path": os.fspath(path)}, data)
            for _ in range(self._limits.scans):
                if "scan" not in answer:
                    break
                answer = work.wait()
            return _result(answer, path)

    def pages(
        self, data: bytes, *, path: Path, dpi: float = DPI, most_pixels: int = MOST_PIXELS
    ) -> Iterator[tuple[int, bytes]]:
        """What ``render_pages`` gives, from another process: each page of a PDF, in order, as its number from 1 and a picture in PNG.

        A page is drawn as it is asked for, and may take the pool's seconds; one is in memory at a time. ``Unreadable`` as by ``parse``.
        """
        check_rendering(dpi, most_pixels)
        return self._pages(data, path, {"dpi": dpi, "most_pixels": most_pixels})

    def _pages(self, data: bytes, path: Path, how: dict[str, float]) -> Iterator[tuple[int, bytes]]:
        with self._working(path) as work:
            answer = work.ask({**self._head, "path": os.fspath(path), "pages": how}, data)
            for number in range(1, self._limits.pages + 1):
                if "page" not in answer:
                    break
                yield number, answer["data"]
                answer = work.go_on()
            if "pages" not in answer:
                _refuse(answer, path)

    @contextlib.contextmanager
    def _working(self, path: Path) -> Iterator[_Work]:
        """A process for one document; kept for the next if it answered to the end."""
        work = _Work(self._take(), self._seconds, path)
        try:
            yield work
        finally:
            if not work.kept or not self._give(work.worker):
                work.worker.close()

    def _take(self) -> _Worker:
        with self._lock:
            if self._closed:
                raise InvalidArgument("the pool of parsers is closed: make a new one")
            while self._idle:
                worker = self._idle.pop()
                if worker.alive:
                    return worker
                worker.close()
        return _Worker()

    def _give(self, worker: _Worker) -> bool:
        with self._lock:
            if not self._closed:
                self._idle.append(worker)
            return not self._closed


class _Work:
    """A process at work on one document: its answers, or ``Unreadable`` in their place."""

    def __init__(self, worker: _Worker, seconds: float, path: Path) -> None:
        self.worker = worker
        #: Whether the last answer was the last there is, and the process can be asked again.
        self.kept = False
        self._seconds = seconds
        self._path = path

    def ask(self, head: dict[str, Any], data: bytes) -> dict[str, Any]:
        """Send a document."""
        return self._answer(self.worker.ask(head, data, self._seconds))

    def go_on(self) -> dict[str, Any]:
        """Ask for what comes next."""
        return self._answer(self.worker.go_on(self._seconds))

    def wait(self) -> dict[str, Any]:
        """What comes next by itself."""
        return self._answer(self.worker.wait(self._seconds))

    def _answer(self, answer: dict[str, Any] | None) -> dict[str, Any]:
        self.kept = False
        if answer is None:
            raise Unreadable(self._why(), stage="isolating", path=self._path)
        self.kept = (
            not answer.get("spoiled", False)
            and "scan" not in answer
            and "page" not in answer
            and not self.worker.timed_out
        )
        return answer

    def _why(self) -> str:
        if self.worker.timed_out:
            return f"it took longer than {self._seconds:g} seconds to parse, and was given up"
        code = self.worker.ended_by
        how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
        return f"the process that parsed it ended {how}: the file is damaged, or made to do that"


def _refuse(answer: dict[str, Any], path: Path) -> NoReturn:
    """Raise what the process answers in place of a result."""
    if "package" in answer:
        raise OptionalDependencyError(str(answer["package"]), extra=str(answer["extra"]))
    reason = answer.get("reason", "the process that parsed it gave more answers than the limits allow")
    raise Unreadable(str(reason), stage=str(answer.get("stage", "isolating")), path=path)


def _result(answer: dict[str, Any], path: Path) -> Parsed:
    if "parsed" not in answer:
        _refuse(answer, path)
    fields = dict(answer["parsed"])
    fields["pages"] = tuple((int(start), int(end)) for start, end in fields["pages"])
    fields["keywords"] = tuple(fields["keywords"])
    return Parsed(**fields)


def parse_isolated(
    path: str | os.PathLike[str],
    *,
    seconds: float | None = None,
    memory: int | None = None,
    options: ParseOptions = DEFAULT_OPTIONS,
    pool: ParserPool | None = None,
) -> Parsed:
    """Read a file and parse it in another process, within ``seconds`` and ``memory`` (bytes beyond the interpreter's own).

    Without a ``pool`` a process is started for this file, which takes a fraction of a second; with one, the pool's limits and options hold.
    ``Unreadable`` for whatever is wrong with the file, ``OptionalDependencyError`` where the extra ``ingest`` is missing.
    """
    file = Path(path)
    data = read_bytes(file)
    if pool is not None:
        return pool.parse(data, path=file)
    with ParserPool(seconds=seconds, memory=memory, options=options) as own:
        return own.parse(data, path=file)
