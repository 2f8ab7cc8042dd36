"""The results as Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from typing import Any

Result = dict[str, Any]
MB = 1e6
TARGETS = {
    "default": "As the library comes",
    "0.95": "At recall 0.95",
    "0.99": "At recall 0.99",
    "same": "At ef_search 100, over PostgreSQL",
}
WORDS = {
    "0.95": (
        "The lowest value tried of each system's dial that reached the recall. Several workers build an index of pgvector's, and no two are "
        "the same: which value that is differs by chance between the systems over PostgreSQL, and with it the time."
    ),
    "same": "What the libraries themselves cost, for the indexes are built alike and searched alike.",
}


def number(value: float) -> str:
    """Three digits that matter."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def spread(values: Sequence[float]) -> str:
    """The median, and in brackets the least and the most of the rounds."""
    middle = number(statistics.median(values))
    return f"{middle} ({number(min(values))}-{number(max(values))})" if len(values) > 1 else middle


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return ["| " + " | ".join(line) + " |" for line in lines] + [""]


def load_rates(result: Result) -> list[float]:
    return [each["rows"] / each["load_s"] for each in result["load"]]


def indexed_rates(result: Result) -> list[float]:
    return [each["rows"] / (each["load_s"] + each["index_s"]) for each in result["load"]]


def comparison(results: Result, drawn: Sequence[str], note: str | None = None) -> str:
    systems = {name: {"name": name} | result for name, result in results["systems"].items()}
    lines = [f"# Comparison, {results['date'][:10]}", "", *([note, ""] if note else []), *_setting(results), ""]
    lines += [f"![{name}]({name})" for name in drawn] + [""]
    lines += _loading(systems)
    for target, title in TARGETS.items():
        lines += _searching(systems, target, title)
    lines += _filtering(systems)
    failures = [f"- {result['title']}: {result['error']}" for result in systems.values() if result["error"]]
    lines += ["## Failed", "", *(failures or ["Nothing."]), "", *_notes(results, systems)]
    return "\n".join(lines).rstrip() + "\n"


def _setting(results: Result) -> list[str]:
    machine, data, options, server = (results[name] for name in ("machine", "data", "options", "server"))
    asked = "; unfiltered queries are asked once before they are timed" if results.get("asked_before") else ""
    size = f"{data['rows']:,} rows" if "rows" in data else "Rows"
    memory = f"{machine['memory'] / 2**30:.0f} GiB" if machine["memory"] else "unknown memory"
    settings = ", ".join(
        f"`{name}` {value}" for name, value in server.items() if name not in ("postgresql", "pgvector")
    )
    what = (
        f"{size} of {data['dimension']} dimensions: {data['texts']}, embedded with `{data['model']}`; "
        f"{options['queries']} held-out queries, top 10, one client, {options['rounds']} rounds of searches and "
        f"{options['load_rounds']} of loads, in which the systems take turns{asked}. Medians of the rounds, in brackets the least and the most. "
        "Ratios are what to read."
    )
    where = (
        f"{machine['cpu']}, {machine['cores']} cores, {memory}, {machine['system']}, Python {machine['python']}; load average "
        f"{results['load_average'][0]:.1f} at the start, {results['load_average'][-1]:.1f} at the end, {results['minutes']} minutes. "
        f"PostgreSQL {server['postgresql']}, pgvector {server['pgvector']}, {settings}; one server for all, a database each. "
        f"Likewise is at {results['revision']}."
    )
    return [what, "", where]


def _loading(systems: dict[str, Result]) -> list[str]:
    head = [
        "system",
        "version",
        "load, rows/s",
        "index, s",
        "until indexed, rows/s",
        "of by hand",
        "client at most, MB",
        "of which the data, MB",
        "on disk, MB",
    ]
    base = systems.get("hand_written", {}).get("load")
    rows = []
    for result in systems.values():
        loads = result["load"]
        if not loads:
            rows.append([result["title"], result.get("version", ""), "failed", *[""] * 6])
            continue
        until = indexed_rates(result)
        ratio = statistics.median(until) / statistics.median(indexed_rates(systems["hand_written"])) if base else None
        rows.append(
            [
                result["title"],
                result["version"],
                spread(load_rates(result)),
                spread([each["index_s"] for each in loads]),
                spread(until),
                f"{ratio:.2f}" if ratio else "",
                number(max(each["rss_peak"] for each in loads) / MB),
                number(max(each["rss_before"] for each in loads) / MB),
                number(result["disk"] / MB) if "disk" in result else "",
            ]
        )
    text = (
        "Into an empty collection, from the same lists and array in memory; then the HNSW index (m 16, ef_construction 64) and the indexes "
        "on the metadata that the library offers. Where `index` is 0 the index grew while loading. The data are what the client held "
        "before it began, its library included."
    )
    return ["## Loading", "", text, "", *table(head, rows)]


def _searching(systems: dict[str, Result], target: str, title: str) -> list[str]:
    head = ["system", "dial", "recall@10", "p50, ms", "of by hand", "p95, ms", "queries/s", "client at most, MB"]
    base = systems.get("hand_written", {}).get("search", {}).get(target, {}).get("p50")
    rows = []
    for result in systems.values():
        cell = result["search"].get(target)
        if cell is None and target == "same":
            continue
        if cell is None:
            why = "failed" if result["error"] else "has no dial"
            rows.append([result["title"], why, *[""] * 6])
        elif "missed" in cell:
            rows.append([result["title"], "out of reach", f"{cell['missed']:.3f} at most", *[""] * 5])
        elif "p50" not in cell:
            rows.append([result["title"], "failed", *[""] * 6])
        else:
            dial = "" if cell["dial"] is None else f"{result['dial']} {cell['dial']}"
            ratio = statistics.median(cell["p50"]) / statistics.median(base) if base else None
            rows.append(
                [
                    result["title"],
                    dial,
                    f"{cell['recall']:.3f}",
                    spread(cell["p50"]),
                    f"{ratio:.2f}" if ratio else "",
                    spread(cell["p95"]),
                    spread(cell["qps"]),
                    number(result["rss_search"] / MB),
                ]
            )
    words = [WORDS[target], ""] if target in WORDS else []
    return [f"## {title}", "", *words, *table(head, rows)] if rows else []


def _filtering(systems: dict[str, Result]) -> list[str]:
    names: list[str] = []
    for result in systems.values():
        names += [cell["name"] for cell in result["filtered"] if cell["name"] not in names]
    if not names:
        return []

    def block(title: str, show: Callable[[Result], str]) -> list[str]:
        rows = []
        for result in systems.values():
            cells = {cell["name"]: cell for cell in result["filtered"] if "p50" in cell}
            absent = "failed" if result["error"] else "-"
            rows.append([result["title"], *(show(cells[name]) if name in cells else absent for name in names)])
        return [f"### {title}", "", *table(["rows that match", *names], rows)]

    def returned(cell: Result) -> str:
        return f"{cell['rows']:.1f}" if cell["rows"] < cell["expected"] else f"{cell['expected']}"

    wrong = {result["title"]: sum(cell.get("wrong", 0) for cell in result["filtered"]) for result in systems.values()}
    bad = [f"{title} returned {count} rows that do not match." for title, count in wrong.items() if count]
    text = (
        "`field = value` with the library's default dial. The value is by chance for the given part of the rows; for the correlated filters it is "
        "the topic (nearest of 10 and 100 centres) of the row, so that most queries look outside of where they would find."
    )
    return [
        "## Filtered search",
        "",
        text,
        "",
        *([" ".join(bad), ""] if bad else []),
        *block("Recall@10", lambda cell: f"{cell['recall']:.3f}"),
        *block("Rows returned, of 10 or as many as match", returned),
        *block("p50, ms", lambda cell: spread(cell["p50"])),
    ]


def _notes(results: Result, systems: dict[str, Result]) -> list[str]:
    noise = []
    for result in systems.values():
        for cell in result["search"].values():
            if len(cell.get("p50", ())) > 1:
                noise.append((max(cell["p50"]) - min(cell["p50"])) / statistics.median(cell["p50"]))
    lines = ["## Noise", ""]
    if noise:
        lines.append(
            f"Between the rounds the p50 of a search differed by {100 * statistics.median(noise):.0f} % of its median (half of the cells "
            f"by less), at most {100 * max(noise):.0f} %."
        )
    lines += ["", "## What was called", ""]
    for result in systems.values():
        others = ", ".join(f"{name} {version}" for name, version in result.get("others", {}).items())
        lines.append(
            f"- **{result['title']}** {result.get('version', '')}{f' ({others})' if others else ''}: {result.get('note', '')}"
        )
    return lines


def growth(results: Result, drawn: Sequence[str], note: str | None = None) -> str:
    lines = [f"# Growth, {results['date'][:10]}", "", *([note, ""] if note else []), *_setting(results), ""]
    most = max(results["growth"], key=lambda size: int(size["made"]))
    if most["made"]:
        text = (
            f"There are {most['rows'] - most['made']:,} different lines to store. A row beyond those is made from two real ones by chance: its "
            "vector is 0.7 of the one and 0.3 of the other, at length 1, its text the beginnings of both. Queries are real and not stored. From "
            "200,000 rows on there is one load."
        )
        lines += [text, ""]
    lines += [f"![{name}]({name})" for name in drawn] + [""]
    head = [
        "rows",
        "system",
        "load, rows/s",
        "indexes, s",
        "ef_search for 0.95",
        "its recall@10",
        "its p50, ms",
        "p50 at ef_search 100, ms",
        "its recall@10",
        "client over its input, MB",
        "server at most while loading, MB",
        "vector index, MB",
        "on disk, MB",
    ]
    rows = []
    for size in results["growth"]:
        for result in size["systems"].values():
            cell, same = (result["search"].get(name, {}) for name in ("0.95", "same"))
            if result["error"] or not result["load"]:
                rows.append([f"{size['rows']:,}", result["title"], f"failed: {result['error']}", *[""] * 10])
                continue
            rows.append(
                [
                    f"{size['rows']:,}",
                    result["title"],
                    spread(load_rates(result)),
                    spread([each["index_s"] for each in result["load"]]),
                    f"{cell['dial']}" if cell.get("dial") else "out of reach",
                    f"{cell['recall']:.3f}" if "recall" in cell else f"{cell.get('missed', 0):.3f} at most",
                    spread(cell["p50"]) if "p50" in cell else "",
                    spread(same["p50"]) if "p50" in same else "",
                    f"{same['recall']:.3f}" if "recall" in same else "",
                    number(max(each["rss_peak"] - each["rss_before"] for each in result["load"]) / MB),
                    number(max(each["server_memory"] or 0 for each in result["load"]) / MB),
                    number(result["vector_index"] / MB),
                    number(result["disk"] / MB),
                ]
            )
    return "\n".join([*lines, *table(head, rows), *_growth_ratios(results["growth"])]).rstrip() + "\n"


def _growth_ratios(sizes: Sequence[Result]) -> list[str]:
    """Likewise over by hand, where both were measured."""
    rows = []
    for size in sizes:
        ours, theirs = size["systems"].get("likewise"), size["systems"].get("hand_written")
        if not (ours and theirs and ours["load"] and theirs["load"]):
            continue

        def ratio(of: Callable[[Result], Sequence[float]], ours: Result = ours, theirs: Result = theirs) -> str:
            both = of(ours), of(theirs)
            return f"{statistics.median(both[0]) / statistics.median(both[1]):.2f}" if all(both) else ""

        rows.append(
            [
                f"{size['rows']:,}",
                ratio(load_rates),
                ratio(lambda result: [each["index_s"] for each in result["load"]]),
                ratio(indexed_rates),
                ratio(lambda result: result["search"].get("same", {}).get("p50", ())),
                ratio(lambda result: result["search"].get("0.95", {}).get("p50", ())),
            ]
        )
    head = ["rows", "load, rows/s", "indexes, s", "until indexed, rows/s", "p50 at ef_search 100", "p50 at recall 0.95"]
    text = (
        "Indexes are built by parallel workers and differ from build to build, and so does the ef_search that reaches a recall: the ratio at "
        "the same ef_search is the steadier one."
    )
    return ["## Likewise over by hand", "", text, "", *table(head, rows)]
