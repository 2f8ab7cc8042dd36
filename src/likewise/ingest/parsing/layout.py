"""In what order the lines of a picture are read: rows from the top, columns of running text one after the other. Pure geometry."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Line", "in_reading_order"]

#: A gutter is at least this many lines' heights wide, and has so many lines of running text, so long for their height, on each side.
_GUTTER, _FEWEST, _RUNNING = 0.8, 4, 8.0
#: Lines further apart than this many of their heights are of different paragraphs.
_PARAGRAPH = 0.9


@dataclass(frozen=True, slots=True)
class Line:
    """A piece of text where it stands in a picture: its sides in pixels from the left and from the top."""

    left: float
    top: float
    right: float
    bottom: float
    text: str

    @property
    def height(self) -> float:
        """In pixels."""
        return self.bottom - self.top


def in_reading_order(lines: Sequence[Line]) -> str:
    """The text of these pieces: those of one row side by side, rows from the top, an empty line where there is a gap.

    Columns of running text are read one after the other. Those of tables, whose cells are short, are read row by row.
    """
    return "\n\n".join(_rows(part) for part in _columns(list(lines)))


def _columns(lines: list[Line]) -> list[list[Line]]:
    """The lines in parts that are read one after the other, by gutters from top to bottom, first of the whole, then below what spans them."""
    if len(lines) < 2 * _FEWEST:
        return [lines] if lines else []
    if (place := _gutter(lines)) is not None:
        return [
            *_columns([line for line in lines if line.right <= place]),
            *_columns([line for line in lines if line.right > place]),
        ]
    # A title, or a figure, over both columns: the gutter may be found below it, or above.
    ordered = sorted(lines, key=lambda line: line.top)
    for count in range(1, len(ordered) - 2 * _FEWEST + 1):
        above, below = ordered[:count], ordered[count:]
        if max(line.bottom for line in above) > below[0].top + below[0].height / 2:
            continue
        if _gutter(below) is not None:
            return [*_columns(above), *_columns(below)]
    return [lines]


def _gutter(lines: list[Line]) -> float | None:
    """Where a gutter begins that no line crosses, between two columns of running text, or None."""
    height = statistics.median(line.height for line in lines)
    reach = -1.0
    for line in sorted(lines, key=lambda line: line.left):
        if reach >= 0 and line.left - reach >= _GUTTER * height:
            left = [other for other in lines if other.right <= reach]
            right = [other for other in lines if other.left > reach]
            if _is_running(left) and _is_running(right):
                return reach
        reach = max(reach, line.right)
    return None


def _is_running(lines: list[Line]) -> bool:
    """Whether these are lines of prose, and not the cells of a table."""
    return (
        len(lines) >= _FEWEST
        and statistics.median((line.right - line.left) / max(line.height, 1) for line in lines) >= _RUNNING
    )


def _rows(lines: list[Line]) -> str:
    """Row by row: pieces whose middles lie within each other's height are side by side."""
    rows: list[list[Line]] = []
    for line in sorted(lines, key=lambda line: (line.top + line.bottom) / 2):
        last = rows[-1][-1] if rows else None
        if last is not None and abs((line.top + line.bottom) - (last.top + last.bottom)) / 2 < 0.5 * min(
            line.height, last.height
        ):
            rows[-1].append(line)
        else:
            rows.append([line])
    text: list[str] = []
    bottom: float | None = None
    for row in rows:
        row.sort(key=lambda line: line.left)
        top, height = min(line.top for line in row), statistics.median(line.height for line in row)
        if bottom is not None:
            text.append("\n\n" if top - bottom > _PARAGRAPH * height else "\n")
        text.append(" ".join(line.text for line in row))
        bottom = max(line.bottom for line in row)
    return "".join(text)
