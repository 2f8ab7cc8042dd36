"""The counts of a worker over HTTP, for Prometheus, and whether it is ready, for whoever watches over processes. Nothing else."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping

from likewise.errors import BackendUnavailable
from likewise.worker.metrics import exposition

__all__ = ["Exposing"]

_MOST_BYTES = 8_192
_SECONDS = 5.0


class Exposing:
    """``GET /metrics`` and ``GET /health`` on one address, which ought to be an inner one: there is no authentication."""

    def __init__(
        self, host: str, port: int, counts: Callable[[], Mapping[str, float]], ready: Callable[[], bool]
    ) -> None:
        self._host = host
        self._port = port
        self._counts = counts
        self._ready = ready
        #: Where it listens, once it does: a port of 0 was one that the system chose.
        self.address: tuple[str, int] | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until ``stop`` is set. ``BackendUnavailable`` if the address cannot be used."""
        try:
            server = await asyncio.start_server(self._serve, self._host, self._port, limit=_MOST_BYTES)
        except OSError as error:
            raise BackendUnavailable(
                f"cannot listen on {self._host}:{self._port}: {error.strerror or error}"
            ) from error
        host, port = server.sockets[0].getsockname()[:2]
        self.address = host, port
        try:
            await stop.wait()
        finally:
            # Connections end by themselves, within seconds: each has one answer.
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_SECONDS):
                head = await reader.readuntil(b"\r\n\r\n")
                status, content_type, body = self._answer(head.split(b"\r\n", 1)[0])
                writer.write(
                    f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode()
                    + (b"" if head.startswith(b"HEAD ") else body)
                )
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError):
            pass  # Whoever asked went away, or is none who speaks HTTP.
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    def _answer(self, line: bytes) -> tuple[str, str, bytes]:
        method, _, rest = line.partition(b" ")
        path = rest.partition(b" ")[0].partition(b"?")[0]
        if method not in (b"GET", b"HEAD"):
            return "405 Method Not Allowed", "text/plain", b"GET and HEAD only\n"
        if path == b"/metrics":
            return "200 OK", "text/plain; version=0.0.4; charset=utf-8", exposition(self._counts()).encode()
        if path == b"/health":
            return (
                ("200 OK", "text/plain", b"ok\n")
                if self._ready()
                else ("503 Service Unavailable", "text/plain", b"not ready\n")
            )
        return "404 Not Found", "text/plain", b"there is /metrics and /health\n"
