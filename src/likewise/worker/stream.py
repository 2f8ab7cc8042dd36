"""The messages that sessions write into the log, as they are written: a temporary logical replication slot.

The slot goes with its connection, however that ends, so that a worker that dies never has the server keep its log. How the log is read is
``backends.postgres.following.stream``'s affair.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import AsyncIterator
from typing import Self

from psycopg import sql

from likewise.backends.postgres.following.stream import Replication
from likewise.worker._messages import Keepalive, LogMessage, feedback, read_frame

__all__ = ["LogStream"]

#: How often the server is told how far the log was read, where something came; the server asks for it now and then itself.
_FEEDBACK_SECONDS = 1.0
PUBLICATION = "likewise"
#: What helps when the server refuses, by SQLSTATE.
_CURES = {
    "42501": "; give the worker's role the right: ALTER ROLE … REPLICATION",
    "53400": "; raise max_replication_slots or max_wal_senders, or run fewer workers",
    "55000": "; set wal_level = logical and restart, or use the transport dblink",
}


class LogStream:
    """The messages with one of these prefixes, from the moment on in which ``open`` returns."""

    def __init__(self, conninfo: str, prefixes: frozenset[str]) -> None:
        self._conninfo = conninfo
        self._prefixes = prefixes
        self._stream: Replication | None = None
        self._end = 0
        self._told = 0
        self._told_at = 0.0
        self.slot = f"likewise_{os.getpid()}_{secrets.token_hex(4)}"

    async def open(self) -> None:
        """Connect, make the slot, and begin to read. The server waits until the transactions that write now have ended.

        Raises:
            BackendError: the role may not replicate, or the server is not set up for logical decoding; the text has the cure.
        """
        stream = self._stream = await Replication.connect(
            self._conninfo, name="likewise worker (log)", reader="the worker", cures=_CURES
        )
        slot = sql.Identifier(self.slot).as_string(None)
        await stream.command("CREATE_REPLICATION_SLOT " + slot + " TEMPORARY LOGICAL pgoutput NOEXPORT_SNAPSHOT")
        await stream.command(
            "START_REPLICATION SLOT " + slot + " LOGICAL 0/0 (proto_version '1', publication_names '"
            + PUBLICATION + "', messages 'true')"
        )  # fmt: skip

    async def messages(self) -> AsyncIterator[list[LogMessage]]:
        """The messages in lists, as they come. Ends only by an error: ``BackendUnavailable`` when the connection is lost."""
        stream = self._stream
        assert stream is not None, "open() comes first"
        while True:
            found, wants_reply = self._understood(stream.receive())
            if found:
                yield found
            await self._confirm(stream, at_once=wants_reply)
            if not found:
                await stream.wait(_FEEDBACK_SECONDS)

    def _understood(self, frames: list[bytes]) -> tuple[list[LogMessage], bool]:
        """What has come that is for us, and whether the server wants to hear how far we are."""
        found: list[LogMessage] = []
        wants_reply = False
        for frame in frames:
            match read_frame(frame):
                case LogMessage() as message:
                    self._end = max(self._end, message.end)
                    if message.prefix in self._prefixes:
                        found.append(message)
                case Keepalive(end, wanted):
                    self._end = max(self._end, end)
                    wants_reply = wants_reply or wanted
                case None:
                    pass
        return found, wants_reply

    async def _confirm(self, stream: Replication, *, at_once: bool) -> None:
        now = time.monotonic()
        if not at_once and (now - self._told_at < _FEEDBACK_SECONDS or self._end == self._told):
            return
        self._told, self._told_at = self._end, now
        await stream.send(feedback(self._end))

    async def aclose(self) -> None:
        """Let the slot go with its connection."""
        stream, self._stream = self._stream, None
        if stream is not None:
            await stream.aclose()

    async def __aenter__(self) -> Self:
        try:
            await self.open()
        except BaseException:
            await self.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()
