"""Parsing in processes of its own, with limits of time and memory: what hangs, crashes or grows is an error of one file.

A worker is ``python -m likewise.ingest.parsing.worker``, spoken to by pipes: a head in JSON on one line, then the bytes. It is started
when it is needed, serves one file at a time, and ends with its pipe, so it does not outlive us. It answers in JSON, which, unlike
pickle, cannot make us run anything, should a document take it over. It is no sandbox: it has our rights to files and network.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from likewise.errors import InvalidArgument, OptionalDependencyError
from likewise.ingest.parsing.parsed import DEFAULT_LIMITS, Limits, Parsed, Unreadable
from likewise.ingest.parsing.reading import read_bytes

__all__ = ["ParserPool", "parse_isolated"]

#: Seconds that a document may take, and bytes that its parser may take beside what the interpreter has.
SECONDS, MEMORY = 60.0, 1024 * 1024 * 1024
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
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", "likewise.ingest.parsing.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
        )
        if self._exchange(None, b"", _START_SECONDS) is None:
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
        return self._exchange(head, data, seconds)

    def _exchange(self, head: dict[str, Any] | None, data: bytes, seconds: float) -> dict[str, Any] | None:
        # Pipes know no deadline on every system; a process that is killed closes its ends, and we wake.
        self.timed_out = False
        timer = threading.Timer(seconds, self._expire)
        timer.daemon = True
        timer.start()
        send, receive = self._process.stdin, self._process.stdout
        if send is None or receive is None:
            raise AssertionError("the process was started without pipes")
        try:
            if head is not None:
                send.write(json.dumps({**head, "bytes": len(data)}).encode() + b"\n")
                send.write(data)
                send.flush()
            size = receive.readline(32)
            if not size.strip().isdigit() or int(size) > _LARGEST_ANSWER:
                return None
            answer = receive.read(int(size))
            return dict(json.loads(answer)) if len(answer) == int(size) else None
        except (OSError, ValueError):
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

    A document may take ``seconds`` and ``memory`` bytes (on Linux and other systems that keep RLIMIT_AS). Threads may share a pool: each
    call that finds no idle process starts one. A process that a document has spoiled is ended, and the next document gets another.
    ``parser`` is a function by ``module:name``, called with the bytes, ``path`` and ``limits``.
    """

    def __init__(
        self,
        *,
        seconds: float = SECONDS,
        memory: int = MEMORY,
        limits: Limits = DEFAULT_LIMITS,
        parser: str = _PARSER,
    ) -> None:
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
            "limits": {name: getattr(limits, name) for name in Limits.__dataclass_fields__},
        }
        self._idle: list[_Worker] = []
        self._lock = threading.Lock()
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the processes that are idle; those at work end as they finish. A closed pool refuses documents."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for worker in idle:
            worker.close()

    def parse(self, data: bytes, *, path: Path) -> Parsed:
        """What ``parse`` gives, from another process. ``Unreadable`` (while isolating) if it hung, crashed or took too much memory."""
        worker = self._take()
        kept = False
        try:
            answer = worker.ask({**self._head, "path": os.fspath(path)}, data, self._seconds)
            if answer is None:
                raise Unreadable(self._why(worker), stage="isolating", path=path)
            kept = not answer.get("spoiled", False) and not worker.timed_out
            return _result(answer, path)
        finally:
            if not kept or not self._give(worker):
                worker.close()

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

    def _why(self, worker: _Worker) -> str:
        if worker.timed_out:
            return f"it took longer than {self._seconds:g} seconds to parse, and was given up"
        code = worker.ended_by
        how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
        return f"the process that parsed it ended {how}: the file is damaged, or made to do that"


def _result(answer: dict[str, Any], path: Path) -> Parsed:
    if "package" in answer:
        raise OptionalDependencyError(str(answer["package"]), extra=str(answer["extra"]))
    if "reason" in answer:
        raise Unreadable(str(answer["reason"]), stage=str(answer["stage"]), path=path)
    fields = dict(answer["parsed"])
    fields["pages"] = tuple((int(start), int(end)) for start, end in fields["pages"])
    fields["keywords"] = tuple(fields["keywords"])
    return Parsed(**fields)


def parse_isolated(
    path: str | os.PathLike[str],
    *,
    seconds: float = SECONDS,
    memory: int = MEMORY,
    pool: ParserPool | None = None,
) -> Parsed:
    """Read a file and parse it in another process, within ``seconds`` and ``memory`` (bytes beyond the interpreter's own).

    Without a ``pool`` a process is started for this file, which takes a fraction of a second; with one, the pool's limits hold.
    ``Unreadable`` for whatever is wrong with the file, ``OptionalDependencyError`` where the extra ``ingest`` is missing.
    """
    file = Path(path)
    data = read_bytes(file)
    if pool is not None:
        return pool.parse(data, path=file)
    with ParserPool(seconds=seconds, memory=memory) as own:
        return own.parse(data, path=file)
