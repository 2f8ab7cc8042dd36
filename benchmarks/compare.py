"""Likewise beside other libraries, on the same machine in the same run: loading, search at equal recall, filtered search.

    scripts/bench                                       # every system, 50,000 rows, 5 rounds
    scripts/bench --quick                               # 5,000 rows, 2 rounds: whether everything works
    scripts/bench --systems hand_written,likewise,vecs --rows 20000
    scripts/bench --growth 10000,50000,200000,1000000   # this library and hand-written SQL only, as the collection grows
    scripts/bench --again results.json --note words.md  # the report and the plots anew, from a run's figures

Every system runs in a process and a virtual environment of its own (``peers/<system>.py`` and ``.txt``), through its ordinary public API,
with vectors that are given. Those over PostgreSQL share one server and have a database each. Systems take turns in every round, so that
what else the machine does falls on all of them. Writes ``compare-<date>.json``, ``compare.md`` and SVGs into ``--out``; with ``--growth``,
``growth`` in place of ``compare``.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import plots
import psycopg
from peers import _report
from peers._data import TooFewLines, prepare
from peers._harness import SYSTEMS, machine, repin, revision
from peers._measure import Bench, Plan

from likewise.testing.database import server_url

RESULTS = Path(__file__).parent / "results"
WORK = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "likewise-bench"
GROWING = ["hand_written", "likewise"]
#: rows from which growth loads once only, and then waits longer
LARGE = 200_000


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--queries", type=int, default=200, help="held-out queries of an unfiltered round")
    parser.add_argument("--filter-queries", type=int, default=50, help="queries for each filter of a round")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of searches")
    parser.add_argument("--load-rounds", type=int, help="rounds of loads, 3 or as many as --rounds if that is fewer")
    parser.add_argument("--systems", default=",".join(SYSTEMS), help=f"of {', '.join(SYSTEMS)}")
    parser.add_argument("--growth", help="sizes to measure this library and hand-written SQL at, in place of --rows")
    parser.add_argument("--quick", action="store_true", help="5,000 rows, 50 queries, 2 rounds, 1 load")
    parser.add_argument("--texts", type=Path, help="a file of lines to embed, in place of lines found on this machine")
    parser.add_argument("--source-note", metavar="TEXT", help="what the texts are, for the report")
    parser.add_argument("--note", type=Path, metavar="FILE", help="text to put below the report's heading")
    parser.add_argument("--again", type=Path, metavar="JSON", help="report on an earlier run in place of measuring")
    parser.add_argument("--work", type=Path, default=WORK, help=f"environments, data and logs ({WORK})")
    parser.add_argument("--out", type=Path, default=RESULTS, help=f"where the results go ({RESULTS})")
    parser.add_argument("--url", help="a server to create databases on; an embedded one if left out")
    parser.add_argument("--repin", metavar="SYSTEMS", help="write these systems' requirements anew, and end")
    options = parser.parse_args()
    if options.quick:
        options.rows, options.queries, options.filter_queries, options.rounds, options.load_rounds = 5000, 50, 20, 2, 1
    options.load_rounds = options.load_rounds or min(3, options.rounds)
    options.systems = options.systems.split(",")
    unknown = set(options.systems) - set(SYSTEMS)
    if unknown:
        parser.error(f"no such system: {', '.join(sorted(unknown))}")
    return options


def about_server(url: str) -> dict[str, str]:
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute("select default_version from pg_available_extensions where name = 'vector'").fetchone()
        shown = ("shared_buffers", "maintenance_work_mem", "max_parallel_maintenance_workers", "work_mem")
        settings = {name: connection.execute(f"show {name}".encode()).fetchone() for name in shown}
        version = connection.execute("show server_version").fetchone()
    return {
        "postgresql": str(version[0]).split()[0] if version else "unknown",
        "pgvector": row[0] if row else "none",
        **{name: str(value[0]) for name, value in settings.items() if value},
    }


def measure(options: argparse.Namespace, server: str) -> Iterator[dict[str, Any]]:
    """What one comparison found, or growth, after each size anew with what is known by then."""
    if not options.growth:
        print("data", flush=True)
        data = prepare(options.work, options.texts, options.source_note, options.rows, options.queries)
        plan = Plan(options.queries, options.filter_queries, options.rounds, options.load_rounds)
        systems = Bench(options.systems, data, plan, server, options.work).run()
        yield {"data": data.about | {"rows": options.rows}, "systems": systems}
        return
    sizes: list[dict[str, Any]] = []
    for rows in sorted(int(each) for each in options.growth.split(",")):
        print(f"data of {rows:,} rows", flush=True)
        data = prepare(options.work, options.texts, options.source_note, rows, options.queries, grow=True)
        plan = Plan(
            options.queries,
            options.filter_queries,
            options.rounds,
            load_rounds=1 if rows >= LARGE else options.load_rounds,
            targets=(0.95,),
            filters=False,
            patience=7200 if rows >= LARGE else 1800,
        )
        systems = Bench(GROWING, data, plan, server, options.work).run()
        sizes.append({"rows": rows, "made": rows - data.about["real"], "systems": systems})
        yield {"data": data.about, "growth": sizes}


def write(results: dict[str, Any], out: Path, note: str | None) -> None:
    """The plots and the report."""
    out.mkdir(parents=True, exist_ok=True)
    name, render = ("growth", _report.growth) if "growth" in results else ("compare", _report.comparison)
    report = render(results, plots.draw(results, out), note)
    (out / f"{name}.md").write_text(report, "utf-8")
    print(report)


def main() -> int:
    options = arguments()
    note = options.note.read_text("utf-8").strip() if options.note else None
    if options.again:
        write(json.loads(options.again.read_text("utf-8")), options.out, note)
        return 0
    options.work.mkdir(parents=True, exist_ok=True)
    if options.repin:
        for system in options.repin.split(","):
            repin(system, options.work)
        return 0
    started = datetime.datetime.now().astimezone()
    results: dict[str, Any] = {
        "date": started.isoformat(timespec="minutes"),
        "revision": revision(),
        "machine": machine(),
        "load_average": [os.getloadavg()[0]],
        "options": {name: getattr(options, name) for name in ("queries", "filter_queries", "rounds", "load_rounds")},
        "asked_before": True,
    }
    options.out.mkdir(parents=True, exist_ok=True)
    kept = options.out / f"{'growth' if options.growth else 'compare'}-{started:%Y-%m-%d}.json"
    try:
        with server_url(options.url) as server:
            results["server"] = about_server(server)
            for found in measure(options, server):
                results |= found
                results["load_average"].append(os.getloadavg()[0])
                results["minutes"] = round((datetime.datetime.now().astimezone() - started).total_seconds() / 60, 1)
                kept.write_text(json.dumps(results, indent=1) + "\n", "utf-8")
    except TooFewLines as error:
        print(error, file=sys.stderr)
        return 2
    write(results, options.out, note)
    measured = [results["systems"]] if "systems" in results else [each["systems"] for each in results["growth"]]
    return 1 if any(result["error"] for systems in measured for result in systems.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
