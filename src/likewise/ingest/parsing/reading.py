"""Reads a file's bytes, up to a limit, without waiting for what never ends."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from likewise.ingest.parsing.parsed import Unreadable

__all__ = ["MAX_BYTES", "read_bytes"]

#: Larger files are refused: a picture or document of this size is a mistake more often than not.
MAX_BYTES = 64 * 1024 * 1024


def read_bytes(path: Path, *, max_bytes: int = MAX_BYTES) -> bytes:
    """A regular file's bytes; ``Unreadable`` (while reading) for anything else, and for more than ``max_bytes``."""
    try:
        # Without waiting: a named pipe would never end.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise Unreadable("not a regular file", stage="reading", path=path)
            if status.st_size > max_bytes:
                raise Unreadable(
                    f"too large: {status.st_size:,} bytes, at most {max_bytes:,} are read", stage="reading", path=path
                )
            return file.read(max_bytes + 1)[:max_bytes]
    except OSError as error:
        raise Unreadable(f"it cannot be read: {error.strerror}", stage="reading", path=path) from error
