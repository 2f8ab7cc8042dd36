"""Draws the results of ``compare.py`` as SVG: latency at equal recall, filtered recall, load rates; or growth.

    python benchmarks/plots.py benchmarks/results/compare-2026-01-31.json [--out benchmarks/results]

Needs nothing but the standard library.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from typing import Any

Result = dict[str, Any]
Point = tuple[float, float]

FONT = 'font-family="system-ui, sans-serif"'
INK, PALE, GRID = "#222222", "#666666", "#dddddd"
OURS = "#c2410c"
BLUE = "#2563eb"
COLOURS = {
    "hand_written": "#222222",
    "likewise": OURS,
    "langchain_postgres": BLUE,
    "llama_index": "#7c3aed",
    "vecs": "#0d9488",
    "haystack": "#65a30d",
    "chroma": "#db2777",
    "lancedb": "#ca8a04",
    "qdrant_edge": "#dc2626",
    "faiss": "#64748b",
    "likewise_bf16": "#ea580c",
    "likewise_mini": "#fb923c",
    "likewise_fastembed": "#84cc16",
    "sentence_transformers": BLUE,
    "fastembed": "#65a30d",
}


class Canvas:
    """SVG elements on white."""

    def __init__(self, width: int, height: int, title: str) -> None:
        self._parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">',
            f"<title>{escape(title)}</title>",
            f'<rect width="{width}" height="{height}" fill="white"/>',
        ]
        self.text(16, 26, title, size=15, weight="600")

    def text(
        self,
        x: float,
        y: float,
        text: str,
        *,
        size: int = 12,
        anchor: str = "start",
        fill: str = INK,
        weight: str = "400",
    ) -> None:
        self._parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" {FONT} font-size="{size}" font-weight="{weight}" text-anchor="{anchor}" '
            f'fill="{fill}">{escape(text)}</text>'
        )

    def line(self, points: Sequence[Point], stroke: str, width: float = 1.0) -> None:
        joined = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self._parts.append(
            f'<polyline points="{joined}" fill="none" stroke="{stroke}" stroke-width="{width}" stroke-linejoin="round"/>'
        )

    def bar(self, x: float, y: float, width: float, height: float, fill: str, opacity: float = 1.0) -> None:
        self._parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 1):.1f}" height="{height:.1f}" fill="{fill}" opacity="{opacity}"/>'
        )

    def dot(self, x: float, y: float, fill: str) -> None:
        self._parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.2" fill="{fill}"/>')

    def save(self, path: Path) -> str:
        path.write_text("\n".join([*self._parts, "</svg>"]) + "\n", "utf-8")
        return path.name


def ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten within the bounds; powers of ten alone where they suffice."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = (1,) if len(powers) > 4 else (1, 2, 5)
    return [step * 10.0**power for power in powers for step in steps if low <= step * 10.0**power <= high]


def logarithmic(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    return lambda value: start + (end - start) * math.log(value / low) / math.log(high / low)


def label(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:g}"


Series = tuple[str, list[tuple[float, float, float] | None]]


def bars(path: Path, title: str, groups: Sequence[tuple[str, str, Series]], unit: str) -> str | None:
    """Horizontal bars on a logarithmic scale, with a line from the least to the most; a group is (key, name, (legend, values))."""
    values = [value for _, _, (_, bunch) in groups for value in bunch if value]
    if not values:
        return None
    width, left, right, row = 760, 160, 90, 16
    count = len(groups[0][2][1])
    legends = groups[0][2][0].split("|")
    height = 70 + len(groups) * (count * row + 10) + 30
    low = min(each[1] for each in values) / 1.6
    high = max(each[2] for each in values) * 1.1
    at = logarithmic(low, high, left, width - right)
    canvas = Canvas(width, height, title)
    bottom = height - 34
    for tick in ticks(low, high):
        canvas.line([(at(tick), 52), (at(tick), bottom)], GRID)
        canvas.text(at(tick), bottom + 16, label(tick), size=11, anchor="middle", fill=PALE)
    canvas.text(width - right + 8, bottom + 16, unit, size=11, fill=PALE)
    shades = [f"{'darker' if i == 0 else 'paler'}: {name}" for i, name in enumerate(legends) if count > 1]
    canvas.text(left, 44, "; ".join([*shades, "logarithmic scale"]), size=11, fill=PALE)
    y = 58.0
    for key, name, (_, bunch) in groups:
        canvas.text(left - 8, y + count * row / 2 + 4, name, anchor="end", weight="600" if key == "likewise" else "400")
        for number, value in enumerate(bunch):
            top = y + number * row
            if value is None:
                canvas.text(left + 4, top + row - 4, "not reached or failed", size=11, fill=PALE)
                continue
            middle, least, most = value
            canvas.bar(left, top + 1, at(middle) - left, row - 3, COLOURS[key], 1.0 if number == 0 else 0.5)
            canvas.line([(at(least), top + row / 2 - 0.5), (at(most), top + row / 2 - 0.5)], PALE, 1.5)
            canvas.text(at(most) + 6, top + row - 4, label(round(middle, 2)), size=11)
        y += count * row + 10
    return canvas.save(path)


def grid(
    path: Path, title: str, columns: Sequence[str], rows: Sequence[tuple[str, str, Sequence[float | None]]]
) -> str | None:
    """A table of numbers from 0 to 1, the nearer to 1 the darker; a row is (key, name, values)."""
    if not rows:
        return None
    left, cell, tall, top = 160, 66, 26, 74
    width, height = left + cell * len(columns) + 16, top + tall * len(rows) + 16
    canvas = Canvas(width, height, title)
    for number, column in enumerate(columns):
        for line, text in enumerate(reversed(column.split(" ", column.count(" ") - 1))):
            canvas.text(left + cell * (number + 0.5), 66 - 14 * line, text, size=11, anchor="middle", fill=PALE)
    for place, (key, name, values) in enumerate(rows):
        y = top + tall * place
        canvas.text(left - 8, y + 17, name, anchor="end", weight="600" if key == "likewise" else "400")
        for number, value in enumerate(values):
            x = left + cell * number
            if value is not None:
                canvas.bar(x, y, cell - 2, tall - 2, BLUE, round(0.04 + 0.76 * value**2, 3))
            dark = value is not None and value > 0.8
            canvas.text(
                x + cell / 2 - 1,
                y + 16,
                "-" if value is None else f"{value:.2f}",
                size=11,
                anchor="middle",
                fill="#ffffff" if dark else INK,
            )
    return canvas.save(path)


def lines(
    path: Path,
    title: str,
    series: Sequence[tuple[str, str, list[Point]]],
    axes: tuple[str, str],
) -> str | None:
    """Lines, both axes logarithmic; a series is (key, name, points)."""
    points = [point for _, _, each in series for point in each]
    if not points or min(x for x, _ in points) == max(x for x, _ in points):
        return None
    width, height, left, right, top, bottom = 760, 400, 64, 170, 48, 350
    low_x, high_x = min(x for x, _ in points), max(x for x, _ in points)
    x_of = logarithmic(low_x, high_x, left + 10, width - right)
    canvas = Canvas(width, height, title)
    low_y, high_y = min(y for _, y in points) / 1.3, max(y for _, y in points) * 1.3
    y_of = logarithmic(low_y, high_y, bottom, top)
    for mark in ticks(low_y, high_y):
        canvas.line([(left, y_of(mark)), (width - right, y_of(mark))], GRID)
        canvas.text(left - 8, y_of(mark) + 4, label(mark), size=11, anchor="end", fill=PALE)
    for x in sorted({x for x, _ in points}):
        canvas.text(x_of(x), bottom + 18, label(x), size=11, anchor="middle", fill=PALE)
    canvas.text((left + width - right) / 2, bottom + 38, axes[0], anchor="middle", fill=PALE)
    canvas.text(left - 48, top - 10, axes[1], size=11, fill=PALE)
    for number, (key, name, each) in enumerate(series):
        placed = [(x_of(x), y_of(y)) for x, y in sorted(each)]
        canvas.line(placed, COLOURS[key], 2.6 if key == "likewise" else 1.5)
        for x, y in placed:
            canvas.dot(x, y, COLOURS[key])
        canvas.line([(width - right + 14, top + 18 * number), (width - right + 34, top + 18 * number)], COLOURS[key], 3)
        canvas.text(width - right + 40, top + 18 * number + 4, name, weight="600" if key == "likewise" else "400")
    return canvas.save(path)


def _three(values: Sequence[float] | None) -> tuple[float, float, float] | None:
    return (statistics.median(values), min(values), max(values)) if values else None


def draw(results: Result, folder: Path) -> list[str]:
    """The names of the files that were drawn into ``folder``; what there is no data for is left out."""
    folder.mkdir(parents=True, exist_ok=True)
    made = _growth(results["growth"], folder) if "growth" in results else _comparison(results["systems"], folder)
    return [name for name in made if name]


def _comparison(systems: dict[str, Result], folder: Path) -> list[str | None]:
    latency: list[tuple[str, str, Series]] = []
    rates: list[tuple[str, str, Series]] = []
    for key, result in systems.items():
        times = [_three(result["search"].get(target, {}).get("p50")) for target in ("0.95", "0.99")]
        latency.append((key, result["title"], ("recall@10 of 0.95|of 0.99", times)))
        loaded = [each["rows"] / each["load_s"] for each in result["load"]]
        indexed = [each["rows"] / (each["load_s"] + each["index_s"]) for each in result["load"]]
        rates.append(
            (key, result["title"], ("until indexed|before the index is built", [_three(indexed), _three(loaded)]))
        )
    named = [{cell["name"]: cell.get("recall") for cell in result["filtered"]} for result in systems.values()]
    columns = list(dict.fromkeys(name for each in named for name in each))
    filtered = [
        (key, result["title"], [recalls.get(name) for name in columns])
        for (key, result), recalls in zip(systems.items(), named, strict=True)
        if recalls
    ]
    return [
        bars(
            folder / "compare-latency.svg", "Median time of a search at equal recall (shorter is better)", latency, "ms"
        ),
        bars(folder / "compare-load.svg", "Rows a second into an empty collection (longer is better)", rates, "rows/s"),
        grid(
            folder / "compare-filtered.svg",
            "Recall@10 of filtered searches, by the rows that match, as the libraries come",
            columns,
            filtered,
        ),
    ]


def _growth(sizes: Sequence[Result], folder: Path) -> list[str | None]:
    def series(of: Callable[[Result], float | None]) -> list[tuple[str, str, list[Point]]]:
        made: dict[str, tuple[str, list[Point]]] = {}
        for size in sizes:
            for key, result in size["systems"].items():
                value = of(result)
                if value is not None:
                    made.setdefault(key, (result["title"], []))[1].append((float(size["rows"]), value))
        return [(key, title, points) for key, (title, points) in made.items()]

    def latency(result: Result, name: str = "0.95") -> float | None:
        times = result["search"].get(name, {}).get("p50")
        return statistics.median(times) if times else None

    def same(result: Result) -> float | None:
        return latency(result, "same")

    def build(result: Result) -> float | None:
        return statistics.median([each["index_s"] for each in result["load"]]) if result["load"] else None

    return [
        lines(folder / "growth-latency.svg", "p50 at recall@10 of 0.95", series(latency), ("rows", "ms")),
        lines(folder / "growth-same.svg", "p50 at ef_search 100", series(same), ("rows", "ms")),
        lines(folder / "growth-build.svg", "Time to build the indexes", series(build), ("rows", "s")),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="a JSON file that compare.py wrote")
    parser.add_argument("--out", type=Path, help="a folder, the file's own if left out")
    options = parser.parse_args()
    for name in draw(json.loads(options.results.read_text("utf-8")), options.out or options.results.parent):
        print(name)


if __name__ == "__main__":
    main()
