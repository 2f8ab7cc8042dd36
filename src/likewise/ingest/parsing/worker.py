"""The process behind ``ParserPool``: reads documents from its input, writes what they hold to its output. Started, not imported."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any, BinaryIO

from likewise.errors import OptionalDependencyError
from likewise.ingest.parsing.parsed import Limits, Parsed, ParseOptions, Unreadable
from likewise.ingest.parsing.rendering import render_pages

__all__ = ["main"]

#: Whoever asked ends us at the time they gave; this much later we end ourselves.
_SPARE_SECONDS = 5.0


def _limit_memory(extra: int) -> None:
    """Bound the address space to what the interpreter had and ``extra`` bytes, where the system keeps such a limit."""
    try:
        import resource

        wanted = _at_start() + extra
    except (ImportError, OSError):
        return
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))


@functools.cache
def _at_start() -> int:
    """The bytes of address space in use when this was asked first, before any document: what one leaves behind is not forgiven the next."""
    import resource

    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()


def _limit_time(seconds: float) -> None:
    """End with the time that a document may take, should nobody be left to end us; 0 is no limit."""
    try:
        import signal

        signal.setitimer(signal.ITIMER_REAL, seconds)
    except (ImportError, AttributeError):
        return


def _answer(head: dict[str, Any], data: bytes, source: BinaryIO, sink: BinaryIO) -> dict[str, Any]:
    """The last answer to a request; those before it, of which each gives another spell of time, are sent as they come."""
    try:
        if "pages" in head:
            _limit_memory(int(head["memory"]))
            return _pages(head, data, source, sink)
        return {"parsed": dataclasses.asdict(_parsed(head, data, sink))}
    except OptionalDependencyError as error:
        return {"package": error.package, "extra": error.extra}
    except Unreadable as error:
        spoiled = isinstance(error.__cause__, MemoryError)
        return {"reason": error.reason, "stage": error.stage, "spoiled": spoiled}
    except MemoryError:
        reason = f"it took more than {int(head['memory']):,} bytes of memory to parse"
        return {"reason": reason, "stage": "isolating", "spoiled": True}
    except Exception as error:  # noqa: BLE001 - whatever a library raises is this file's trouble, and its words the only trace
        reason = f"its parser failed ({type(error).__name__}: {str(error)[:300]})"
        return {"reason": reason, "stage": "parsing", "spoiled": True}


def _parsed(head: dict[str, Any], data: bytes, sink: BinaryIO) -> Parsed:
    module, _, name = str(head["parser"]).partition(":")
    parser = getattr(importlib.import_module(module), name)
    _limit_memory(int(head["memory"]))

    def on_scan() -> None:
        _limit_time(float(head["seconds"]) + _SPARE_SECONDS)
        _send(sink, {"scan": True})

    parsed = parser(
        data,
        path=Path(head["path"]),
        limits=Limits(**head["limits"]),
        options=ParseOptions(**head["options"]),
        on_scan=on_scan,
    )
    if not isinstance(parsed, Parsed):
        raise TypeError(f"{head['parser']} gave {type(parsed).__name__}, not Parsed")
    return parsed


def _pages(head: dict[str, Any], data: bytes, source: BinaryIO, sink: BinaryIO) -> dict[str, Any]:
    """Send each page, and wait until the next is asked for by a line: so one is in memory, and time is counted while we work."""
    for number, picture in render_pages(data, limits=Limits(**head["limits"]), **head["pages"]):
        _limit_time(0)
        _send(sink, {"page": number}, picture)
        if not source.readline():
            raise SystemExit  # nobody is there any more
        _limit_time(float(head["seconds"]) + _SPARE_SECONDS)
    return {"pages": True}


def _serve(source: BinaryIO, sink: BinaryIO) -> None:
    _send(sink, {"ready": True})
    while line := source.readline():
        head = json.loads(line)
        data = source.read(int(head["bytes"]))
        if len(data) < int(head["bytes"]):
            return
        _limit_time(float(head["seconds"]) + _SPARE_SECONDS)
        answer = _answer(head, data, source, sink)
        _limit_time(0)
        _send(sink, answer)


def _send(sink: BinaryIO, answer: dict[str, Any], data: bytes = b"") -> None:
    body = json.dumps({**answer, "bytes": len(data)}).encode()
    sink.write(str(len(body)).encode() + b"\n" + body)
    sink.write(data)
    sink.flush()


def main() -> None:
    """Serve until the input ends. What a library prints goes nowhere: the output is for answers."""
    if sys.platform != "win32":
        import signal

        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for whoever asked; our input ends then
    sink = os.fdopen(os.dup(1), "wb")
    source = os.fdopen(os.dup(0), "rb")
    with open(os.devnull, "r+b") as nothing:  # noqa: PTH123
        os.dup2(nothing.fileno(), 0)
        os.dup2(nothing.fileno(), 1)
    from likewise.ingest.parsing import formats  # before memory is bounded

    del formats
    with source, sink:
        _serve(source, sink)


if __name__ == "__main__":
    main()
