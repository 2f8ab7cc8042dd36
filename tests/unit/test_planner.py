"""The planner of filtered searches: figures in, a way out. What the ways find is tried on real servers in ``tests/postgres``."""

from __future__ import annotations

import itertools

import pytest

from likewise import Metadata
from likewise.backends.postgres._planner import Estimate, FilterMemory, choose, read_plan, worth_counting

ROWS = 200_000.0


def served(matching: float, **more: float) -> Estimate:
    """A filter that an index finds the rows of, counted."""
    return Estimate(matching, ROWS, matching, counted=True, **more)


def test_few_matching_rows_are_compared_and_many_are_met_along_the_index() -> None:
    assert [choose(served(m), 10).exact for m in (0, 1, 100, 1_000, 3_000)] == [True] * 5
    assert [choose(served(m), 10).exact for m in (10_000, 100_000, 200_000)] == [False] * 3
    ways = [choose(served(m), 10).exact for m in range(0, 200_001, 1_000)]
    assert ways == sorted(ways, reverse=True), "there is one line between the two"


def test_rows_that_no_index_finds_make_comparing_dearer() -> None:
    assert choose(served(2_000), 10).exact
    assert not choose(Estimate(2_000, ROWS, ROWS, counted=True), 10).exact
    assert choose(Estimate(20, ROWS, ROWS, counted=True), 10).exact, (
        "hardly any rows match: the index would be walked forever"
    )


def test_more_rows_wanted_make_the_index_dearer() -> None:
    assert not choose(served(10_000), 10).exact
    assert choose(served(10_000), 500).exact


def test_each_way_is_bounded_by_what_the_other_costs() -> None:
    for matching, counted in itertools.product((1, 50, 2_000, 5_000, 50_000, 200_000), (True, False)):
        estimate = Estimate(matching, ROWS, matching, counted=counted)
        plan = choose(estimate, 10)
        if plan.exact and counted:
            assert plan.bound == 0, "a count needs no bound"
        elif plan.exact:
            assert plan.bound > matching
        else:
            assert plan.bound >= 4 * 10 * ROWS / matching, "room for filters that are somewhat correlated"
            assert plan.bound & (plan.bound - 1) == 0, "few different statements"


def test_a_filter_that_the_index_gives_out_for_is_compared_after_a_while_and_asked_again_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 1_000.0
    monkeypatch.setattr("likewise.backends.postgres._planner.time.monotonic", lambda: now)
    memory, key = FilterMemory(), FilterMemory.key(Metadata("a") == 1)
    estimate = served(20_000)
    memory.learn(key, estimate)
    asked = 0
    while not choose(estimate, 10).exact:
        estimate = memory.visited(key, estimate, gave_out=True)
        asked += 1
    assert 5 < asked < 30
    assert memory.get(key) == estimate
    now += 601
    assert memory.get(key) is None


def test_counting_mends_an_estimate() -> None:
    memory, key = FilterMemory(), "filter"
    guess = Estimate(50.0, ROWS, 50.0)
    memory.learn(key, guess)
    mended = memory.counted(key, guess, 120_000)
    assert (mended.matching, mended.looked_at, mended.counted) == (120_000, 120_000, True)
    assert memory.get(key) == mended
    unserved = memory.counted(key, Estimate(50.0, ROWS, ROWS), 10)
    assert (unserved.matching, unserved.looked_at) == (10, ROWS)


def test_what_is_near_the_line_is_counted_first() -> None:
    def guess(matching: float) -> Estimate:
        return Estimate(matching, ROWS, matching)

    assert worth_counting(guess(10), 10) == 0
    assert worth_counting(guess(150_000), 10) == 0
    near = next(m for m in range(100, 200_000, 100) if not choose(served(m), 10).exact)
    assert worth_counting(guess(near), 10) > near
    assert worth_counting(served(near), 10) == 0, "it was counted"


def test_filters_are_told_apart_by_type_and_the_oldest_are_forgotten() -> None:
    assert len({FilterMemory.key(Metadata("a") == value) for value in (1, True, "1", None, 1.5)}) == 5
    memory = FilterMemory()
    for n in range(1_500):
        memory.learn(str(n), served(n))
    assert memory.get("0") is None
    assert memory.get("1499") == served(1499)


@pytest.mark.parametrize(
    ("plan", "looked_at"),
    [
        ({"Node Type": "Seq Scan", "Plan Rows": 500}, ROWS),
        ({"Node Type": "Gather", "Plan Rows": 500, "Plans": [{"Node Type": "Seq Scan", "Plan Rows": 200}]}, ROWS),
        (
            {
                "Node Type": "Bitmap Heap Scan",
                "Plan Rows": 500,
                "Plans": [{"Node Type": "Bitmap Index Scan", "Plan Rows": 500}],
            },
            500,
        ),
        ({"Node Type": "Index Scan", "Plan Rows": 500}, 500),
    ],
    ids=lambda value: value["Node Type"] if isinstance(value, dict) else "",
)
def test_the_servers_plan_is_read(plan: dict[str, object], looked_at: float) -> None:
    assert read_plan([{"Plan": plan}], ROWS) == Estimate(500, ROWS, looked_at)
