"""Where a replica is kept between runs: a folder, a file for each collection, and what of them belongs to which slot of the database.

A file is used by one process at a time: who holds the lock has it. What is in an image's file is ``file``'s affair, not this module's.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import secrets
import sys
from pathlib import Path

from likewise.abc.feeds import Position
from likewise.errors import BackendError

__all__ = ["Place"]

_PLAIN = re.compile(r"[^a-z0-9_]+")


class Place:
    """The files of one collection's replica. Nothing is touched before ``claim``."""

    def __init__(self, folder: Path, *identity: str) -> None:
        digest = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16]
        # A name is any text: what of it is harmless is there for people, the digest tells collections apart.
        plain = _PLAIN.sub("-", identity[-1].lower()).strip("-")[:40]
        self._stem = folder / f"{plain or 'collection'}-{digest}"
        self._lock: int | None = None

    @property
    def image(self) -> Path:
        """Where the image is."""
        return self._stem.with_name(self._stem.name + ".replica")

    @property
    def _about(self) -> Path:
        return self._stem.with_name(self._stem.name + ".json")

    @property
    def _locked(self) -> Path:
        return self._stem.with_name(self._stem.name + ".lock")

    def claim(self) -> bool:
        """Make the folder if need be, and take the files for this process; False if another has them, or another store of this one."""
        if self._lock is not None:
            return True
        folder = self._stem.parent
        lock = None
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.open(self._locked, os.O_RDWR | os.O_CREAT, 0o600)
            if _taken(lock):
                os.ftruncate(lock, 0)
                os.write(lock, f"{os.getpid()}\n".encode())
                self._lock = lock
        except OSError as error:
            raise BackendError(f"the replica cannot be kept in {folder}: {error.strerror or error}") from error
        finally:
            if lock is not None and self._lock is None:
                os.close(lock)
        return self._lock is not None

    def owner(self) -> int | None:
        """The process that has the files, if that can be told."""
        with contextlib.suppress(OSError, ValueError):
            return int(self._locked.read_text("ascii"))
        return None

    def release(self) -> None:
        """Let go of the files. May be called twice; and in a child that was forked, whose parent keeps them."""
        lock, self._lock = self._lock, None
        if lock is not None:
            os.close(lock)

    def slot(self) -> str:
        """The name by which the database keeps what this copy has not seen; it is drawn once and stays with the files."""
        about = self._read()
        slot = about.get("slot")
        if not isinstance(slot, str) or not re.fullmatch(r"[0-9a-f]{16}", slot):
            slot = secrets.token_hex(8)
            self._write({"slot": slot})
        return slot

    def kept(self, image: Position, now: Position) -> None:
        """Note that the image, which was stored at one position, is what the collection still is at another."""
        self._write({"slot": self.slot(), "image": image, "position": now})

    def later(self, image: Position) -> Position:
        """The position at which the collection is known to be still what the image, stored at this one, has."""
        about = self._read()
        position = about.get("position")
        return Position(position) if about.get("image") == image and isinstance(position, str) else image

    def discard(self) -> None:
        """Delete the image; the name of the slot stays, so that the slot can be found again."""
        with contextlib.suppress(FileNotFoundError):
            self.image.unlink()

    def remove(self) -> None:
        """Delete all files but the lock, which others may be waiting at."""
        self.discard()
        with contextlib.suppress(FileNotFoundError):
            self._about.unlink()

    def exists(self) -> bool:
        """Whether something is kept of this collection."""
        return self._about.exists() or self.image.exists()

    def _read(self) -> dict[str, object]:
        try:
            about = json.loads(self._about.read_text("utf-8"))
        except (OSError, ValueError):
            return {}
        return about if isinstance(about, dict) else {}

    def _write(self, about: dict[str, object]) -> None:
        made = self._about.with_name(self._about.name + ".new")
        descriptor = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(about, file)
            file.flush()
            os.fsync(file.fileno())
        made.replace(self._about)


if sys.platform != "win32":

    def _taken(descriptor: int) -> bool:
        import fcntl

        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

else:  # untested

    def _taken(descriptor: int) -> bool:
        import msvcrt

        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
