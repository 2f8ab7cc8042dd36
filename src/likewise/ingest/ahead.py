"""Files that are read and cut before it is their turn, and the memory that what is made of them may take meanwhile."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from types import TracebackType
from typing import Self

from likewise.abc.document_rows import NewDocument, Trouble
from likewise.ingest.cutting import Seen

__all__ = ["Ahead"]


class _Turn:
    """A file's turn: what was made of it, once that is there, and the bytes that this takes."""

    __slots__ = ("held", "made")

    def __init__(self) -> None:
        self.made: Future[NewDocument | Trouble] = Future()
        self.held = 0


class Ahead:
    """What is made of files, in the order in which they were added; ``workers`` of them at a time are cut, in the ``threads``.

    None is begun while those that are done and were not taken hold ``most`` bytes and more, but the one that is waited for: a small file may
    become hundreds of megabytes of pictures. One thread adds and takes. When it is closed, what has not begun never does.
    """

    def __init__(
        self, threads: Executor, workers: int, cut: Callable[[Seen], NewDocument | Trouble], *, most: int
    ) -> None:
        self._threads = threads
        self._workers = workers
        self._cut = cut
        self._most = most
        self._turns: deque[_Turn] = deque()
        # Of these, what is changed by other threads too:
        self._lock = threading.Lock()
        self._not_begun: deque[tuple[_Turn, Seen]] = deque()
        self._running = 0
        self._held = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._lock:
            self._not_begun.clear()

    def __len__(self) -> int:
        return len(self._turns)

    def add(self, seen: Seen) -> None:
        """A file that is to be cut."""
        turn = _Turn()
        self._turns.append(turn)
        with self._lock:
            self._not_begun.append((turn, seen))
            self._begin()

    def put(self, ready: NewDocument | Trouble) -> None:
        """What needs no cutting, and has its turn."""
        turn = _Turn()
        turn.made.set_result(ready)
        self._turns.append(turn)

    def take(self) -> NewDocument | Trouble:
        """What was made of the next file, which is waited for."""
        turn = self._turns.popleft()
        with self._lock:
            if self._not_begun and self._not_begun[0][0] is turn:
                self._begin_next()
        made = turn.made.result()
        with self._lock:
            self._held -= turn.held
            self._begin()
        return made

    def rest(self) -> Iterator[NewDocument | Trouble]:
        """All that is left."""
        while self._turns:
            yield self.take()

    def _begin(self) -> None:
        while self._not_begun and self._running < self._workers and self._held < self._most:
            self._begin_next()

    def _begin_next(self) -> None:
        self._running += 1
        self._threads.submit(self._make, *self._not_begun.popleft())

    def _make(self, turn: _Turn, seen: Seen) -> None:
        try:
            made = self._cut(seen)
        except BaseException as error:  # noqa: BLE001 -- carried over to who takes it
            self._made(turn, 0)
            turn.made.set_exception(error)
        else:
            self._made(turn, made.held if isinstance(made, NewDocument) else 0)
            turn.made.set_result(made)

    def _made(self, turn: _Turn, held: int) -> None:
        with self._lock:
            turn.held = held
            self._held += held
            self._running -= 1
            self._begin()
