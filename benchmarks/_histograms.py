"""Draws distributions of cosines and the map over them as plain SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from likewise.calibration import Calibration, Pair

__all__ = ["draw"]

FONT = 'font-family="system-ui, sans-serif"'
INK, PALE, GRID, RANDOM, MATCHED, MAP = "#222222", "#666666", "#dddddd", "#64748b", "#2563eb", "#c2410c"
WIDTH, LEFT, RIGHT, TOP, TALL, GAP = 760, 40, 46, 70, 120, 52
Numbers = NDArray[np.float64]
#: A panel: the pair, what a match is, the cosines of matched and of random pairs.
Panel = tuple[Pair, str, tuple[Numbers, Numbers]]


def draw(path: Path, title: str, panels: Sequence[Panel], calibration: Calibration) -> str:
    """The name of the file, drawn: for each panel both densities, each as high as its peak, and the similarity from 0 to 1."""
    low = min(float(np.quantile(two[1], 0.001)) for _, _, two in panels)
    low = math.floor(min(low, 0.0) * 5) / 5
    height = TOP + len(panels) * (TALL + GAP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        text(16, 26, title, INK, 15),
    ]
    for place, (name, colour) in enumerate((("random pairs", RANDOM), ("matched pairs", MATCHED), ("similarity", MAP))):
        parts += [f'<rect x="{16 + 130 * place}" y="38" width="12" height="8" fill="{colour}"/>']
        parts += [text(34 + 130 * place, 46, name, PALE, 11)]

    def across(cosine: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (cosine - low) / (1.0 - low)

    for number, (pair, what, two) in enumerate(panels):
        top = TOP + number * (TALL + GAP)
        bottom = top + TALL
        for mark in np.arange(low, 1.001, 0.2):
            parts.append(line([(across(mark), top), (across(mark), bottom)], GRID))
            parts.append(text(across(mark), bottom + 14, f"{mark + 0.0:.1f}", PALE, 11, "middle"))
        for cosines, colour in zip(two[::-1], (RANDOM, MATCHED), strict=True):
            counts, edges = np.histogram(cosines, bins=round((1.0 - low) / 0.01), range=(low, 1.0))
            steps = [
                (across(float(edge)), bottom - 0.95 * TALL * count / counts.max())
                for edge, count in zip(edges, counts, strict=False)
            ]
            parts.append(area([(x, y) for x, y in steps], bottom, colour))
        curve = calibration.curve(pair)
        grid = np.linspace(low, 1.0, 300)
        parts.append(
            line(
                [
                    (across(x), bottom - TALL * y)
                    for x, y in zip(grid.tolist(), curve.apply(grid).tolist(), strict=True)
                ],
                MAP,
                2,
            )
        )
        reached = curve.score_for(0.8)
        if low < reached < 1:
            x, y = across(reached), bottom - 0.8 * TALL
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{MAP}"/>')
            parts.append(text(x - 8, y + 4, f"0.8 at {reached:.2f}", MAP, 11, "end"))
        parts.append(text(LEFT, bottom + 30, f"cosine, {pair}: {what} match", INK, 12))
        for mark in (0.0, 0.5, 1.0):
            parts.append(text(WIDTH - RIGHT + 6, bottom - TALL * mark + 4, f"{mark:g}", MAP, 11))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([*parts, "</svg>"]) + "\n", "utf-8")
    return path.name


def text(x: float, y: float, words: str, fill: str, size: int, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" {FONT} font-size="{size}" text-anchor="{anchor}" fill="{fill}" stroke="white" stroke-width="2.5" paint-order="stroke">{escape(words)}</text>'


def line(points: Sequence[tuple[float, float]], stroke: str, width: float = 1.0) -> str:
    joined = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline points="{joined}" fill="none" stroke="{stroke}" stroke-width="{width}"/>'


def area(points: Sequence[tuple[float, float]], bottom: float, fill: str) -> str:
    joined = " ".join(f"{x:.1f},{y:.1f}" for x, y in [(points[0][0], bottom), *points, (points[-1][0], bottom)])
    return f'<polygon points="{joined}" fill="{fill}" fill-opacity="0.35" stroke="{fill}"/>'
