"""One collection's copy, as those who read it and the thread that keeps it share it. No waiting and no I/O here: only what is known.

Positions are learnt from the database: what was committed before somebody asked is at or before the answer. A question that was asked
later has an answer that is no earlier, so questions are numbered.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple, Self, TypeAlias

from likewise.abc.feeds import Feed, Payload, Position
from likewise.schema import CollectionSpec

if TYPE_CHECKING:
    from likewise.backends.faiss.image import Image

__all__ = ["Learnt", "Question", "Replica", "ReplicaState", "ReplicaStatus", "Written"]

#: ``idle`` until the first search, then ``building`` (or reading its file), then ``following``. ``failed``: it tries again by itself.
#: ``stopped``: the collection or the store is no more.
ReplicaState: TypeAlias = Literal["idle", "building", "following", "failed", "stopped"]


@dataclass(frozen=True, slots=True)
class ReplicaStatus:
    """How a replica is."""

    state: ReplicaState
    #: Why it does not follow, and what else is to be known of it, such as that another process has its files.
    notes: tuple[str, ...]
    rows: int
    #: Where in the history of the database it is.
    position: Position | None
    #: How many seconds ago it was known to have all that was committed; None if that was never.
    lag: float | None
    #: Bytes of memory by what they are for.
    memory: dict[str, int]
    #: What it holds of a row beside its id and vectors.
    holds: frozenset[Payload]
    #: How often it was built from all rows, and how often it went on from where it had been.
    built: int
    resumed: int
    #: Transactions that it has applied since.
    commits: int
    #: Reads that it answered, and reads that it left to the database.
    answered: int
    passed_on: int
    #: The file from which it goes on after a restart.
    file: str | None


class Written(int):
    """How many rows a call wrote, and a position that has them: for ``reading(at_least=…)``, in another process too.

    ``position`` is None where the database could not be asked for it any more.
    """

    position: Position | None

    def __new__(cls, count: int, position: Position | None) -> Self:
        written = super().__new__(cls, count)
        written.position = position
        return written


class Question(NamedTuple):
    """One asking of the database where it is: its number, and when it was asked, by ``time.monotonic()``."""

    number: int
    asked: float


class Learnt(NamedTuple):
    """A position, and what was asked for it; a position from elsewhere was asked for by nobody."""

    position: Position
    question: Question | None = None


@dataclass(slots=True, eq=False)
class _Waiting:
    """A read that waits until the copy may be searched and has reached all of these."""

    wanted: list[Learnt]
    future: Future[None] = field(default_factory=Future)


class Replica:
    """What is known of one copy. Any thread may call its methods; those under "for who keeps it" only the thread that does."""

    def __init__(
        self,
        spec: CollectionSpec,
        holds: frozenset[Payload],
        open_feed: Callable[[str | None], Feed],
        *,
        patience: float,
    ) -> None:
        self.spec = spec
        self.holds = holds
        self.open_feed = open_feed
        self.patience = patience
        #: The copy while it may be searched: set while it follows.
        self.image: Image | None = None
        #: Whether something was written through the store that a read may have to wait for.
        self.outstanding = False
        self.state: ReplicaState = "idle"
        self.reason: str | None = None
        self.notes: list[str] = []
        self.file: str | None = None
        self.built = self.resumed = self.commits = self.answered = self.passed_on = 0
        self._lock = threading.Lock()
        self._waiting: list[_Waiting] = []
        self._number = 0
        self._owed = 0
        self._written: Learnt | None = None
        self._newest: Learnt | None = None
        self._known: float | None = None
        self._given_up: list[Learnt] = []
        self._left = time.monotonic()
        self._feed: Feed | None = None

    # --- what was written, and what is known of the database --------------------------------------------------------------------

    def ask(self) -> Question:
        """Before the database is asked where it is."""
        with self._lock:
            self._number += 1
            return Question(self._number, time.monotonic())

    def wrote(self) -> None:
        """Something was written through this store, or may have been: reads wait for what is learnt from now on."""
        with self._lock:
            self._owed = self._number
            self.outstanding = True

    def learnt(self, question: Question, position: Position) -> Learnt:
        """The answer to a question."""
        learnt = Learnt(position, question)
        with self._lock:
            if self._newest is None or _number(self._newest) < question.number:
                self._newest = learnt
            if self._owed < question.number and (self._written is None or _number(self._written) < question.number):
                self._written = learnt
        return learnt

    def own_writes(self) -> Learnt | None:
        """What to wait for so that a read sees what was written through the store; None if it has to be asked for first."""
        with self._lock:
            if self._written is not None and self._owed < _number(self._written):
                return self._written
            return None

    def learnt_since(self, moment: float) -> Learnt | None:
        """The newest position that was asked for at this moment or later, by ``time.monotonic()``."""
        with self._lock:
            newest = self._newest
        return (
            newest if newest is not None and newest.question is not None and newest.question.asked >= moment else None
        )

    def current_since(self, moment: float) -> bool:
        """Whether the copy is known to have all that was committed until this moment."""
        known = self._known
        return known is not None and known >= moment

    # --- waiting ----------------------------------------------------------------------------------------------------------------

    def wait_for(self, wanted: list[Learnt]) -> Future[None] | None:
        """None if the copy may be searched and has all of it; else what is done when that is so. ``InvalidArgument`` for no position."""
        with self._lock:
            if self.image is not None and self._has(wanted):
                return None
            waiting = _Waiting(wanted)
            self._waiting.append(waiting)
            return waiting.future

    def seconds(self) -> float:
        """How long a read may wait now: its patience; less while there is nothing to wait for soon.

        That is, while the copy is built only until patience has passed since that began; and not at all after a read waited in vain, until
        the copy has what that one waited for.
        """
        with self._lock:
            if self.image is None:
                return max(0.0, self._left + self.patience - time.monotonic()) if self.state != "stopped" else 0.0
            if self._given_up and not self._has(self._given_up):
                return 0.0
            self._given_up = []
            return self.patience

    def gave_up(self, future: Future[None], wanted: list[Learnt]) -> None:
        """A read does not wait any longer."""
        with self._lock:
            self._waiting = [waiting for waiting in self._waiting if waiting.future is not future]
            if self.image is not None and not future.done():
                self._given_up = wanted

    def waited_for(self) -> bool:
        """Whether a read waits."""
        return bool(self._waiting)

    def why_not(self) -> str:
        """Why the copy cannot be searched, or not yet."""
        match self.state:
            case "idle" | "building":
                return "the replica is being built"
            case "failed":
                return f"the replica failed: {self.reason}"
            case "stopped":
                return "the replica was stopped"
            case "following":
                return "the replica was behind"

    def _has(self, wanted: list[Learnt]) -> bool:
        image, feed = self.image, self._feed
        assert image is not None
        assert feed is not None
        at = image.position
        assert at is not None
        for learnt in wanted:
            if not feed.reached(at, learnt.position):
                return False
            if learnt.question is not None:
                self._known = max(self._known or 0.0, learnt.question.asked)
        if self.outstanding and self._written in wanted and self._written is not None:
            self.outstanding = self._owed >= _number(self._written)
        return True

    # --- for who keeps it -------------------------------------------------------------------------------------------------------

    def leave(self, state: ReplicaState, reason: str | None = None) -> None:
        """The copy may not be searched any longer, or not yet."""
        with self._lock:
            if self.image is not None or self.state in ("idle", "stopped"):
                self._left = time.monotonic()
            self.image = None
            self.state, self.reason = state, reason
            waiting = self._waiting if state == "stopped" else []
            self._waiting = [] if state == "stopped" else self._waiting
        for each in waiting:
            # There is nothing to wait for: who waited finds no copy.
            if each.future.set_running_or_notify_cancel():
                each.future.set_result(None)

    def follow(self, image: Image, feed: Feed) -> None:
        """The copy is there, and follows."""
        with self._lock:
            self.image, self._feed, self._given_up = image, feed, []
            self.state, self.reason = "following", None
        self.moved()

    def moved(self) -> None:
        """The copy is at another position: wake who waited for it."""
        ready: list[tuple[_Waiting, Exception | None]] = []
        with self._lock:
            for waiting in list(self._waiting) if self.image is not None else ():
                try:
                    if not self._has(waiting.wanted):
                        continue
                    ready.append((waiting, None))
                except Exception as error:  # noqa: BLE001 -- what was given as a position is none: told to who gave it
                    ready.append((waiting, error))
                self._waiting.remove(waiting)
        for waiting, problem in ready:
            if not waiting.future.set_running_or_notify_cancel():
                continue
            if problem is None:
                waiting.future.set_result(None)
            else:
                waiting.future.set_exception(problem)

    def disown(self) -> None:
        """In a child that was forked: locks may be held by threads that are not there."""
        self._lock, self._waiting = threading.Lock(), []
        self.image, self.state = None, "stopped"

    def status(self) -> ReplicaStatus:
        """How it is now."""
        with self._lock:
            image, known = self.image, self._known
            return ReplicaStatus(
                state=self.state,
                notes=(*((self.reason,) if self.reason else ()), *self.notes),
                rows=len(image) if image is not None else 0,
                position=image.position if image is not None else None,
                lag=None if known is None else max(0.0, time.monotonic() - known),
                memory=dict(image.memory) if image is not None else {},
                holds=self.holds,
                built=self.built,
                resumed=self.resumed,
                commits=self.commits,
                answered=self.answered,
                passed_on=self.passed_on,
                file=self.file,
            )


def _number(learnt: Learnt) -> int:
    return 0 if learnt.question is None else learnt.question.number
