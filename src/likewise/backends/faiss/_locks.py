"""A lock that many readers or one writer hold. A writer that waits is next, and so are the readers that waited for it."""

from __future__ import annotations

import threading
from types import TracebackType

__all__ = ["ReadersWriter"]


class ReadersWriter:
    """``with lock.reading:`` and ``with lock.writing:``. Neither may be taken by a thread that holds it, or the other, already."""

    def __init__(self) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._readers = 0
        self._writing = False
        self._writers_waiting = 0
        self._readers_waiting = 0
        # So many readers go in before the next writer: those that waited when the last one left.
        self._admitted = 0
        self.reading = _Reading(self)
        self.writing = _Writing(self)

    def begin_reading(self) -> None:
        """Wait until nobody writes or is to write first."""
        with self._changed:
            if self._writing or self._writers_waiting:
                self._readers_waiting += 1
                try:
                    while self._writing or (self._writers_waiting and not self._admitted):
                        self._changed.wait()
                finally:
                    # An interrupt too ends the wait, and must not keep the next writer out.
                    self._readers_waiting -= 1
                    if self._admitted:
                        self._admitted -= 1
                        self._changed.notify_all()
            self._readers += 1

    def end_reading(self) -> None:
        """Let a writer in, if this was the last reader."""
        with self._changed:
            self._readers -= 1
            if not self._readers and self._writers_waiting:
                self._changed.notify_all()

    def begin_writing(self) -> None:
        """Wait until nobody reads or writes."""
        with self._changed:
            self._writers_waiting += 1
            try:
                while self._writing or self._readers or self._admitted:
                    self._changed.wait()
            finally:
                self._writers_waiting -= 1
                self._changed.notify_all()
            self._writing = True

    def end_writing(self) -> None:
        """Let the readers in that wait."""
        with self._changed:
            self._writing = False
            self._admitted = self._readers_waiting
            self._changed.notify_all()


class _Reading:
    __slots__ = ("_lock",)

    def __init__(self, lock: ReadersWriter) -> None:
        self._lock = lock

    def __enter__(self) -> None:
        self._lock.begin_reading()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._lock.end_reading()


class _Writing:
    __slots__ = ("_lock",)

    def __init__(self, lock: ReadersWriter) -> None:
        self._lock = lock

    def __enter__(self) -> None:
        self._lock.begin_writing()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._lock.end_writing()
