"""The side of a measured system: commands on standard input, answers on standard output, and what every system has to provide.

Imports NumPy and the standard library only, for it runs in the environments of all systems.
"""

from __future__ import annotations

import abc
import argparse
import contextlib
import ctypes
import functools
import gc
import importlib.metadata
import json
import os
import platform
import resource
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TextIO

import numpy as np
from numpy.typing import NDArray

TOP_K = 10
M = 16
EF_CONSTRUCTION = 64
EF_SEARCH = (10, 12, 16, 20, 24, 28, 32, 40, 48, 56, 64, 80, 100, 128, 160, 200, 256, 320, 400, 500, 640, 800, 1000)

Vector = NDArray[np.float32]


@dataclass(frozen=True)
class Rows:
    """What is to be stored, by column; every system starts from these lists and this array in memory."""

    ids: list[str]
    vectors: Vector
    texts: list[str]
    metadata: list[dict[str, int]]

    @property
    def fields(self) -> list[str]:
        return list(self.metadata[0])

    def __len__(self) -> int:
        return len(self.ids)


def batches(count: int, size: int) -> list[slice]:
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]


class Peer(abc.ABC):
    """One system. ``place`` is the URL of an empty database, or an empty folder."""

    #: the distribution whose version is reported, and others worth knowing
    distribution: ClassVar[str]
    others: ClassVar[Sequence[str]] = ()
    #: "database" or "folder"
    needs: ClassVar[str] = "database"
    #: what is searched how, for the notes under the tables
    note: ClassVar[str] = ""
    #: the name of the setting that buys recall with time, its value if nobody sets it, and the values to try, ascending
    dial: ClassVar[str | None] = "ef_search"
    default: ClassVar[int | None] = 40
    dials: ClassVar[Sequence[int]] = EF_SEARCH
    filters: ClassVar[bool] = True

    def __init__(self, place: str) -> None:
        self.place = place

    @abc.abstractmethod
    def create(self, fields: Sequence[str], dimension: int) -> None:
        """Make what is written into, empty. Not timed."""

    @abc.abstractmethod
    def load(self, rows: Rows) -> None:
        """Store all rows durably, from the lists and the array as they are."""

    @abc.abstractmethod
    def index(self) -> None:
        """Build the indexes, of the vectors and of the metadata where the library has one; nothing if they were kept while loading."""

    @abc.abstractmethod
    def open(self, fields: Sequence[str], dimension: int) -> None:
        """Open what another process has loaded."""

    @abc.abstractmethod
    def turn(self, value: int | None) -> None:
        """Set the dial for the searches that follow; None for the library's default. Not timed."""

    @abc.abstractmethod
    def search(self, query: Vector) -> list[str]:
        """The ids of the ``TOP_K`` nearest rows, fetched with their text and metadata."""

    def search_filtered(self, query: Vector, field: str, value: int) -> list[str]:
        """The same among rows whose metadata ``field`` equals ``value``."""
        raise NotImplementedError

    def close(self) -> None:
        """Let go; called after loading, so that another process can open what was stored."""


def memory(name: str) -> int:
    """Bytes of memory of this process: ``VmRSS`` now, ``VmHWM`` at most so far."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def forget_peak() -> None:
    """Give freed memory back and let ``VmHWM`` count from here, where the system can, so that the peak is not that of reading the data."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def read_rows(folder: Path, count: int) -> Rows:
    rows = Rows([], np.array(np.load(folder / "rows.npy", mmap_mode="r")[:count]), [], [])
    with (folder / "rows.jsonl").open(encoding="utf-8") as lines:
        for line, _ in zip(lines, range(count), strict=False):
            read = json.loads(line)
            rows.ids.append(read["id"])
            rows.texts.append(read["text"])
            rows.metadata.append(read["metadata"])
    return rows


class Server:
    """Carries out commands, one at a time."""

    def __init__(self, kind: type[Peer], options: argparse.Namespace) -> None:
        self._kind = kind
        self._peer = kind(options.place)
        self._data: Path = options.data
        self._count: int = options.rows
        self._fields: list[str] = options.fields.split(",")
        self._queries: Vector = np.load(self._data / "queries.npy")

    def hello(self, _: dict[str, Any]) -> dict[str, Any]:
        kind = self._kind
        return {
            "version": importlib.metadata.version(kind.distribution),
            "others": {name: importlib.metadata.version(name) for name in kind.others},
            "python": platform.python_version(),
            "distribution": kind.distribution,
            "needs": kind.needs,
            "note": kind.note,
            "dial": kind.dial,
            "default": kind.default,
            "dials": list(kind.dials) if kind.dial else [],
            "filters": kind.filters,
            "rss": memory("VmRSS"),
        }

    def load(self, _: dict[str, Any]) -> dict[str, Any]:
        rows = read_rows(self._data, self._count)
        self._peer.create(self._fields, rows.vectors.shape[1])
        forget_peak()
        before = memory("VmRSS")
        started = time.perf_counter()
        self._peer.load(rows)
        loaded = time.perf_counter()
        return {"rows": len(rows), "load_s": loaded - started, "rss_before": before, "rss_peak": memory("VmHWM")}

    def index(self, _: dict[str, Any]) -> dict[str, Any]:
        started = time.perf_counter()
        self._peer.index()
        taken = time.perf_counter() - started
        self._peer.close()
        return {"index_s": taken, "rss_peak": memory("VmHWM")}

    def open(self, _: dict[str, Any]) -> dict[str, Any]:
        self._peer.open(self._fields, self._queries.shape[1])
        return {"rss": memory("VmRSS")}

    def search(self, command: dict[str, Any]) -> dict[str, Any]:
        """Queries one after another, until there are none left or ``limit_s`` has passed."""
        self._peer.turn(command["dial"])
        field: str | None = command.get("field")
        call: Callable[[Vector], list[str]] = self._peer.search
        if field is not None:
            call = functools.partial(self._peer.search_filtered, field=field, value=command["value"])
        queries = self._queries[: command["queries"]]
        for query in queries[-command["warm"] :]:
            call(query)
        taken: list[float] = []
        found: list[list[str]] = []
        began = time.perf_counter()
        for query in queries:
            started = time.perf_counter()
            ids = call(query)
            ended = time.perf_counter()
            taken.append(round((ended - started) * 1e3, 4))
            found.append(ids)
            if ended - began > command["limit_s"]:
                break
        return {"ms": taken, "found": found, "rss_peak": memory("VmHWM")}

    def quit(self, _: dict[str, Any]) -> dict[str, Any]:
        self._peer.close()
        return {}


def answer(server: Server, line: str) -> dict[str, Any]:
    try:
        command = json.loads(line)
        action: Callable[[dict[str, Any]], dict[str, Any]] = getattr(server, command["do"])
        return action(command)
    except Exception as error:  # noqa: BLE001 -- whatever the library raises is the answer
        traceback.print_exc()
        return {"error": f"{type(error).__name__}: {error}"}


def serve(kind: type[Peer]) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--place", required=True)
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--rows", required=True, type=int)
    parser.add_argument("--fields", required=True)
    options = parser.parse_args()
    out: TextIO = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print must not come between the answers
    server = Server(kind, options)
    for line in sys.stdin:
        print(json.dumps(answer(server, line)), file=out, flush=True)
        if '"quit"' in line:
            break
    out.close()
    os._exit(0)  # without waiting for the threads of libraries
