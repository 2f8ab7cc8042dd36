"""Pictures by path and URL: what is read, and what is not reached for, whatever a column says."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from likewise.errors import InvalidArgument
from likewise.worker import pictures
from likewise.worker.pictures import Pictures


class Answers(BaseHTTPRequestHandler):
    """A server with a picture, redirects, and bad manners."""

    def do_GET(self) -> None:
        if self.path == "/a%20b.png?size=1":
            self._say(200, b"picture")
        elif self.path == "/moved":
            self._say(302, b"", ("Location", "/a%20b.png?size=1"))
        elif self.path == "/inside":
            self._say(302, b"", ("Location", "http://inside.test/secret"))
        elif self.path == "/round":
            self._say(302, b"", ("Location", "/round"))
        elif self.path == "/large":
            self._say(200, b"x" * 2000)
        elif self.path == "/slow":
            self.send_response(200)
            self.end_headers()
            for _ in range(150):
                time.sleep(0.1)
                self.wfile.write(b"x")
        else:
            self._say(404, b"")

    def _say(self, status: int, body: bytes, *headers: tuple[str, str]) -> None:
        self.send_response(status)
        for name, value in (*headers, ("Content-Length", str(len(body)))):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def handle(self) -> None:
        try:
            super().handle()
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A server at "outside.test", which passes for public, and at "inside.test", which does not."""
    server = HTTPServer(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    really = socket.getaddrinfo

    def looked_up(host: str, port: int, *arguments: Any, **more: Any) -> Any:
        known = {"outside.test": "93.184.216.34", "inside.test": "10.0.0.1", "both.test": "93.184.216.34"}
        if host in known:
            found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (known[host], port))]
            return found + (
                [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))] if host == "both.test" else []
            )
        return really(host, port, *arguments, **more)

    connect = socket.create_connection

    def connected(address: tuple[str, int], **more: Any) -> socket.socket:
        assert address[0] == "93.184.216.34", "only the address that was judged is connected to"
        return connect(("127.0.0.1", server.server_port), **more)

    monkeypatch.setattr(socket, "getaddrinfo", looked_up)
    monkeypatch.setattr(socket, "create_connection", connected)
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


def test_pictures_by_url(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = Pictures(urls=True, seconds=1)
    assert reader.read("http://outside.test/a b.png?size=1") == b"picture"
    assert reader.read("http://outside.test:8080/moved") == b"picture"
    monkeypatch.setattr(pictures, "MAX_BYTES", 1000)
    for path, said in {
        "/inside": "not on the public internet",
        "/round": "from one address to the next",
        "/large": "more than 1,000 bytes",
        "/nothing": "status 404",
        "/slow": "cannot be fetched",
    }.items():
        began = time.monotonic()
        with pytest.raises(InvalidArgument, match=said):
            reader.read(f"http://outside.test{path}")
        assert time.monotonic() - began < 8  # "/slow" goes on for longer


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/",
        "http://localhost:5432/",
        "http://[::1]/",
        "http://[::ffff:127.0.0.1]/",
        "http://[64:ff9b::7f00:1]/",
        "http://[2002:7f00:1::]/",
        "http://169.254.169.254/latest/meta-data",
        "http://10.1.2.3/",
        "http://100.64.0.1/",
        "http://192.168.1.1/",
        "http://0.0.0.0/",
        "http://224.0.0.1/",
        "http://[fe80::1]/",
        "http://[fd00::1]/",
        "http://2130706433/",
        "http://inside.test/",
        "http://both.test/",
        "https://inside.test/",
    ],
)
def test_what_is_inside_is_not_reached_for(port: int, url: str) -> None:
    with pytest.raises(InvalidArgument, match="not on the public internet"):
        Pictures(urls=True).read(url)


@pytest.mark.parametrize(
    "url", ["http://me:secret@outside.test/", "http:///x", "http://outside.test:99999/x", "https://[/"]
)
def test_what_is_no_url(port: int, url: str) -> None:
    with pytest.raises(InvalidArgument):
        Pictures(urls=True).read(url)


def test_urls_are_asked_for_only_if_that_is_allowed() -> None:
    with pytest.raises(InvalidArgument, match="is a URL"):
        Pictures().read("HTTP://outside.test/a.png")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "a.png").write_bytes(b"picture")
    (tmp_path / "secret").write_bytes(b"secret")
    (folder / "link").symlink_to(tmp_path)
    (folder / "within").symlink_to(folder / "deep")
    os.mkfifo(folder / "pipe")
    return folder


def test_pictures_by_path(root: Path) -> None:
    reader = Pictures([root.parent / "none", root])
    for path in ("deep/a.png", "deep/../deep/a.png", "within/a.png", str(root / "deep" / "a.png")):
        assert reader.read(path) == b"picture"


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("../secret", "there is no picture"),
        ("link/secret", "there is no picture"),
        ("/etc/passwd", "there is no picture"),
        ("deep/none.png", "there is no picture"),
        ("deep\x00/a.png", "there is no picture"),
        ("a" * 5000, "there is no picture"),
        ("file:///etc/passwd", "there is no picture"),
        ("deep", "is no file"),
        ("pipe", "is no file"),
    ],
)
def test_what_is_not_read(root: Path, path: str, said: str) -> None:
    with pytest.raises(InvalidArgument, match=said):
        Pictures([root]).read(path)


def test_a_link_that_is_put_there_meanwhile_is_not_followed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    really = pictures._open_below

    def late(folder: Path, path: Path) -> int:
        path.unlink()
        path.parent.rmdir()
        path.parent.symlink_to(root.parent)
        (root.parent / path.name).write_bytes(b"secret")
        return really(folder, path)

    monkeypatch.setattr(pictures, "_open_below", late)
    with pytest.raises(InvalidArgument, match="cannot be read"):
        Pictures([root]).read("deep/a.png")


def test_without_a_folder_no_path_is_read(root: Path) -> None:
    with pytest.raises(InvalidArgument, match="is a path"):
        Pictures().read(str(root / "deep" / "a.png"))
