"""Pictures that a column names by path or URL. What a column says is not to be trusted: it may be written by anybody.

Paths lead below the folders that the worker was started with, by no link out of them. URLs are asked for only if that is allowed, and only at addresses
of the public internet: a name is resolved once, and the connection goes to the address that was judged.
"""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import os
import socket
import ssl
import stat
import threading
import time
import urllib.parse
from collections.abc import Sequence
from pathlib import Path

from likewise.embedding.images import MAX_BYTES
from likewise.errors import InvalidArgument

__all__ = ["Pictures"]

_MOST_REDIRECTS = 5
_PIECE = 65_536
#: Prefixes that carry an address of version 4 inside: what they lead to is that.
_CARRIERS = ((ipaddress.IPv6Network("64:ff9b::/96"), 0), (ipaddress.IPv6Network("2002::/16"), 80))


class Pictures:
    """Reads the bytes of pictures; ``InvalidArgument`` says why one is not to be had. Blocks; safe to use from several threads."""

    def __init__(
        self, roots: Sequence[str | os.PathLike[str]] = (), *, urls: bool = False, seconds: float = 20.0
    ) -> None:
        self._roots = [Path(root).resolve() for root in roots]
        self._urls = urls
        self._seconds = seconds

    def read(self, address: str) -> bytes:
        """The bytes at a path or URL."""
        if address[:8].lower().startswith(("http://", "https://")):
            if not self._urls:
                raise InvalidArgument(
                    f"{address!r:.200} is a URL; start the worker so that it may fetch pictures by URL"
                )
            return self._fetch(address)
        return self._open(address)

    # --- paths ------------------------------------------------------------------------------------------------------------------

    def _open(self, address: str) -> bytes:
        if not self._roots:
            raise InvalidArgument(
                f"{address!r:.200} is a path; start the worker with the folder that pictures may be read from"
            )
        for root in self._roots:
            try:
                path = (root / address).resolve(strict=True)
            except (OSError, ValueError, RuntimeError):
                continue
            if path.is_relative_to(root):
                return self._read(root, path, address)
        folders = ", ".join(str(root) for root in self._roots)
        raise InvalidArgument(f"there is no picture {address!r:.200} in the folders that may be read from: {folders}")

    def _read(self, root: Path, path: Path, address: str) -> bytes:
        try:
            number = _open_below(root, path)
        except OSError as error:
            raise InvalidArgument(f"the picture {address!r:.200} cannot be read: {error.strerror}") from error
        try:
            found = os.fstat(number)
            if not stat.S_ISREG(found.st_mode):
                raise InvalidArgument(f"{address!r:.200} is no file")
            if found.st_size > MAX_BYTES:
                raise InvalidArgument(f"{address!r:.200} has {found.st_size:,} bytes; at most {MAX_BYTES:,} are read")
            with open(number, "rb", closefd=False) as file:
                return file.read(MAX_BYTES)
        finally:
            os.close(number)

    # --- URLs -------------------------------------------------------------------------------------------------------------------

    def _fetch(self, url: str) -> bytes:
        ends = time.monotonic() + self._seconds
        for _ in range(_MOST_REDIRECTS + 1):
            try:
                found = _get(url, ends)
            except (OSError, http.client.HTTPException, UnicodeError, ValueError) as error:
                if isinstance(error, InvalidArgument):
                    raise
                raise InvalidArgument(
                    f"{url!r:.200} cannot be fetched: {str(error) or type(error).__name__}"
                ) from error
            if isinstance(found, bytes):
                return found
            url = urllib.parse.urljoin(url, found)
        raise InvalidArgument(f"{url!r:.200} leads from one address to the next, more than {_MOST_REDIRECTS} times")


def _open_below(root: Path, path: Path) -> int:
    """A descriptor of a file below a folder. The path has no links in it; what is one now was put there since, and is not followed."""
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    no_link = getattr(os, "O_NOFOLLOW", 0)
    if os.open not in os.supports_dir_fd:
        return os.open(path, flags | no_link)
    parts = path.relative_to(root).parts or (".",)
    folder = os.open(root, flags | os.O_DIRECTORY)
    try:
        for part in parts[:-1]:
            inner = os.open(part, flags | no_link | os.O_DIRECTORY, dir_fd=folder)
            os.close(folder)
            folder = inner
        return os.open(parts[-1], flags | no_link, dir_fd=folder)
    finally:
        os.close(folder)


def _get(url: str, ends: float) -> bytes | str:
    """The body, or where to look instead."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme.lower() not in ("http", "https") or not parts.hostname or parts.username or parts.password:
        raise InvalidArgument(f"{url!r:.200} is no URL of a picture: it must be http(s)://host/…, without a user")
    port = parts.port or (443 if parts.scheme.lower() == "https" else 80)
    address = _public_address(parts.hostname, port, url)
    connection = _Pinned(parts.hostname, port, address, secure=parts.scheme.lower() == "https", ends=ends)
    try:
        path = urllib.parse.quote(parts.path or "/", safe="/%:@!$&'()*+,;=~") + (
            f"?{parts.query}" if parts.query else ""
        )
        headers = {"User-Agent": "likewise", "Accept": "image/*", "Accept-Encoding": "identity"}
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        if response.status in (301, 302, 303, 307, 308) and (target := response.getheader("Location")):
            return target
        if response.status != 200:
            raise InvalidArgument(f"{url!r:.200} cannot be fetched: status {response.status}")
        body = bytearray()
        while piece := response.read1(_PIECE):
            body += piece
            if len(body) > MAX_BYTES:
                raise InvalidArgument(f"{url!r:.200} has more than {MAX_BYTES:,} bytes")
            connection.check()
        connection.check()
        if response.length:
            raise InvalidArgument(f"{url!r:.200} was not given whole")
        return bytes(body)
    finally:
        connection.close()


class _Pinned(http.client.HTTPConnection):
    """A connection to an address that was judged, in the name of a host; it is cut when the time is over, whatever it waits for then."""

    def __init__(self, host: str, port: int, address: str, *, secure: bool, ends: float) -> None:
        super().__init__(host, port)
        self._address = address
        self._secure = secure
        self._ends = ends
        self._timer: threading.Timer | None = None

    def connect(self) -> None:
        left = self._ends - time.monotonic()
        if left <= 0:
            raise TimeoutError("it took too long")
        plain = socket.create_connection((self._address, self.port), timeout=left)
        self.sock = plain
        self._timer = threading.Timer(max(0.0, self._ends - time.monotonic()), _cut, [plain])
        self._timer.daemon = True
        self._timer.start()
        if self._secure:
            self.sock = ssl.create_default_context().wrap_socket(plain, server_hostname=self.host)

    def check(self) -> None:
        """``TimeoutError`` once the time is over."""
        if time.monotonic() >= self._ends:
            raise TimeoutError("it took too long")

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        super().close()


def _cut(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def _public_address(host: str, port: int, url: str) -> str:
    """The address of a host; ``InvalidArgument`` unless all that it has are public."""
    found = [str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    for text in found:
        if not _is_public(ipaddress.ip_address(text.partition("%")[0])):
            raise InvalidArgument(
                f"{url!r:.200} leads to {text}, which is not on the public internet: it is not fetched"
            )
    return found[0]


def _is_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return _is_public(address.ipv4_mapped)
        for network, shift in _CARRIERS:
            if address in network:
                return _is_public(ipaddress.IPv4Address((int(address) >> shift) & 0xFFFF_FFFF))
    return address.is_global and not (address.is_multicast or address.is_reserved or address.is_unspecified)
