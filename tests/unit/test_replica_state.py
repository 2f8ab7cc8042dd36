"""What readers and the keeper of a replica know: numbered questions, waits and patience; and commits that are applied together."""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any, cast

import numpy as np
import pytest

from likewise import CollectionSpec, InvalidArgument
from likewise.abc.feeds import Commit, Feed, Gone, Position, Rows
from likewise.backends.faiss.following import _FEW_CHANGES, _together
from likewise.backends.faiss.image import Image
from likewise.backends.faiss.replica import Learnt, Replica, Written

SPEC = CollectionSpec("things", dimension=2)


class Counting(Feed):
    """Positions are numbers; nothing is ever told."""

    position = Position("0")

    async def begin(self, after: Position | None) -> bool:
        return False

    async def snapshot(self) -> AsyncIterator[Rows]:
        nothing: list[Rows] = []
        for rows in nothing:
            yield rows

    async def commits(self) -> AsyncIterator[Sequence[Commit]]:
        nothing: list[Sequence[Commit]] = []
        for commits in nothing:
            yield commits

    async def kept(self, position: Position) -> None: ...

    async def hurry(self) -> None: ...

    async def forget(self) -> None: ...

    async def aclose(self) -> None: ...

    def reached(self, position: Position, wanted: Position) -> bool:
        if not wanted.isdecimal():
            raise InvalidArgument(f"{wanted} is no position")
        return int(position) >= int(wanted)


def following(patience: float = 5.0, at: int = 0) -> tuple[Replica, Image]:
    """A replica that follows, and its image."""
    replica = Replica(SPEC, frozenset(), lambda _: Counting(), patience=patience)
    image = Image(SPEC, holds=frozenset())
    image.fill(Rows(["a"], {"": np.array([[1, 0]], np.float32)}))
    image.filled(Position(str(at)))
    replica.follow(image, Counting())
    return replica, image


def move(replica: Replica, image: Image, to: int) -> None:
    image.apply(Commit(Position(str(to))))
    replica.moved()


def learn(replica: Replica, at: int) -> Learnt:
    return replica.learnt(replica.ask(), Position(str(at)))


def test_a_write_is_outstanding_until_a_position_that_was_asked_for_after_it_is_reached() -> None:
    replica, image = following()
    before = replica.ask()
    replica.wrote()
    assert replica.outstanding
    replica.learnt(before, Position("5"))  # Asked for before the write: it says nothing of it.
    assert replica.own_writes() is None
    learnt = learn(replica, 7)
    assert replica.own_writes() == learnt
    waiting = replica.wait_for([learnt])
    assert waiting is not None
    move(replica, image, 6)
    assert not waiting.done()
    move(replica, image, 7)
    assert waiting.done()
    assert not replica.outstanding


def test_a_write_during_the_wait_is_outstanding_still() -> None:
    replica, image = following()
    replica.wrote()
    learnt = learn(replica, 3)
    waiting = replica.wait_for([learnt])
    assert waiting is not None
    replica.wrote()
    move(replica, image, 4)
    assert waiting.done()
    assert replica.outstanding
    assert replica.own_writes() is None


def test_answers_that_come_late_do_not_go_back() -> None:
    replica, _ = following()
    first, second = replica.ask(), replica.ask()
    replica.learnt(second, Position("9"))
    replica.learnt(first, Position("8"))
    newest = replica.learnt_since(first.asked)
    assert newest is not None
    assert newest.position == "9"
    assert replica.learnt_since(time.monotonic() + 1) is None


def test_what_is_reached_is_known_to_be_current() -> None:
    replica, image = following(at=5)
    assert not replica.current_since(0.0)
    learnt = learn(replica, 5)
    assert replica.wait_for([learnt]) is None
    assert learnt.question is not None
    assert replica.current_since(learnt.question.asked)
    assert not replica.current_since(time.monotonic() + 1)
    assert replica.status().lag is not None
    assert image.position == "5"


def test_after_a_wait_in_vain_nobody_waits_until_that_is_reached() -> None:
    replica, image = following(patience=5.0)
    wanted = [learn(replica, 10)]
    waiting = replica.wait_for(wanted)
    assert waiting is not None
    assert replica.seconds() == 5.0
    replica.gave_up(waiting, wanted)
    assert not replica.waited_for()
    assert replica.seconds() == 0.0
    move(replica, image, 10)
    assert replica.seconds() == 5.0


def test_while_it_is_built_the_time_counts_from_when_that_began() -> None:
    replica = Replica(SPEC, frozenset(), lambda _: Counting(), patience=0.2)
    replica.leave("building")
    assert 0.0 < replica.seconds() <= 0.2
    time.sleep(0.25)
    assert replica.seconds() == 0.0
    replica.leave("failed", "no right")
    assert replica.seconds() == 0.0
    assert replica.why_not() == "the replica failed: no right"
    replica.leave("stopped")
    assert replica.seconds() == 0.0


def test_who_waits_for_a_copy_that_comes_is_woken_and_who_waits_for_one_that_ends_too() -> None:
    replica, image = following(at=3)
    replica.leave("failed", "lost")
    waiting = replica.wait_for([Learnt(Position("2"))])
    assert waiting is not None
    replica.follow(image, Counting())
    assert waiting.done()
    replica.leave("building")
    waiting = replica.wait_for([])
    assert waiting is not None
    replica.leave("stopped")
    assert waiting.result(0) is None
    assert replica.image is None


def test_no_position_is_told_to_who_gave_it_and_harms_nobody_else() -> None:
    replica, image = following()
    with pytest.raises(InvalidArgument):
        replica.wait_for([Learnt(Position("x"))])
    replica.leave("building")
    wrong, right = replica.wait_for([Learnt(Position("x"))]), replica.wait_for([Learnt(Position("1"))])
    assert wrong is not None
    assert right is not None
    move(replica, image, 1)
    replica.follow(image, Counting())
    assert isinstance(wrong.exception(0), InvalidArgument)
    assert right.done()


def test_a_number_of_rows_with_a_position_is_a_number() -> None:
    written = Written(3, Position("7"))
    assert (written, written + 1, written.position) == (3, 4, "7")
    assert f"{written}" == "3"


@pytest.mark.parametrize("seed", range(20))
def test_commits_together_are_the_commits(seed: int) -> None:
    drawn = random.Random(seed)
    sizes = [drawn.choice([0, 1, 2, 400, _FEW_CHANGES, _FEW_CHANGES + 1, 3_000]) for _ in range(drawn.randrange(1, 9))]
    commits = [Commit(Position(str(n)), [Gone(f"{n}-{i}") for i in range(size)]) for n, size in enumerate(sizes)]
    joined = list(_together(commits))
    assert [c for commit in joined for c in commit.changes] == [c for commit in commits for c in commit.changes]
    assert joined[-1].position == commits[-1].position
    assert [int(commit.position) for commit in joined] == sorted({int(commit.position) for commit in joined})
    for commit in joined:
        # What is told until a position is what was told until it.
        told = sum(len(each.changes) for each in commits[: int(commit.position) + 1])
        assert told == sum(len(each.changes) for each in joined[: joined.index(commit) + 1])
        assert len(commit.changes) <= max(_FEW_CHANGES, len(commits[int(commit.position)].changes))
    assert list(_together([])) == []
    assert len(list(_together(cast("Any", [Commit(Position("1")), Commit(Position("2"))])))) == 1
