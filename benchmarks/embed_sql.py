"""What does ``embed()`` in SQL take beside the model's own time, for one caller and for many?

    python benchmarks/embed_sql.py [--model hashing:384] [--clients 1,20,80] [--seconds 5] [--rounds 3] [--version 18]

An embedded server, a worker as a process of its own, and pgbench, all on this machine. Every text is new; then one that is remembered. The
latency is the client's; beside it the model's own time for one text, called in this process alone. Medians over the rounds, in brackets the least
and the most.
"""

from __future__ import annotations

import argparse
import contextlib
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg

import likewise
from likewise.backends.postgres.embedded import EmbeddedServer
from likewise.backends.postgres.embedded.binaries import find_binaries
from likewise.embedding import load_embedder

NEW = "select likewise.embed(gen_random_uuid()::text, '{}');\n"
REMEMBERED = "select likewise.embed('the same each time', '{}');\n"


@contextlib.contextmanager
def worker(url: str, model: str) -> Iterator[None]:
    """A worker as a process, ready."""
    command = [sys.executable, "-m", "likewise.cli.main", "worker", "--database", url, "--model", model, "--warm-up"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as running:
        assert running.stderr is not None
        for line in running.stderr:
            if "answering" in line:
                break
        yield
        running.send_signal(signal.SIGTERM)
        print(f"the worker {running.communicate(timeout=30)[1].strip()}")


def measure(pgbench: Path, url: str, script: str, clients: int, seconds: float) -> tuple[float, float, float]:
    """(median milliseconds, 95th percentile, statements a second) of pgbench's own log."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "script.sql"
        file.write_text(script, encoding="utf-8")
        command = [
            str(pgbench), "--no-vacuum", f"--client={clients}", "--jobs=1", f"--time={seconds:.0f}", f"--file={file}",
            "--log", f"--log-prefix={folder}/log", url,
        ]  # fmt: skip
        began = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        took = time.perf_counter() - began
        if done.returncode:
            raise SystemExit(done.stderr)
        latencies = sorted(
            int(line.split()[2]) / 1_000
            for path in Path(folder).glob("log*")
            for line in path.read_text("utf-8").splitlines()
        )
    return statistics.median(latencies), latencies[int(0.95 * len(latencies))], len(latencies) / min(took, seconds)


def own_time(model: str) -> float:
    """Milliseconds that the model takes for one text of this kind."""
    embedder = load_embedder(model)
    times = []
    for number in range(300):
        began = time.perf_counter()
        embedder.embed_queries([f"1b4e28ba-2fa1-11d2-883f-0016d3cc{number:04d}"])
        times.append(time.perf_counter() - began)
    return statistics.median(times[50:]) * 1_000


def main() -> None:
    parser = argparse.ArgumentParser(description="The time of embed() in SQL beside the model's own.")
    parser.add_argument("--model", default="hashing:384")
    parser.add_argument("--clients", default="1,20,80")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--version", type=int, default=18)
    options = parser.parse_args()
    pgbench = find_binaries(options.version).program("pgbench")
    clients = [int(n) for n in options.clients.split(",")]
    found: dict[tuple[str, int], list[tuple[float, float, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o711)
        with EmbeddedServer(Path(folder) / "postgres", version=options.version) as server:
            with likewise.connect(server.url()) as store:
                store.install()  # type: ignore[attr-defined]
                print(
                    f"PostgreSQL {store.info().version}, Python {platform.python_version()}, {platform.machine()}, model {options.model}"
                )
            with worker(server.url(), options.model):
                for _ in range(options.rounds):
                    for name, script in (("new", NEW), ("remembered", REMEMBERED)):
                        for count in clients:
                            figures = measure(
                                pgbench, server.url(), script.format(options.model), count, options.seconds
                            )
                            found.setdefault((name, count), []).append(figures)
            with psycopg.connect(server.url()) as connection:
                slots = connection.execute("select count(*) from pg_replication_slots").fetchone()
                print(f"replication slots left: {slots[0] if slots else '?'}")
    own = own_time(options.model)
    print(f"the model alone: {own:.2f} ms a text\n")
    print("| texts | clients | p50, ms | p95, ms | a second |\n| --- | --- | --- | --- | --- |")
    for (name, count), rounds in found.items():
        cells = []
        for column in range(3):
            values = [r[column] for r in rounds]
            digits = 0 if column == 2 else 2
            cells.append(
                f"{statistics.median(values):,.{digits}f} ({min(values):,.{digits}f}–{max(values):,.{digits}f})"
            )
        print(f"| {name} | {count} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
