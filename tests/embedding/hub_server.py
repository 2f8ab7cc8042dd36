"""A server on this machine that speaks enough of the Hugging Face hub's protocol for ``huggingface_hub``, and goes wrong when told to.

``GET /api/models/NAME/revision/REVISION`` names the commit; ``HEAD`` and ``GET /NAME/resolve/COMMIT/FILE`` give a file, with its ``ETag`` (the
SHA-256, as for large files) and ``X-Repo-Commit``, and a part of it where ``Range`` asks for one.
"""

from __future__ import annotations

import hashlib
import http.server
import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LATER = "fedcba9876543210fedcba9876543210fedcba98"


@dataclass(frozen=True)
class Request:
    """What was asked."""

    method: str
    path: str
    headers: Mapping[str, str]


@dataclass
class Hub:
    """The server's repository, and what it was asked. ``wrong`` decides for a request what goes wrong with it.

    That is a status, ``"cut"`` (half of the file comes, then the connection ends), ``"other"`` (bytes that are not those of the ``ETag``),
    a dictionary of headers to be given instead, or None.
    """

    repository: str = "owner/tiny"
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=lambda: {"main": COMMIT})
    wrong: Callable[[Request], int | str | dict[str, str] | None] = lambda _: None
    requests: list[Request] = field(default_factory=list)
    url: str = ""

    def asked(self, method: str, ending: str = "") -> list[Request]:
        """The requests of a method whose path ends so."""
        return [r for r in self.requests if r.method == method and r.path.endswith(ending)]


@contextmanager
def serving(files: Mapping[str, bytes]) -> Iterator[Hub]:
    """A hub with one repository of these files, at ``COMMIT``, on its branch ``main``."""
    hub = Hub(commits={COMMIT: dict(files)})

    class Handler(_Handler):
        state = hub

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        hub.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()


class _Handler(http.server.BaseHTTPRequestHandler):
    state: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        hub = self.state
        request = Request(self.command, self.path, {k.lower(): v for k, v in self.headers.items()})
        hub.requests.append(request)
        wrong = hub.wrong(request)
        if isinstance(wrong, int):
            self._refuse(wrong, {404: "RepoNotFound", 401: "RepoNotFound", 403: "GatedRepo"}.get(wrong, ""))
        elif match := re.fullmatch(r"/api/models/([^?]+)/revision/([^/?]+)(?:\?.*)?", self.path):
            name, revision = match.groups()
            commit = hub.branches.get(revision, revision)
            if name != hub.repository:
                self._refuse(404, "RepoNotFound")
            elif commit not in hub.commits:
                self._refuse(404, "RevisionNotFound")
            else:
                siblings = [{"rfilename": file} for file in hub.commits[commit]]
                body = json.dumps({"id": name, "sha": commit, "siblings": siblings}).encode()
                self._give(200, body, {"Content-Type": "application/json"})
        elif match := re.fullmatch(r"/(.+)/resolve/([^/]+)/(.+)", self.path):
            name, revision, file = match.groups()
            commit = hub.branches.get(revision, revision)
            if name != hub.repository or commit not in hub.commits:
                self._refuse(404, "RepoNotFound" if name != hub.repository else "RevisionNotFound")
            elif file not in hub.commits[commit]:
                self._refuse(404, "EntryNotFound", {"X-Repo-Commit": commit})
            else:
                self._file(hub.commits[commit][file], commit, wrong)
        else:
            self._refuse(404, "")

    def _file(self, body: bytes, commit: str, wrong: object) -> None:
        headers = {"ETag": f'"{hashlib.sha256(body).hexdigest()}"', "X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        if isinstance(wrong, dict):
            headers |= wrong
        if wrong == "other":
            body = bytes(byte ^ 1 for byte in body)
        start = int(re.sub(r"bytes=(\d+)-.*", r"\1", self.headers.get("Range") or "bytes=0-"))
        status = 206 if start else 200
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
        body = body[start:]
        if wrong == "cut" and self.command == "GET":
            self._give(status, body, headers, sent=len(body) // 2)
            self.close_connection = True
        else:
            self._give(status, body, headers)

    def _refuse(self, status: int, code: str, headers: Mapping[str, str] | None = None) -> None:
        self._give(status, b"", {**({"X-Error-Code": code} if code else {}), **(headers or {})})

    def _give(self, status: int, body: bytes, headers: Mapping[str, str], *, sent: int | None = None) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body[:sent])
