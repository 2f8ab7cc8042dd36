"""The side that asks: virtual environments, the processes of the systems, databases, and the memory of the server."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import queue
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import psycopg

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
#: in the order of the tables
SYSTEMS = (
    "hand_written",
    "likewise",
    "langchain_postgres",
    "llama_index",
    "vecs",
    "haystack",
    "chroma",
    "lancedb",
    "qdrant_edge",
    "faiss",
)
TITLES = {
    "hand_written": "psycopg by hand",
    "likewise": "Likewise",
    "langchain_postgres": "langchain-postgres",
    "llama_index": "llama-index",
    "vecs": "vecs",
    "haystack": "Haystack",
    "chroma": "Chroma",
    "lancedb": "LanceDB",
    "qdrant_edge": "Qdrant Edge",
    "faiss": "FAISS (ids only)",
}
#: no system reports home, and none takes another server's settings
QUIET = {
    "ANONYMIZED_TELEMETRY": "False",
    "HAYSTACK_TELEMETRY_ENABLED": "False",
    "LANGCHAIN_TRACING_V2": "false",
    "DO_NOT_TRACK": "1",
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
}


class PeerFailed(Exception):
    """A system could not be installed, or did not do what it was told; the text says at what and why."""


# Virtual environments


def environment(system: str, work: Path) -> Path:
    """The interpreter of a system's virtual environment, which is made if its requirements have not been installed yet."""
    requirements = HERE / f"{system}.txt"
    content = requirements.read_text("utf-8")
    if "-e ." in content:
        content += f"{ROOT}{(ROOT / 'pyproject.toml').read_text('utf-8')}"
    key = hashlib.sha256(f"{content}{sys.version}".encode()).hexdigest()[:10]
    folder = work / "venvs" / f"{system}-{key}"
    if not (folder / "done").exists():
        print(f"  installing {system}", flush=True)
        _make_environment(folder, ["-r", str(requirements)])
        (folder / "done").touch()
    return _interpreter(folder)


def repin(system: str, work: Path) -> None:
    """Write a system's requirements anew: what pip resolves today from the names in the file's first line."""
    requirements = HERE / f"{system}.txt"
    first = requirements.read_text("utf-8").splitlines()[0]
    wanted = first.removeprefix("# pip install ").split()
    folder = work / "venvs" / f"{system}-repin"
    _make_environment(folder, wanted)
    command = [str(_interpreter(folder)), "-m", "pip", "freeze", "--exclude-editable"]
    frozen = subprocess.run(command, capture_output=True, text=True, check=True, env=_variables()).stdout
    local = ["-e ."] if "-e" in wanted else []
    requirements.write_text("\n".join([first, *local, frozen]), "utf-8")
    shutil.rmtree(folder)


def _make_environment(folder: Path, wanted: Sequence[str]) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    for command in (
        [sys.executable, "-m", "venv", str(folder)],
        [str(_interpreter(folder)), "-m", "pip", "install", "--quiet", *wanted],
    ):
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False, env=_variables())
        if done.returncode:
            shutil.rmtree(folder, ignore_errors=True)
            said = (done.stderr or done.stdout).strip().splitlines()[-3:]
            raise PeerFailed(f"install: {' '.join(said)}")


def _interpreter(folder: Path) -> Path:
    return folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def _variables() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "PYTHON"))}
    return kept | QUIET


# Processes


class Process:
    """A running system, which is told to do one thing at a time."""

    def __init__(self, system: str, python: Path, place: str, data: Path, rows: int, fields: list[str], log: Path):
        self._log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        self._errors = log.open("ab")
        command = [str(python), "-m", f"peers.{system}", "--place", place, "--data", str(data)]
        self._process = subprocess.Popen(
            [*command, "--rows", str(rows), "--fields", ",".join(fields)],
            cwd=HERE.parent,
            env=_variables(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            encoding="utf-8",
        )
        self._answers: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._answers.put(line)
        self._answers.put("")

    def ask(self, do: str, *, timeout: float = 900, **details: Any) -> dict[str, Any]:
        """What the system answers to a command.

        Raises:
            PeerFailed: it raised an error, ended, or took too long, in which case it is ended.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"do": do, **details}) + "\n")
            self._process.stdin.flush()
            line = self._answers.get(timeout=timeout)
        except BrokenPipeError:
            line = ""
        except queue.Empty:
            self._process.kill()
            raise PeerFailed(f"{do}: no answer after {timeout:.0f} s") from None
        if not line:
            last = self._log.read_text("utf-8", errors="replace").strip().splitlines()[-1:]
            raise PeerFailed(f"{do}: the process ended: {' '.join(last)}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise PeerFailed(f"{do}: {' '.join(str(answer['error']).split())[:500]}")
        return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        with contextlib.suppress(PeerFailed):
            if self._process.poll() is None:
                self.ask("quit", timeout=20)
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._errors.close()


# The server


def plain_url(url: str) -> str:
    """The URL with the password in it, and a socket's folder as a parameter, which every driver understands."""
    with psycopg.connect(url) as connection:
        known = connection.info
        user = f"{quote(known.user, safe='')}:{quote(known.password, safe='')}"
        if known.host.startswith("/"):
            return f"postgresql://{user}@/{known.dbname}?host={quote(known.host, safe='/')}&port={known.port}"
        return f"postgresql://{user}@{known.host}:{known.port}/{known.dbname}"


def settle(url: str) -> None:
    """What autovacuum would do within some minutes, at once and for all alike."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("vacuum (analyze)")
        connection.execute("checkpoint")


def sizes(url: str) -> dict[str, int]:
    """Bytes of the database, less those of an empty one with pgvector; and of its HNSW indexes."""
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute("""
            select pg_database_size(current_database()),
                coalesce((select sum(pg_relation_size(c.oid)) from pg_class as c join pg_am as a on a.oid = c.relam
                          where a.amname = 'hnsw'), 0)
        """).fetchone()
    assert row is not None
    return {"disk": int(row[0]), "vector_index": int(row[1])}


def folder_size(folder: Path) -> int:
    return sum(file.stat().st_blocks * 512 for file in folder.rglob("*") if file.is_file() and not file.is_symlink())


class ServerMemory:
    """The most memory that the server's processes have had together, looked at ten times a second; 0 where it cannot be seen."""

    def __init__(self, url: str) -> None:
        self.most = 0
        self._stop = threading.Event()
        self._postmaster = 0
        with psycopg.connect(url) as connection, contextlib.suppress(OSError, psycopg.Error, ValueError, IndexError):
            row = connection.execute("select current_setting('data_directory')").fetchone()
            assert row is not None
            self._postmaster = int((Path(row[0]) / "postmaster.pid").read_text().splitlines()[0])

    @contextlib.contextmanager
    def watched(self) -> Iterator[Self]:
        thread = threading.Thread(target=self._watch, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            thread.join()

    def _watch(self) -> None:
        while self._postmaster and not self._stop.wait(0.1):
            self.most = max(self.most, self._now())

    def _now(self) -> int:
        """The private memory of each process, and once what they share, as far as the one that has seen most of it has."""
        private = shared = 0
        with contextlib.suppress(OSError):
            children = Path(f"/proc/{self._postmaster}/task/{self._postmaster}/children").read_text().split()
            for process in [str(self._postmaster), *children]:
                with contextlib.suppress(OSError, ValueError, KeyError):  # one that ends has no memory
                    status = Path(f"/proc/{process}/status").read_text()
                    numbers = {line.split(":")[0]: line.split()[1] for line in status.splitlines() if "kB" in line}
                    private += int(numbers["RssAnon"]) * 1024
                    shared = max(shared, int(numbers["RssShmem"]) * 1024)
        return private + shared


def machine() -> dict[str, Any]:
    model = platform.processor() or platform.machine()
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count(),
        "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else None,
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        "python": platform.python_version(),
    }


def revision() -> str:
    """The commit of the checkout, with a plus sign if files differ from it."""
    said = subprocess.run(
        ["git", "describe", "--always", "--dirty=+", "--abbrev=10"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return said.stdout.strip() or "unknown"
