"""Puts the messages of the log together to commits: whole transactions, in the order of their commits, and how far the log was read. No connection.

A change is decoded when it comes, so that nothing is told that cannot be read. What a large transaction changed is put into a temporary file
and decoded once more when the reader comes to it, so that it takes no more memory than ``IN_MEMORY`` bytes here.
"""

from __future__ import annotations

import tempfile
import threading
import weakref
from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import IO, TypeAlias, overload

from likewise.abc.feeds import Change, Cleared, Commit
from likewise.backends.postgres.following._held import Held, Layout
from likewise.backends.postgres.following._pgoutput import (
    Begin,
    Delete,
    End,
    Insert,
    Relation,
    Truncate,
    Update,
    decode,
)
from likewise.backends.postgres.following._positions import log_position
from likewise.backends.postgres.following.stream import Data, Keepalive
from likewise.errors import BackendError

__all__ = ["IN_MEMORY", "Transactions"]

#: Bytes of a transaction's messages that are kept in memory; those of a larger one are in a file.
IN_MEMORY = 32 << 20

#: Changes that are read from the file together.
_TOGETHER = 500

_Changing: TypeAlias = Insert | Update | Delete | Truncate


class Transactions:
    """The changes of one table. ``read`` is the place in the log before which everything that was committed has been given out."""

    def __init__(self, held: Held, table: int, start: int, *, in_memory: int = IN_MEMORY) -> None:
        self._held = held
        self._table = table
        self._in_memory = in_memory
        self._layout: Layout | None = None
        self._open: _Changes | None = None
        self.read = start

    def take(self, frame: Data | Keepalive) -> Commit | None:
        """The commit that is complete with this frame, if one is and it changed the table."""
        if isinstance(frame, Keepalive):
            # Within a transaction nothing is told yet of what lies before its commit.
            if self._open is None:
                self.read = max(self.read, frame.end)
            return None
        message = decode(frame.payload)
        match message:
            case Begin():
                self._open = _Changes(self._in_memory)
            case End(end=end):
                self.read = max(self.read, end)
                changes, self._open = self._open, None
                if changes is not None and len(changes):
                    return Commit(log_position(end), changes.told())
            case Relation(oid=oid) if oid == self._table:
                self._layout = Layout(self._held, message)
            case Insert() | Update() | Delete() | Truncate() if self._concerns(message):
                if self._open is None:
                    raise BackendError("the server's log has a change that belongs to no transaction")
                self._open.add(self._layout, message, frame.payload)
            case _:
                pass
        return None

    def _concerns(self, message: _Changing) -> bool:
        if isinstance(message, Truncate):
            return self._table in message.relations
        return message.relation == self._table


class _Changes(Sequence[Change]):
    """What one transaction changed, in memory or in a file. From any thread, once it is complete."""

    def __init__(self, in_memory: int) -> None:
        self._in_memory = in_memory
        self._decoded: list[Change] = []
        self._raw: list[bytes] = []
        self._bytes = 0
        self._file: IO[bytes] | None = None
        #: Where each message ends in the file.
        self._ends = array("Q")
        #: The number of the first change with each layout.
        self._layouts: list[Layout | None] = []
        self._first: list[int] = []
        self._lock = threading.Lock()

    def add(self, layout: Layout | None, message: _Changing, raw: bytes) -> None:
        """One change more."""
        if not self._first or self._layouts[-1] is not layout:
            self._layouts.append(layout)
            self._first.append(len(self))
        change = _change(layout, message)
        self._bytes += len(raw)
        if self._file is not None:
            self._write([raw])
            return
        self._decoded.append(change)
        self._raw.append(raw)
        if self._bytes > self._in_memory:
            self._file = tempfile.TemporaryFile(prefix="likewise-")  # noqa: SIM115 -- closed with the changes
            weakref.finalize(self, self._file.close)
            self._write(self._raw)
            self._decoded, self._raw = [], []

    def told(self) -> Sequence[Change]:
        """The changes, as a reader gets them."""
        if self._file is None:
            return self._decoded
        self._file.flush()
        return self

    def _write(self, raws: Sequence[bytes]) -> None:
        assert self._file is not None
        for raw in raws:
            self._file.write(raw)
            self._ends.append((self._ends[-1] if self._ends else 0) + len(raw))

    def __len__(self) -> int:
        return len(self._decoded) if self._file is None else len(self._ends)

    @overload
    def __getitem__(self, index: int) -> Change: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Change]: ...
    def __getitem__(self, index: int | slice) -> Change | Sequence[Change]:
        if isinstance(index, slice):
            return [self[n] for n in range(*index.indices(len(self)))]
        number = range(len(self))[index]
        return next(self._read(number, number + 1))

    def __iter__(self) -> Iterator[Change]:
        for first in range(0, len(self), _TOGETHER):
            yield from self._read(first, min(first + _TOGETHER, len(self)))

    def _read(self, first: int, last: int) -> Iterator[Change]:
        """The changes from the number ``first`` to before ``last``."""
        if self._file is None:
            yield from self._decoded[first:last]
            return
        begin = self._ends[first - 1] if first else 0
        with self._lock:
            self._file.seek(begin)
            data = self._file.read(self._ends[last - 1] - begin)
        at = 0
        for number in range(first, last):
            end = self._ends[number] - begin
            message = decode(data[at:end])
            assert isinstance(message, _Changing)
            yield _change(self._layouts[bisect_right(self._first, number) - 1], message)
            at = end


def _change(layout: Layout | None, message: _Changing) -> Change:
    if isinstance(message, Truncate):
        return Cleared()
    if layout is None:
        raise BackendError("the server's log has a row of a table that it has not described")
    return layout.change(message)
