"""What do callers that search at the same time gain by being embedded together, and does a single caller lose by it?

    python benchmarks/concurrent_queries.py [--model mini] [--callers 1,8,32] [--rounds 5] [--seconds 2] [--texts lines.txt]

Both ways are the library's own: each caller embeds one query after another, all different, so that none is remembered. Apart, each is a
call of the model; together is what ``search`` does. Only embedding is measured, without a database. Rounds alternate between the two ways;
medians of the rounds, in brackets the least and the most. Beside the rate, which other programs on the machine change, there is the time of
the processor that a query takes.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import platform
import statistics
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path

import onnxruntime

from likewise import Embedder
from likewise.abc.batching import queries_of
from likewise.abc.running_async import run_blocking, run_together
from likewise.embedding import load_embedder

WORDS = """
red blue green dress shoes jacket summer winter cotton leather waterproof small large cheap handmade vintage kitchen garden lamp table
chair running hiking city travel music guitar camera battery wireless dog cat horse river mountain bread coffee tea
"""
Measured = tuple[float, float, float]


def queries(path: Path | None) -> Iterator[str]:
    """Without end, and no two alike: lines of a file, or two to nine words."""
    if path is not None:
        lines = [line for line in path.read_text("utf-8").splitlines() if line.strip()]
        return (f"{lines[number % len(lines)]} {number}" for number in itertools.count())
    words = WORDS.split()
    return (
        " ".join(words[(number * 7 + k * k * 3 + k) % len(words)] for k in range(2 + number % 8)) + f" {number}"
        for number in itertools.count()
    )


def in_threads(call: Callable[[str], object], texts: Iterator[str], callers: int, seconds: float) -> Measured:
    """(queries a second, median milliseconds of one, milliseconds of the processor for one) of so many threads."""
    lock, taken = threading.Lock(), list[float]()
    ends = time.perf_counter() + seconds

    def work() -> None:
        mine: list[float] = []
        while time.perf_counter() < ends:
            with lock:
                text = next(texts)
            started = time.perf_counter()
            call(text)
            mine.append(time.perf_counter() - started)
        with lock:
            taken.extend(mine)

    threads = [threading.Thread(target=work) for _ in range(callers)]
    started, used = time.perf_counter(), time.process_time()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return measured(taken, time.perf_counter() - started, time.process_time() - used)


def in_tasks(call: Callable[[str], Awaitable[object]], texts: Iterator[str], callers: int, seconds: float) -> Measured:
    """The same of so many tasks of one event loop."""
    taken: list[float] = []

    async def work(ends: float) -> None:
        while time.perf_counter() < ends:
            text = next(texts)
            started = time.perf_counter()
            await call(text)
            taken.append(time.perf_counter() - started)

    async def all_of_them() -> float:
        started = time.perf_counter()
        await asyncio.gather(*(work(started + seconds) for _ in range(callers)))
        return time.perf_counter() - started

    used = time.process_time()
    return measured(taken, asyncio.run(all_of_them()), time.process_time() - used)


def measured(taken: Sequence[float], seconds: float, used: float) -> Measured:
    return len(taken) / seconds, statistics.median(taken) * 1e3, used / len(taken) * 1e3


def spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.3g} ({min(values):.3g}-{max(values):.3g})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--callers", default="1,8,32")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each way in each round")
    parser.add_argument("--texts", type=Path, help="a file of lines to search for, in place of made ones")
    options = parser.parse_args()
    model: Embedder = load_embedder(options.model)
    model.embed_queries(["warm"])
    texts = queries(options.texts)
    batcher = queries_of(model)
    threads: dict[str, Callable[[str], object]] = {
        "apart": lambda text: model.embed_queries([text]),
        "together": lambda text: batcher.call(model.embed_queries, [text]),
    }
    tasks: dict[str, Callable[[str], Awaitable[object]]] = {
        "apart": lambda text: run_blocking(model.embed_queries, [text]),
        "together": lambda text: run_together(batcher, model.embed_queries, [text]),
    }
    print(
        "| callers | queries/s apart | together | ratio | median ms apart | together | processor ms apart | together |"
    )
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for kind in ("threads", "tasks"):
        for callers in map(int, options.callers.split(",")):
            rounds: dict[str, list[Measured]] = {"apart": [], "together": []}
            for number in range(options.rounds):
                for way in sorted(rounds, reverse=bool(number % 2)):
                    if kind == "threads":
                        rounds[way].append(in_threads(threads[way], texts, callers, options.seconds))
                    else:
                        rounds[way].append(in_tasks(tasks[way], texts, callers, options.seconds))
            apart, together = (list(zip(*each, strict=True)) for each in rounds.values())
            ratio = statistics.median(t / a for a, t in zip(apart[0], together[0], strict=True))
            cells = [f"{callers} {kind}", spread(apart[0]), spread(together[0]), f"{ratio:.2f}"]
            cells += [spread(each[what]) for what in (1, 2) for each in (apart, together)]
            print("| " + " | ".join(cells) + " |", flush=True)
    print(
        f"\n{model.card.name}; ONNX Runtime {onnxruntime.__version__}, Python {platform.python_version()}, {os.cpu_count()} cores, "
        f"{platform.machine()}, load average {os.getloadavg()[0]:.1f}"
    )


if __name__ == "__main__":
    main()
