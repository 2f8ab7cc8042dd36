"""A connection that reads PostgreSQL's log: the replication protocol, as far as a client of logical decoding needs it.

psycopg 3 has no replication protocol, but its ``pq`` layer has what that needs: a connection opened for replication, the result COPY_BOTH,
and data in both directions. What is in the messages is not known here.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import psycopg
from psycopg import AsyncConnection, pq
from psycopg.conninfo import make_conninfo

from likewise.backends.postgres._errors import translating
from likewise.errors import BackendError, BackendUnavailable

__all__ = ["Data", "Keepalive", "Replication", "read", "status"]

_STATUS = struct.Struct(">cQQQqB")
_DATA = struct.Struct(">cQQq")
_KEEPALIVE = struct.Struct(">cQqB")
#: PostgreSQL counts microseconds from the beginning of the year 2000.
_EPOCH = 946_684_800


@dataclass(frozen=True, slots=True)
class Data:
    """What the output plugin said."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Keepalive:
    """All that is in the log before ``end`` was sent. The server may want an answer."""

    end: int
    wants_reply: bool


Frame: TypeAlias = Data | Keepalive


def read(data: bytes) -> Frame:
    """A frame of the stream; ``BackendError`` if it is none."""
    kind = data[:1]
    if kind == b"w" and len(data) >= _DATA.size:
        return Data(data[_DATA.size :])
    if kind == b"k" and len(data) == _KEEPALIVE.size:
        _, end, _, wanted = _KEEPALIVE.unpack(data)
        return Keepalive(end, wanted == 1)
    raise BackendError(f"the replication stream could not be read: a frame {kind!r} of {len(data):,} bytes")


def status(read: int, kept: int, *, reply: bool = False) -> bytes:
    """How far the log was read, and up to where it need not be told again; with ``reply`` the server says at once how far it is."""
    now = int((time.time() - _EPOCH) * 1_000_000)
    return _STATUS.pack(b"r", read, kept, kept, now, reply)


class Replication:
    """A connection for replication: commands, then one stream. Of one task; but for ``send``, which any task of its loop may call.

    ``reader`` names who reads, for errors; ``cures`` are ends of sentences by SQLSTATE.
    """

    def __init__(self, connection: AsyncConnection[Any], reader: str, cures: Mapping[str, str]) -> None:
        self._connection = connection
        self._reader = reader
        self._cures = cures
        self._readable = asyncio.Event()
        self._ended: BackendError | None = None
        #: Whether a command was sent that has not been answered.
        self._commanding = False
        self._loop = asyncio.get_running_loop()
        #: The socket that is watched; None once it is not: a number that libpq has closed may be somebody else's next.
        self._socket: int | None = connection.pgconn.socket
        self._loop.add_reader(self._socket, self._readable.set)

    @classmethod
    async def connect(cls, conninfo: str, *, name: str, reader: str, cures: Mapping[str, str]) -> Replication:
        """Connect; ``name`` is the connection's ``application_name``."""
        with translating():
            connection = await AsyncConnection.connect(
                make_conninfo(conninfo, replication="database", application_name=name, client_encoding="UTF8"),
                autocommit=True,
            )
        return cls(connection, reader, cures)

    async def command(self, command: str) -> tuple[str | None, ...]:
        """Run a command of the replication protocol; the first row of its result as text, empty if there is none.

        Raises:
            BackendError: it was refused; the text has the cure where one is known.
            BackendUnavailable: the connection was lost.
        """
        self._commanding = True
        try:
            self._connection.pgconn.send_query(command.encode())
            await self._flush()
            result = await self._result()
        except psycopg.Error as error:
            self._commanding = False
            raise self._lost(error) from error
        self._commanding = False
        if result.status not in (pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COPY_BOTH, pq.ExecStatus.COMMAND_OK):
            raise self._refused(result)
        if result.status != pq.ExecStatus.TUPLES_OK or not result.ntuples:
            return ()
        values = [result.get_value(0, n) for n in range(result.nfields)]
        return tuple(None if value is None else value.decode() for value in values)

    def receive(self) -> list[bytes]:
        """The frames that have come, without waiting. Once all were given, the end of the stream is an error."""
        if self._ended is not None:
            raise self._ended
        pgconn = self._connection.pgconn
        found: list[bytes] = []
        # What libpq leaves in the socket is seen there by the loop, so that waiting gives others their turn however much comes.
        self._readable.clear()
        try:
            pgconn.consume_input()
            while True:
                size, data = pgconn.get_copy_data(1)
                if size <= 0:
                    break
                found.append(bytes(data))
            if size == -1:
                result = pgconn.get_result()
                if result is not None and result.error_field(pq.DiagnosticField.SQLSTATE):
                    self._ended = self._refused(result)
                else:
                    self._ended = BackendUnavailable("the server ended the replication stream")
                if not found:
                    raise self._ended
                return found
        except psycopg.Error as error:
            raise self._lost(error) from error
        return found

    async def wait(self, seconds: float) -> None:
        """Until something comes, or ``wake`` is called, or so many seconds have passed."""
        # Not wait_for, which in Python 3.11 can swallow a cancellation.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._readable.wait()

    def wake(self) -> None:
        """Have ``wait`` return."""
        self._readable.set()

    async def send(self, data: bytes) -> None:
        """Send a frame, say of ``status``."""
        try:
            self._connection.pgconn.put_copy_data(data)
            await self._flush()
        except psycopg.Error as error:
            raise self._lost(error) from error

    async def aclose(self) -> None:
        """End the connection, and with it temporary slots. May be called twice."""
        if self._commanding:
            # The server may be waiting for others, and would make a slot all the same when it need wait no longer.
            with contextlib.suppress(psycopg.Error):
                await self._connection.cancel_safe(timeout=2.0)
        self._unwatch()
        await self._connection.close()

    def _unwatch(self) -> None:
        socket, self._socket = self._socket, None
        if socket is not None:
            self._loop.remove_reader(socket)

    async def _flush(self) -> None:
        """Send what is buffered. It is little, so the socket is hardly ever full."""
        while self._connection.pgconn.flush():  # noqa: ASYNC110 -- what is waited for is the socket's
            await asyncio.sleep(0.001)

    async def _result(self) -> pq.abc.PGresult:
        """The one result of a command; of COPY_BOTH what follows is not taken."""
        pgconn = self._connection.pgconn
        last: pq.abc.PGresult | None = None
        while True:
            while pgconn.is_busy():
                self._readable.clear()
                await self._readable.wait()
                pgconn.consume_input()
            result = pgconn.get_result()
            if result is None:
                assert last is not None
                return last
            last = result
            if result.status == pq.ExecStatus.COPY_BOTH:
                return result

    def _lost(self, error: psycopg.Error) -> BackendUnavailable:
        self._unwatch()
        return BackendUnavailable(f"the connection for the log was lost: {str(error).strip()}")

    def _refused(self, result: pq.abc.PGresult) -> BackendError:
        state = (result.error_field(pq.DiagnosticField.SQLSTATE) or b"").decode()
        text = (result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY) or b"").decode("utf-8", "replace")
        if state.startswith(("08", "57P")):
            return BackendUnavailable(f"the server ended the replication stream: {text}", sqlstate=state)
        return BackendError(
            f"PostgreSQL does not let {self._reader} read its log: {text} (SQLSTATE {state}){self._cures.get(state, '')}",
            sqlstate=state,
        )
