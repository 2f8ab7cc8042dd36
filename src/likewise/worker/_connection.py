"""One connection's bytes: read as many as are wanted, write, turn to TLS. What they mean is not known here.

Not ``asyncio.StreamReader``, because whoever turns to TLS must know that nothing of the plain text is left over: bytes that somebody
slipped in before the handshake would pass for encrypted ones after it.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import cast

__all__ = ["Connection", "ConnectionLost"]

#: So much is read ahead of what is wanted.
_READ_AHEAD = 64 << 10
#: How long a client that is being left may take to fetch what was written.
_LEAVING_SECONDS = 5.0


class ConnectionLost(Exception):
    """The other side is gone, or is being left."""


class Connection(asyncio.Protocol):
    """A TCP connection that was accepted; ``accepted`` is called with it once it is there."""

    def __init__(self, accepted: Callable[[Connection], None]) -> None:
        self._accepted = accepted
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._wanted = 0
        self._arrived = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        #: Done when the other side is gone.
        self.lost: asyncio.Future[None] = self._loop.create_future()
        self.peer = ""
        self.encrypted = False

    # Called by the event loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self.peer = str(transport.get_extra_info("peername"))
        # A client whose machine is gone says nothing; the system then notices.
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._accepted(self)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if len(self._buffer) >= self._wanted:
            self._arrived.set()
        if self._transport is not None and len(self._buffer) >= self._wanted + _READ_AHEAD:
            self._transport.pause_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.lost.done():
            self.lost.set_result(None)
        self._arrived.set()
        self._writable.set()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    # Called by the server.

    @property
    def unread(self) -> int:
        """How many bytes have come that nobody has read."""
        return len(self._buffer)

    async def read(self, count: int) -> bytes:
        """The next ``count`` bytes; ``ConnectionLost`` if they do not come."""
        assert self._transport is not None
        self._wanted = count
        while len(self._buffer) < count:
            if self.lost.done() or self._transport.is_closing():
                raise ConnectionLost
            self._arrived.clear()
            self._transport.resume_reading()
            await self._arrived.wait()
        self._wanted = 0
        with memoryview(self._buffer) as view:
            data = bytes(view[:count])
        del self._buffer[:count]
        return data

    async def write(self, data: bytes) -> None:
        """Send; waits while the other side does not fetch what was sent before."""
        assert self._transport is not None
        if self.lost.done() or self._transport.is_closing():
            raise ConnectionLost
        self._transport.write(data)
        await self._writable.wait()

    async def encrypt(self, context: ssl.SSLContext, agreed: bytes, *, seconds: float) -> None:
        """Say ``agreed``, and turn to TLS. The caller has seen that nothing is ``unread``, and has not waited since.

        Raises ``OSError``, of which ``ssl.SSLError`` is one, if the client does not get through the handshake.
        """
        assert self._transport is not None
        self._transport.write(agreed)
        # Reading is paused in here before anything can arrive.
        encrypted = await self._loop.start_tls(
            self._transport, self, context, server_side=True, ssl_handshake_timeout=seconds
        )
        if encrypted is None:
            raise ConnectionLost
        self._transport = encrypted
        self.encrypted = True

    def leave(self, last_words: bytes = b"") -> None:
        """Close, after ``last_words``; what was written goes out, unless the other side does not take it soon."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        transport.write(last_words)
        transport.close()
        self._arrived.set()
        self._loop.call_later(_LEAVING_SECONDS, transport.abort)

    def abort(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()
