"""Locks between processes that the system releases by itself when a process dies, however it dies.

:class:`FileLock` is ``flock`` on a file of ours. It counts per open file, so two objects of one process are two users; and a
forked child must close its copies without unlocking, which would unlock the parent's: see :func:`close_inherited`.
What the locks protect is not known here.
"""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

from likewise.backends.postgres.embedded.paths import open_private
from likewise.backends.postgres.embedded.privileges import Account

__all__ = ["FileLock", "close_inherited"]

_open: set[int] = set()
_guard = threading.Lock()


class FileLock:
    """One opening of a lock file: unlocked, shared with others, or ours alone. Opens the file at once."""

    def __init__(self, path: Path, account: Account) -> None:
        with _guard:
            self._descriptor = open_private(path, account)
            _open.add(self._descriptor)

    @property
    def is_open(self) -> bool:
        return self._descriptor >= 0

    def close(self) -> None:
        """Unlock and close. Does nothing the second time."""
        with _guard:
            if self._descriptor < 0:
                return
            # Explicitly: closing alone would leave the lock with a forked child's copy of the descriptor.
            self._unlock()
            _open.discard(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1

    if sys.platform != "win32":

        def try_exclusive(self) -> bool:
            """Take the lock for us alone if nobody else holds it in any way; a shared lock of ours is given up for it."""
            import fcntl

            return self._flock(fcntl.LOCK_EX)

        def try_shared(self) -> bool:
            """Take the lock together with others; False while somebody has it alone."""
            import fcntl

            return self._flock(fcntl.LOCK_SH)

        def _flock(self, kind: int) -> bool:
            import fcntl

            try:
                fcntl.flock(self._descriptor, kind | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            return True

        def _unlock(self) -> None:
            import fcntl

            fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    else:  # untested: Windows has no shared locks in its C library, so each user locks one byte of the file
        _SLOTS = 256

        def try_exclusive(self) -> bool:
            self._unlock()
            return self._lock_bytes(0, self._SLOTS)

        def try_shared(self) -> bool:
            return any(self._lock_bytes(slot, 1) for slot in range(self._SLOTS))

        def _lock_bytes(self, start: int, count: int) -> bool:
            import msvcrt

            os.lseek(self._descriptor, start, os.SEEK_SET)
            try:
                msvcrt.locking(self._descriptor, msvcrt.LK_NBLCK, count)
            except OSError:
                return False
            self._held = (start, count)
            return True

        _held: tuple[int, int] | None = None

        def _unlock(self) -> None:
            import msvcrt

            if self._held is not None:
                os.lseek(self._descriptor, self._held[0], os.SEEK_SET)
                msvcrt.locking(self._descriptor, msvcrt.LK_UNLCK, self._held[1])
                self._held = None


def close_inherited() -> None:
    """In a forked child: close every lock file of the parent without unlocking it."""
    global _guard
    _guard = threading.Lock()  # the parent's may have been held at the fork
    for descriptor in _open:
        os.close(descriptor)
    _open.clear()
