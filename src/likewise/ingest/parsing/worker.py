"""The process behind ``ParserPool``: reads documents from its input, writes what they hold to its output. Started, not imported."""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any, BinaryIO

from likewise.errors import OptionalDependencyError
from likewise.ingest.parsing.parsed import Limits, Parsed, Unreadable

__all__ = ["main"]

#: Whoever asked ends us at the time they gave; this much later we end ourselves.
_SPARE_SECONDS = 5.0


def _limit_memory(extra: int) -> None:
    """Bound the address space to what is in use and ``extra`` bytes, where the system keeps such a limit."""
    try:
        import resource

        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    except (ImportError, OSError):
        return
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    wanted = pages * resource.getpagesize() + extra
    resource.setrlimit(resource.RLIMIT_AS, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))


def _limit_time(seconds: float) -> None:
    """End with the time that a document may take, should nobody be left to end us; 0 is no limit."""
    try:
        import signal

        signal.setitimer(signal.ITIMER_REAL, seconds)
    except (ImportError, AttributeError):
        return


def _answer(head: dict[str, Any], data: bytes) -> dict[str, Any]:
    module, _, name = str(head["parser"]).partition(":")
    path = Path(head["path"])
    try:
        parser = getattr(importlib.import_module(module), name)
        _limit_memory(int(head["memory"]))
        parsed = parser(data, path=path, limits=Limits(**head["limits"]))
        if not isinstance(parsed, Parsed):
            raise TypeError(f"{head['parser']} gave {type(parsed).__name__}, not Parsed")
        return {"parsed": dataclasses.asdict(parsed)}
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


def _serve(source: BinaryIO, sink: BinaryIO) -> None:
    _send(sink, {"ready": True})
    while line := source.readline():
        head = json.loads(line)
        data = source.read(int(head["bytes"]))
        if len(data) < int(head["bytes"]):
            return
        _limit_time(float(head["seconds"]) + _SPARE_SECONDS)
        answer = _answer(head, data)
        _limit_time(0)
        _send(sink, answer)


def _send(sink: BinaryIO, answer: dict[str, Any]) -> None:
    body = json.dumps(answer).encode()
    sink.write(str(len(body)).encode() + b"\n" + body)
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
