"""Asks a server that speaks one of OpenAI's protocols: what is worth another attempt and when, what is final, and what is said of it.

Here is what such a server has in common, whatever it is asked for; ``openai`` asks for vectors, ``likewise.search.chat`` for replies. One request is
``_http``'s.
"""

from __future__ import annotations

import itertools
import logging
import random
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TypeVar

from likewise._deadline import check_deadline, remaining
from likewise.embedding._http import Answer, Endpoint, Lost, TooLarge, Unusable
from likewise.embedding._openai import MalformedAnswer, host_of, read_problem, wait_asked
from likewise.errors import BackendTimeout, ModelNotAvailable, ModelUnreachable

__all__ = ["BASE_URL", "Refused", "Server", "Stopped"]

BASE_URL = "https://api.openai.com/v1"
#: Seconds: the longest pause before the second attempt, doubled before each further one, and the longest of all.
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 20.0

_log = logging.getLogger("likewise.embedding")
_random = random.SystemRandom()

B = TypeVar("B")
T = TypeVar("T")


class Refused(Exception):
    """The server finds fault with what it was sent; the text is its own."""


class Stopped(Exception):
    """The call was given up by whoever made it."""


class Server:
    """A server at ``base_url``, asked at ``path`` for what ``gives`` names. Connects at the first request; safe to use from several threads.

    ``name`` is the model's, as errors call it. ``key`` gives the key just before a request is sent; it is kept in no attribute. ``no_key`` and
    ``settings`` are parts of errors: how a key is given, and what to look at when the server refuses. ``counted`` is called for each
    request, ``again`` for each further attempt.
    """

    def __init__(
        self,
        base_url: str,
        path: str,
        *,
        name: str,
        gives: str,
        key: Callable[[], str | None],
        no_key: str,
        settings: str,
        timeout: float,
        max_retries: int,
        retry_for: float,
        concurrency: int,
        counted: Callable[[], None] = lambda: None,
        again: Callable[[], None] = lambda: None,
    ) -> None:
        self.base_url = base_url
        self._name = name
        self._gives = gives
        self._key = key
        self._no_key = no_key
        self._settings = settings
        self._max_retries = max_retries
        self._retry_for = retry_for
        self._counted = counted
        self._again = again
        self._endpoint = Endpoint(f"{base_url}{path}", bearer=self._bearer, timeout=timeout, concurrency=concurrency)
        #: Waits so many seconds, or until the call is given up, which it then says.
        self.wait: Callable[[threading.Event, float], bool] = threading.Event.wait

    def close(self) -> None:
        """Close the connections, each when it is not in use any more. The next request connects anew."""
        self._endpoint.close()

    def ask(
        self,
        body: bytes,
        *,
        most_bytes: int,
        read: Callable[[bytes, B], T],
        paying: Callable[[], AbstractContextManager[B]],
        tokens: int = 0,
        stop: threading.Event | None = None,
        first: int = 0,
    ) -> T:
        """What ``read`` makes of the answer to one request, made again where that may help.

        ``read`` is given the answer and what ``paying`` gave for this attempt; it may raise ``MalformedAnswer``. ``tokens`` are the request's, for
        servers that say when so many will be allowed; ``first`` is added to the row that an answer's fault is about.

        ``Refused`` if the server finds fault with the request, ``Stopped`` once ``stop`` is set; ``ModelUnreachable`` if it does not answer,
        ``ModelNotAvailable`` for whatever is final; ``BackendTimeout`` at the deadline.
        """
        stop = threading.Event() if stop is None else stop
        started: float | None = None
        for attempt in itertools.count(1):
            check_deadline()
            asked: float | None = None
            cause: BaseException | None = None
            with paying() as bill, self._endpoint.slot():
                if stop.is_set():
                    raise Stopped
                started = time.monotonic() if started is None else started
                try:
                    answer = self._endpoint.post(body, most_bytes=most_bytes)
                    if answer.status == 200:
                        return read(answer.body, bill)
                    why = self._worth_another(answer)
                    asked = wait_asked(answer.headers, tokens=tokens, now=time.time())
                except Lost as lost:
                    why, cause = str(lost), lost.__cause__
                except Unusable as error:
                    raise self.failure(f"cannot be asked: {error}") from error
                except TooLarge as error:
                    raise self.failure(
                        f"gives what it should not: an answer of more than {most_bytes:,} bytes"
                    ) from error
                except MalformedAnswer as error:
                    what = "the answer" if error.row is None else f"the answer for text {first + error.row}"
                    raise self.failure(f"gives what it should not: {what}: {error}") from error
            self._pause(attempt, why, asked, started, stop, cause)
        raise AssertionError  # pragma: no cover

    def failure(self, what: str) -> ModelNotAvailable:
        """The error for something that is final."""
        return ModelNotAvailable(f"{self.base_url}, asked for {self._name}, {what}", model=self._name)

    def _worth_another(self, answer: Answer) -> str:
        """Why a request that was not answered may be made again; an error if it may not."""
        status, problem = answer.status, read_problem(answer.body, secret=self._secret())
        said = f": {problem.message}" if problem.message else ""
        if 300 <= status < 400:
            raise self.failure(
                f"redirects to {host_of(answer.headers.get('location', ''))}, which is not followed: give the address itself as base_url"
            )
        if problem.of_quota:
            raise self.failure("has no quota left for this account: look at its plan and billing")
        if status in (408, 409, 429) or status >= 500:
            return f"status {status}{said}"
        if status in (400, 413, 422) and not problem.of_settings:
            raise Refused(problem.message or f"status {status}")
        if status == 401 and not self._secret():
            raise self.failure(self._no_key)
        if status == 401:
            # What it says is not repeated: some repeat a part of the key.
            raise self.failure("refuses the key (status 401): look at api_key or OPENAI_API_KEY")
        if status == 403:
            raise self.failure(f"refuses access (status 403){said}; look at what the key and the account may do")
        if status == 404:
            raise self.failure(
                f"does not have it (status 404){said}; look at the model's name and at base_url, which often ends in /v1"
            )
        raise self.failure(f"refuses (status {status}){said}; look at {self._settings}")

    def _secret(self) -> str:
        return (self._key() or "").strip()

    def _bearer(self) -> str:
        """The key, as a request begins that carries it."""
        key = self._secret()
        if not key and self.base_url == BASE_URL:
            raise self.failure(self._no_key)
        if not (key.isascii() and key.isprintable()) or " " in key:
            raise self.failure("cannot be given the key, which has other signs than printable ASCII: look at api_key")
        self._counted()
        return key

    def _pause(
        self,
        attempt: int,
        why: str,
        asked: float | None,
        started: float,
        stop: threading.Event,
        cause: BaseException | None,
    ) -> None:
        """Wait before the next attempt: as long as the server asks, else longer each time; part of it by chance, so that many who were
        refused at once do not come back at once (exponential backoff with full jitter). An error if there is no time, or no attempt, left.
        """
        chance = _random.random() * min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(attempt - 1, 16))
        seconds = chance if asked is None else asked + min(chance, 1.0)
        gone = time.monotonic() - started
        left = remaining()
        if attempt > self._max_retries or gone + seconds > self._retry_for:
            wish = "" if asked is None else f", and wants us to wait {asked:.3g} s"
            raise ModelUnreachable(
                f"{self.base_url}, asked for {self._name}, gave no {self._gives} in {attempt} attempt{'s' if attempt > 1 else ''} and "
                f"{gone:.3g} s ({why}){wish}; try again later, or allow more than max_retries={self._max_retries} and "
                f"retry_for={self._retry_for:g}",
                model=self._name,
                attempts=attempt,
                retry_after=asked,
            ) from cause
        if left is not None and seconds >= left:
            raise BackendTimeout(
                f"the deadline leaves {left:.3g} s, and {self._name} is to be asked again in {seconds:.3g} s only ({why}): give it more time"
            ) from cause
        _log.info(
            "the model's server is asked again",
            extra={"model": self._name, "attempt": attempt, "seconds": seconds, "reason": why},
        )
        if self.wait(stop, seconds):
            raise Stopped
        self._again()
