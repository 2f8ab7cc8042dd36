"""Pieces of text in a picture are put in the order in which they are read."""

from __future__ import annotations

import random

from likewise.ingest.parsing.layout import Line, in_reading_order


def at(left: float, top: float, text: str, *, width: float = 300) -> Line:
    return Line(left, top, left + width, top + 20, text)


def column(left: float, name: str, *, top: float = 0, count: int = 5) -> list[Line]:
    return [at(left, top + 30 * n, f"{name}{n}") for n in range(count)]


def read(lines: list[Line]) -> str:
    random.Random(1).shuffle(lines)
    return in_reading_order(lines)


def test_rows_from_the_top_and_a_gap_begins_a_paragraph() -> None:
    assert read([at(0, 0, "one"), at(0, 26, "two"), at(0, 90, "three")]) == "one\ntwo\n\nthree"
    assert in_reading_order([]) == ""


def test_pieces_of_one_row_are_side_by_side_though_they_are_a_little_askew() -> None:
    assert read([at(400, 4, "b"), at(0, 0, "a"), at(800, -3, "c"), at(0, 40, "d")]) == "a b c\nd"


def test_columns_of_running_text_are_read_one_after_the_other() -> None:
    text = read([*column(0, "a"), *column(330, "b"), *column(660, "c")])
    assert text.replace("\n\n", "\n").split("\n") == [f"{name}{n}" for name in "abc" for n in range(5)]


def test_a_title_over_two_columns_stands_before_both() -> None:
    title = [at(0, 0, "The title", width=650), at(0, 30, "and its second line", width=640)]
    text = read([*title, *column(0, "a", top=100), *column(350, "b", top=100)])
    lines = [line for line in text.split("\n") if line]
    assert lines == ["The title", "and its second line", *(f"{name}{n}" for name in "ab" for n in range(5))]


def test_a_table_is_read_row_by_row() -> None:
    cells = [at(200 * x, 30 * y, f"{x}{y}", width=60) for x in range(3) for y in range(6)]
    assert read(cells).split("\n") == [f"0{y} 1{y} 2{y}" for y in range(6)]


def test_a_thousand_pieces_are_no_hour_s_work() -> None:
    chance = random.Random(2)
    lines = [at(chance.randrange(3_000), chance.randrange(3_000), str(n), width=170) for n in range(1_000)]
    assert len(read(lines).split()) == 1_000
