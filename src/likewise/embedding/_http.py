"""One request over HTTP to a model's server, bounded in time, in size and in number. Knows of no protocol, and of no retries."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from likewise._deadline import check_deadline, remaining
from likewise.errors import BackendTimeout, OptionalDependencyError

if TYPE_CHECKING:
    import httpx

__all__ = ["Answer", "Endpoint", "Lost", "TooLarge", "Unusable"]

#: What is read of an answer that is no success.
MOST_BYTES_OF_A_PROBLEM = 65_536


@dataclass(frozen=True, slots=True)
class Answer:
    """A status, headers by their names in lower case, and the body; of an answer that is no success its first part."""

    status: int
    headers: dict[str, str]
    body: bytes


class Lost(Exception):
    """There was no answer, or not all of it, in the time."""


class TooLarge(Exception):
    """The answer has more bytes than were allowed."""


class Unusable(Exception):
    """The server's certificate cannot be trusted, or this machine's settings for proxies and certificates cannot be used."""


@dataclass(slots=True)
class _Open:
    """A client, how many use it, and whether it is to be closed when nobody does."""

    client: httpx.Client
    users: int = 0
    retired: bool = False


class Endpoint:
    """Where requests are sent to: a URL. Connects at the first request; safe to use from several threads.

    At most ``concurrency`` requests are under way, one takes at most ``timeout`` seconds, and redirects are not followed. ``bearer``
    gives the key, empty for none, just before a request is sent; it may raise.
    """

    def __init__(self, url: str, *, bearer: Callable[[], str], timeout: float, concurrency: int) -> None:
        self._url = url
        self._bearer = bearer
        self._timeout = timeout
        self._concurrency = concurrency
        self._slots = threading.BoundedSemaphore(concurrency)
        self._lock = threading.Lock()
        self._open: _Open | None = None

    def close(self) -> None:
        """Close the connections, each when it is not in use any more. The next request connects anew."""
        with self._lock:
            opened, self._open = self._open, None
            if opened is not None:
                opened.retired = True
        if opened is not None and not opened.users:
            opened.client.close()

    @contextmanager
    def slot(self) -> Iterator[None]:
        """One of the requests that may be under way; ``BackendTimeout`` if the deadline passes while none is free."""
        if not self._slots.acquire(timeout=remaining()):
            raise BackendTimeout(f"the deadline passed while other requests to {self._url} were under way")
        try:
            yield
        finally:
            self._slots.release()

    def post(self, body: bytes, *, most_bytes: int) -> Answer:
        """Send JSON. ``Lost`` if no whole answer comes, ``TooLarge``, ``Unusable``; ``BackendTimeout`` at the deadline."""
        with self._client() as client:
            import httpx

            left = remaining()
            seconds = self._timeout if left is None else min(self._timeout, left)
            ends = time.monotonic() + seconds
            try:
                with client.stream(
                    "POST", self._url, content=body, timeout=seconds, auth=self._authorise, follow_redirects=False
                ) as response:
                    return _read(response, most_bytes, ends)
            except httpx.TimeoutException as error:
                check_deadline()
                raise Lost(f"no answer in {seconds:.3g} s") from error
            except (httpx.TransportError, httpx.DecodingError) as error:
                check_deadline()
                if _is_of_certificate(error):
                    raise Unusable(f"its certificate cannot be trusted: {error}") from error
                raise Lost(f"{type(error).__name__}: {error}") from error

    def _authorise(self, request: httpx.Request) -> httpx.Request:
        """Put the key into the request. It is kept nowhere else."""
        if key := self._bearer():
            request.headers["Authorization"] = f"Bearer {key}"
        return request

    @contextmanager
    def _client(self) -> Iterator[httpx.Client]:
        with self._lock:
            if self._open is None:
                self._open = _Open(_new_client(self._concurrency))
            opened = self._open
            opened.users += 1
        try:
            yield opened.client
        finally:
            with self._lock:
                opened.users -= 1
                unused = opened.retired and not opened.users
            if unused:
                opened.client.close()


def _new_client(concurrency: int) -> httpx.Client:
    try:
        import httpx
    except ImportError as error:
        raise OptionalDependencyError("httpx", extra="openai") from error
    # Proxies and trusted certificates are the environment's (HTTPS_PROXY, SSL_CERT_FILE), as for any program that uses HTTP.
    try:
        return httpx.Client(
            verify=True,
            limits=httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency),
            headers={
                "Accept": "application/json",
                "Accept-Encoding": "identity",
                "Content-Type": "application/json",
                "User-Agent": "likewise",
            },
        )
    except (OSError, ValueError, ImportError, httpx.InvalidURL) as error:
        raise Unusable(f"the settings of this machine for proxies or certificates are wrong: {error}") from error


def _read(response: httpx.Response, most_bytes: int, ends: float) -> Answer:
    good = response.status_code == 200
    body = bytearray()
    for piece in response.iter_bytes():
        body += piece
        if good and len(body) > most_bytes:
            raise TooLarge
        if not good and len(body) > MOST_BYTES_OF_A_PROBLEM:
            break
        if time.monotonic() > ends:
            check_deadline()
            raise Lost("the answer came too slowly")
    return Answer(response.status_code, {k.lower(): v for k, v in response.headers.items()}, bytes(body))


def _is_of_certificate(error: BaseException | None) -> bool:
    import ssl

    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError) or "CERTIFICATE_VERIFY_FAILED" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False
