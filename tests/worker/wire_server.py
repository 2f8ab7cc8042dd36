"""A server of the worker's in a thread of its own, and a client that says exactly what a test wants it to say."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import hmac
import json
import select
import socket
import ssl
import struct
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from psycopg import pq
from psycopg.pq.abc import PGconn

from likewise.worker.wire import USER, WireRequest, WireServer

PASSWORD = "keep the 'key' \\ \"well\" %s $$"
DIMENSION = 4


def vector_of(text: str | bytes) -> NDArray[np.float32]:
    """A vector that is another one for each text or picture."""
    data = text.encode() if isinstance(text, str) else text
    return np.frombuffer(hashlib.sha256(data).digest()[: 2 * DIMENSION], np.int16).astype(np.float32) / np.float32(7)


async def answer(request: WireRequest) -> NDArray[np.float32]:
    return vector_of(request.input)


class Running:
    """A server that runs, with what tests ask of it."""

    def __init__(self, server: WireServer, loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
        self.server, self.loop, self._stop = server, loop, stop
        assert server.address is not None
        self.host, self.port = server.address

    def stop(self) -> None:
        with contextlib.suppress(RuntimeError):  # it has ended meanwhile
            self.loop.call_soon_threadsafe(self._stop.set)

    def conninfo(self, *, user: str = USER, password: str = PASSWORD, **more: str) -> str:
        settings = {"host": self.host, "port": str(self.port), "user": user, "password": password, "dbname": "x"}
        settings |= {"sslmode": "disable", "gssencmode": "disable", **more}
        escaped = {name: value.replace("\\", "\\\\").replace("'", "\\'") for name, value in settings.items()}
        return " ".join(f"{name}='{value}'" for name, value in escaped.items())

    def connect(self, **more: str) -> PGconn:
        """A connection of libpq's, whatever became of it."""
        # Step by step: libpq's own waiting would not let the server's thread run.
        connection = pq.PGconn.connect_start(self.conninfo(**more).encode())
        while (status := connection.connect_poll()) in {pq.PollingStatus.READING, pq.PollingStatus.WRITING}:
            writing = status == pq.PollingStatus.WRITING
            ready = select.select(
                [] if writing else [connection.socket], [connection.socket] if writing else [], [], 20
            )
            assert any(ready), "the server does not answer"
        return connection


@contextmanager
def serving(
    ask: Callable[[WireRequest], Awaitable[NDArray[np.float32]]] = answer, *, port: int = 0, **options: Any
) -> Iterator[Running]:
    """A server for the length of the block; what goes wrong in it is raised at the end."""
    began = threading.Event()
    running: list[Running] = []
    failed: list[BaseException] = []

    async def work() -> None:
        stop = asyncio.Event()
        server = WireServer(ask, host="127.0.0.1", port=port, **{"password": PASSWORD, **options})
        task = asyncio.create_task(server.run(stop))
        waiting = asyncio.create_task(server.listening.wait())
        await asyncio.wait((task, waiting), return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if not task.done():
            running.append(Running(server, asyncio.get_running_loop(), stop))
            began.set()
        await task

    def thread() -> None:
        try:
            asyncio.run(work())
        except BaseException as error:
            failed.append(error)
        finally:
            began.set()

    worker = threading.Thread(target=thread)
    worker.start()
    began.wait(30)
    try:
        if running:
            yield running[0]
    finally:
        if running and worker.is_alive():
            running[0].stop()
        worker.join(30)
    assert not worker.is_alive()
    if failed:
        raise failed[0]


def embed(connection: PGconn, text: str = "x", codec: str = "utf-8", **more: Any) -> Any:
    """The result of ``EMBED`` for a text."""
    request = {"kind": "text", "input": text, "model": "mini", "within": 10, **more}
    return connection.exec_(f"EMBED {json.dumps(request, ensure_ascii=False)}".encode(codec))


def result_of(connection: PGconn) -> Any:
    """The result of what was sent; like ``connect``, without keeping the server's thread from running."""
    while connection.is_busy():
        assert any(select.select([connection.socket], [], [], 20)), "the server does not answer"
        connection.consume_input()
    return connection.get_result()


def fields(result: Any) -> tuple[str, str, str]:
    """SQLSTATE, message and hint of a result."""
    names = (pq.DiagnosticField.SQLSTATE, pq.DiagnosticField.MESSAGE_PRIMARY, pq.DiagnosticField.MESSAGE_HINT)
    sqlstate, message, hint = ((result.error_field(name) or b"").decode() for name in names)
    return sqlstate, message, hint


# A client of bytes.

SSL_REQUEST = struct.pack("!II", 8, (1234 << 16) | 5679)
GSS_REQUEST = struct.pack("!II", 8, (1234 << 16) | 5680)
CANCEL_REQUEST = struct.pack("!IIII", 16, (1234 << 16) | 5678, 1, 2)


def startup(*, version: int = 3 << 16, **parameters: str) -> bytes:
    pairs = {"user": USER, **parameters}
    body = b"".join(f"{name}\0{value}\0".encode() for name, value in pairs.items())
    return struct.pack("!II", len(body) + 9, version) + body + b"\0"


def message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!I", len(body) + 4) + body


def sasl_first(nonce: bytes = b"abcdefgh", header: bytes = b"n,,", mechanism: bytes = b"SCRAM-SHA-256") -> bytes:
    data = header + b"n=,r=" + nonce
    return message(b"p", mechanism + b"\0" + struct.pack("!I", len(data)) + data)


def sasl_last(server_first: bytes, password: str, nonce: bytes = b"abcdefgh", header: bytes = b"n,,") -> bytes:
    """An honest client's last message, by RFC 5802; passwords in ASCII only."""
    attributes = dict(part.split(b"=", 1) for part in server_first.split(b","))
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), base64.b64decode(attributes[b"s"]), int(attributes[b"i"]))
    key = hmac.digest(salted, b"Client Key", "sha256")
    unproven = b"c=" + base64.b64encode(header) + b",r=" + attributes[b"r"]
    signed = b",".join((b"n=,r=" + nonce, server_first, unproven))
    signature = hmac.digest(hashlib.sha256(key).digest(), signed, "sha256")
    proof = bytes(a ^ b for a, b in zip(key, signature, strict=True))
    return message(b"p", unproven + b",p=" + base64.b64encode(proof))


class Raw:
    """A socket that says what it is told to, and reads messages."""

    def __init__(self, running: Running) -> None:
        self.socket: socket.socket | ssl.SSLSocket = socket.create_connection((running.host, running.port), timeout=20)

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def take(self, count: int) -> bytes:
        """``count`` bytes, or fewer if the connection ends."""
        data = b""
        try:
            while len(data) < count and (more := self.socket.recv(count - len(data))):
                data += more
        except ConnectionResetError:
            pass
        return data

    def read(self) -> tuple[bytes, bytes]:
        """The next message: type and content; both empty at the end of the connection."""
        head = self.take(5)
        return (head[:1], self.take(struct.unpack("!I", head[1:])[0] - 4)) if len(head) == 5 else (b"", b"")

    def until(self, kind: bytes) -> list[tuple[bytes, bytes]]:
        """The messages up to one of a type, or to the end."""
        found: list[tuple[bytes, bytes]] = []
        while not found or found[-1][0] not in {kind, b""}:
            found.append(self.read())
        return found

    def error(self) -> str:
        """The SQLSTATE of the error that comes next; empty if there is none before the end."""
        for kind, body in self.until(b"E"):
            if kind == b"E":
                return next(part[1:].decode() for part in body.split(b"\0") if part.startswith(b"C"))
        return ""

    def log_in(self, password: str) -> list[tuple[bytes, bytes]]:
        """What comes after a login, up to ReadyForQuery."""
        self.send(startup())
        assert self.read()[1].startswith(b"\0\0\0\nSCRAM-SHA-256\0\0")
        self.send(sasl_first())
        self.send(sasl_last(self.read()[1][4:], password))
        return self.until(b"Z")
