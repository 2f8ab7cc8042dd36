"""A server on the loopback interface that speaks OpenAI's embeddings protocol, and fails in whatever way a test wants."""

from __future__ import annotations

import base64
import json
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from likewise.embedding import HashingEmbedder


@dataclass
class Seen:
    """A request as it came: its path, headers by names in lower case, and its JSON."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]

    @property
    def texts(self) -> list[str]:
        texts: list[str] = self.body["input"]
        return texts


@dataclass
class Reply:
    """What is answered. ``cut`` ends the connection after so many bytes of the body; ``pieces`` are sent in place of a body."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict[str, str])
    cut: int | None = None
    pieces: Iterable[bytes] | None = None


Answer = Callable[[Seen], Reply]


def vectors_of(texts: Sequence[str], dimension: int) -> NDArray[np.float32]:
    """What the server's model makes of texts."""
    return HashingEmbedder(dimension).embed_texts(texts)


def embeddings(
    dimension: int,
    *,
    encoding: str = "base64",
    order: Callable[[list[dict[str, Any]]], list[dict[str, Any]]] = lambda items: items,
    tokens: int | None = None,
    **more: Any,
) -> Answer:
    """Answers with vectors, by way of ``order``; ``more`` replaces parts of the answer."""

    def answer(seen: Seen) -> Reply:
        items: list[dict[str, Any]] = []
        for index, vector in enumerate(vectors_of(seen.texts, seen.body.get("dimensions") or dimension)):
            packed: object = base64.b64encode(vector.tobytes()).decode() if encoding == "base64" else vector.tolist()
            items.append({"object": "embedding", "index": index, "embedding": packed})
        spent = sum(len(text) for text in seen.texts) if tokens is None else tokens
        usage = {"prompt_tokens": spent, "total_tokens": spent}
        return as_json({"object": "list", "data": order(items), "model": seen.body["model"], "usage": usage} | more)

    return answer


def as_json(value: object, status: int = 200, **headers: str) -> Reply:
    """A reply of JSON; underscores in the headers' names are hyphens."""
    return Reply(json.dumps(value).encode(), status, {name.replace("_", "-"): text for name, text in headers.items()})


def problem(
    status: int, message: str = "no", *, code: str = "", param: str = "", kind: str = "", **headers: str
) -> Answer:
    """Answers with an error in the protocol's form."""
    error = {"message": message, "type": kind, "param": param or None, "code": code or None}
    return lambda seen: as_json({"error": error}, status, **headers)


class Server:
    """The server: what it saw, what it answers next (``script``), and what it answers when nothing is left of that (``answer``)."""

    def __init__(self, dimension: int = 4, certificate: Path | None = None) -> None:
        self.seen: list[Seen] = []
        self.script: deque[Answer] = deque()
        self.answer: Answer = embeddings(dimension)
        self.under_way = self.most_under_way = self.sent = 0
        #: Set at the end, so that no handler waits any longer.
        self.closing = threading.Event()
        self._lock = threading.Lock()
        self._http = _Http(("127.0.0.1", 0), type("Handler", (_Handler,), {"server_state": self}))
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self._http.socket = context.wrap_socket(self._http.socket, server_side=True)
        self._scheme = "http" if certificate is None else "https"
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)

    @property
    def url(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self._http.server_address[1]}/v1"

    @property
    def sizes(self) -> list[int]:
        """How many texts each request had."""
        return [len(seen.texts) for seen in self.seen]

    def late(self, seconds: float = 60.0) -> Answer:
        """Answers rightly, but after so many seconds, or when the server ends."""

        def answer(seen: Seen) -> Reply:
            self.closing.wait(seconds)
            return self.answer(seen)

        return answer

    def reply(self, seen: Seen) -> Reply:
        with self._lock:
            self.seen.append(seen)
            self.under_way += 1
            self.most_under_way = max(self.most_under_way, self.under_way)
            answer = self.script.popleft() if self.script else self.answer
        try:
            return answer(seen)
        finally:
            with self._lock:
                self.under_way -= 1

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self.closing.set()
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away is what some tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_state: Server
    timeout = 10
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        reply = self.server_state.reply(Seen(self.path, {k.lower(): v for k, v in self.headers.items()}, body))
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        if reply.pieces is not None:
            self.send_header("Connection", "close")
            self.end_headers()
            self.close_connection = True
            for piece in reply.pieces:
                self.wfile.write(piece)
                self.server_state.sent += len(piece)
            return
        self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        self.wfile.write(reply.body[: reply.cut])
        if reply.cut is not None:
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Tests say what they saw."""


@contextmanager
def serving(dimension: int = 4, *, certificate: Path | None = None) -> Iterator[Server]:
    """A server for the length of the block."""
    server = Server(dimension, certificate)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def dripping(closing: threading.Event, seconds: float) -> Iterator[bytes]:
    """One byte, again and again."""
    while not closing.is_set():
        yield b" "
        time.sleep(seconds)
