"""The messages that sessions write into the log, as they are written: a temporary logical replication slot, read by libpq.

psycopg 3 has no replication protocol, but its ``pq`` layer has what that needs: a connection opened for replication, the result COPY_BOTH,
and data in both directions. The slot is temporary: it goes with the connection, however that ends, so that a worker that dies never has
the server keep its log.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import time
from collections.abc import AsyncIterator
from typing import Any, Self

import psycopg
from psycopg import AsyncConnection, pq, sql
from psycopg.conninfo import make_conninfo

from likewise.backends.postgres._errors import translating
from likewise.errors import BackendError, BackendUnavailable
from likewise.worker._messages import Keepalive, LogMessage, feedback, read_frame

__all__ = ["LogStream"]

#: How often the server is told how far the log was read, where something came; the server asks for it now and then itself.
_FEEDBACK_SECONDS = 1.0
PUBLICATION = "likewise"


class LogStream:
    """The messages with one of these prefixes, from the moment on in which ``open`` returns."""

    def __init__(self, conninfo: str, prefixes: frozenset[str]) -> None:
        self._conninfo = conninfo
        self._prefixes = prefixes
        self._connection: AsyncConnection[Any] | None = None
        self._end = 0
        self._told = 0
        self._told_at = 0.0
        self.slot = f"likewise_{os.getpid()}_{secrets.token_hex(4)}"

    async def open(self) -> None:
        """Connect, make the slot, and begin to read. The server waits until the transactions that write now have ended.

        Raises:
            BackendError: the role may not replicate, or the server is not set up for logical decoding; the text has the cure.
        """
        with translating():
            self._connection = await AsyncConnection.connect(
                make_conninfo(self._conninfo, replication="database", application_name="likewise worker (log)"),
                autocommit=True,
            )
        slot = sql.Identifier(self.slot).as_string(None)
        await self._command("CREATE_REPLICATION_SLOT " + slot + " TEMPORARY LOGICAL pgoutput NOEXPORT_SNAPSHOT")
        await self._command(
            "START_REPLICATION SLOT " + slot + " LOGICAL 0/0 (proto_version '1', publication_names '"
            + PUBLICATION + "', messages 'true')"
        )  # fmt: skip

    async def messages(self) -> AsyncIterator[list[LogMessage]]:
        """The messages in lists, as they come. Ends only by an error: ``BackendUnavailable`` when the connection is lost."""
        pgconn = self._pgconn
        loop = asyncio.get_running_loop()
        readable = asyncio.Event()
        loop.add_reader(pgconn.socket, readable.set)
        try:
            while True:
                found, wants_reply = self._drain(pgconn)
                if found:
                    yield found
                await self._confirm(pgconn, at_once=wants_reply)
                if not found:
                    readable.clear()
                    # Not wait_for, which in Python 3.11 can swallow a cancellation.
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(_FEEDBACK_SECONDS):
                            await readable.wait()
        finally:
            if pgconn.status == pq.ConnStatus.OK:
                loop.remove_reader(pgconn.socket)

    def _drain(self, pgconn: pq.abc.PGconn) -> tuple[list[LogMessage], bool]:
        """What has come, and whether the server wants to hear how far we are."""
        found: list[LogMessage] = []
        wants_reply = False
        try:
            pgconn.consume_input()
            while True:
                size, data = pgconn.get_copy_data(1)
                if size == -1:
                    raise BackendUnavailable("the server ended the replication stream")
                if size <= 0:
                    return found, wants_reply
                match read_frame(bytes(data)):
                    case LogMessage() as message:
                        self._end = max(self._end, message.end)
                        if message.prefix in self._prefixes:
                            found.append(message)
                    case Keepalive(end, wanted):
                        self._end = max(self._end, end)
                        wants_reply = wants_reply or wanted
                    case None:
                        pass
        except psycopg.Error as error:
            raise BackendUnavailable(f"the replication stream was lost: {str(error).strip()}") from error

    async def _confirm(self, pgconn: pq.abc.PGconn, *, at_once: bool) -> None:
        now = time.monotonic()
        if not at_once and (now - self._told_at < _FEEDBACK_SECONDS or self._end == self._told):
            return
        self._told, self._told_at = self._end, now
        try:
            pgconn.put_copy_data(feedback(self._end))
            await _flush(pgconn)
        except psycopg.Error as error:
            raise BackendUnavailable(f"the replication stream was lost: {str(error).strip()}") from error

    async def _command(self, command: str) -> None:
        pgconn = self._pgconn
        try:
            pgconn.send_query(command.encode())
            await _flush(pgconn)
            result = await _result(pgconn)
        except psycopg.Error as error:
            raise BackendUnavailable(f"the connection for the log was lost: {str(error).strip()}") from error
        if result.status not in (pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COPY_BOTH, pq.ExecStatus.COMMAND_OK):
            raise _refused(result)

    @property
    def _pgconn(self) -> pq.abc.PGconn:
        assert self._connection is not None, "open() comes first"
        return self._connection.pgconn

    async def aclose(self) -> None:
        """Let the slot go with its connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def __aenter__(self) -> Self:
        try:
            await self.open()
        except BaseException:
            await self.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


def _refused(result: pq.abc.PGresult) -> BackendError:
    state = (result.error_field(pq.DiagnosticField.SQLSTATE) or b"").decode()
    text = (result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY) or b"").decode("utf-8", "replace")
    cure = {
        "42501": "; give the worker's role the right: ALTER ROLE … REPLICATION",
        "53400": "; raise max_replication_slots or max_wal_senders, or run fewer workers",
        "55000": "; set wal_level = logical and restart, or use the transport dblink",
    }.get(state, "")
    return BackendError(
        f"PostgreSQL does not let the worker read its log: {text} (SQLSTATE {state}){cure}", sqlstate=state
    )


async def _flush(pgconn: pq.abc.PGconn) -> None:
    """Send what is buffered. It is little, so the socket is hardly ever full."""
    while pgconn.flush():  # noqa: ASYNC110 -- what is waited for is the socket's
        await asyncio.sleep(0.001)


async def _result(pgconn: pq.abc.PGconn) -> pq.abc.PGresult:
    """The one result of a command; of COPY_BOTH what follows is not taken."""
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(pgconn.socket, readable.set)
    try:
        last: pq.abc.PGresult | None = None
        while True:
            while pgconn.is_busy():
                readable.clear()
                await readable.wait()
                pgconn.consume_input()
            result = pgconn.get_result()
            if result is None:
                assert last is not None
                return last
            last = result
            if result.status == pq.ExecStatus.COPY_BOTH:
                return result
    finally:
        loop.remove_reader(pgconn.socket)
