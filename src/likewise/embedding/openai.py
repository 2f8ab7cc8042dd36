"""Models behind the embeddings API of OpenAI, or of any server that speaks the same protocol.

Here is what waits: connections, threads, retries, the budget. What is said, and what answers mean, is in ``_openai``. No environment
variable is read here for a key or an address; ``registry`` does that for ``openai:…``.
"""

from __future__ import annotations

import itertools
import logging
import math
import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from likewise._deadline import check_deadline, remaining
from likewise.abc.embedder import Embedder, ModelCard
from likewise.embedding._http import Answer, Endpoint, Lost, TooLarge, Unusable
from likewise.embedding._openai import (
    Batch,
    MalformedAnswer,
    check_base_url,
    estimated_tokens,
    host_of,
    least_tokens,
    make_card,
    plan,
    read_answer,
    read_problem,
    request_body,
    split_variant,
    wait_asked,
)
from likewise.embedding._spending import Ledger, Usage
from likewise.embedding.texts import check_texts
from likewise.errors import (
    BackendTimeout,
    InvalidArgument,
    ModelNotAvailable,
    ModelUnreachable,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["OpenAIEmbedder"]

BASE_URL = "https://api.openai.com/v1"
DEFAULT_VARIANT = "text-embedding-3-small"
#: Seconds: the longest pause before the second attempt, doubled before each further one, and the longest of all.
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 20.0
NO_KEY = "needs a key: give api_key, or set OPENAI_API_KEY where the model is loaded by its name"
#: A server may answer with indented JSON and sixteen digits a number; more than this for each number is not an answer.
MOST_BYTES_PER_NUMBER = 64

_log = logging.getLogger("likewise.embedding")
_random = random.SystemRandom()


class OpenAIEmbedder(Embedder):
    """Embeds texts by the API of OpenAI, or of any server with the same protocol at another ``base_url``.

    ``model`` is the server's name for it. ``dimensions`` is the length of its vectors: for a model of OpenAI its own unless given, and
    the server is asked for fewer if fewer are given; for any other model it must be given, and is only checked, unless ``shorten=True``
    has the server asked for it. ``api_key`` is the key, or a function that gives it at each request; None sends none, which OpenAI's own address does not take.

    A call sends at most ``max_batch`` texts and ``max_request_tokens`` tokens in one request, and at most ``concurrency`` requests are
    under way at a time, whatever the number of threads. One request may take ``timeout`` seconds. It is made again, at most
    ``max_retries`` times and for ``retry_for`` seconds in all, if the server is busy, fails or cannot be reached. ``budget`` is how many
    tokens may be spent; ``usage`` says how many were. ``max_tokens`` is the longest text of a model that is not OpenAI's, and
    ``query_prompt`` and ``passage_prompt`` are what it wants to see before texts; those of OpenAI want nothing.

    Deadlines are obeyed. ``InvalidArgument`` for arguments that cannot work.
    """

    remote = True

    def __init__(
        self,
        model: str,
        *,
        dimensions: int | None = None,
        shorten: bool | None = None,
        base_url: str = BASE_URL,
        api_key: str | Callable[[], str | None] | None = None,
        max_tokens: int | None = None,
        query_prompt: str = "",
        passage_prompt: str = "",
        budget: int | None = None,
        timeout: float = 60.0,
        max_retries: int = 5,
        retry_for: float = 120.0,
        concurrency: int = 4,
        max_batch: int = 2_048,
        max_request_tokens: int = 300_000,
    ) -> None:
        if not model or not model.isprintable():
            raise InvalidArgument(f"{model!r:.80} cannot name a model")
        for name, number, least in (
            ("budget", 1 if budget is None else budget, 1),
            ("max_tokens", 1 if max_tokens is None else max_tokens, 1),
            ("max_retries", max_retries, 0),
            ("concurrency", concurrency, 1),
            ("max_batch", max_batch, 1),
            ("max_request_tokens", max_request_tokens, 1),
        ):
            if number < least:
                raise InvalidArgument(f"{name} is {number}; it must be at least {least}")
        for name, seconds in (("timeout", timeout), ("retry_for", retry_for)):
            if not (seconds > 0 and math.isfinite(seconds)):
                raise InvalidArgument(f"{name} is {seconds}; it must be a positive number of seconds")
        self._model = model
        self._base_url = check_base_url(base_url)
        # A function, so that the key is in no attribute.
        self._key: Callable[[], str | None] = (lambda: api_key) if isinstance(api_key, str | None) else api_key
        self._card, self._dimensions = make_card(
            model, dimensions, shorten, max_tokens=max_tokens, query_prompt=query_prompt, passage_prompt=passage_prompt
        )
        self._max_retries = max_retries
        self._retry_for = float(retry_for)
        self._concurrency = self.calls_at_once = concurrency
        self._endpoint = Endpoint(
            f"{self._base_url}/embeddings", bearer=self._bearer, timeout=float(timeout), concurrency=concurrency
        )
        self._max_batch = max_batch
        self._max_request_tokens = max_request_tokens
        self._ledger = Ledger(self._card.name, budget)
        #: Whether the server has answered a request, which proves its address, the key and the model's settings right.
        self._answered = False
        #: Waits so many seconds, or until the call is given up, which it then says.
        self._wait: Callable[[threading.Event, float], bool] = threading.Event.wait

    @classmethod
    def from_variant(
        cls,
        variant: str,
        *,
        base_url: str = BASE_URL,
        api_key: str | Callable[[], str | None] | None = None,
    ) -> OpenAIEmbedder:
        """``openai``, ``openai:text-embedding-3-large``, or ``openai:text-embedding-3-large@256`` for another dimension."""
        model, dimensions = split_variant(variant or DEFAULT_VARIANT)
        try:
            return cls(model, dimensions=dimensions, base_url=base_url, api_key=api_key)
        except InvalidArgument as error:
            raise ValueError(str(error)) from error

    def __repr__(self) -> str:
        return f"OpenAIEmbedder({self._card.name.removeprefix('openai:')!r}, base_url={self._base_url!r})"

    @property
    def card(self) -> ModelCard:
        return self._card

    @property
    def usage(self) -> Usage:
        """What this embedder has spent since it was made."""
        return self._ledger.usage

    def warm_up(self) -> None:
        """Embed one word: the server answers, takes the key, and gives vectors of the card's dimension. It costs a token or two."""
        self._ask(["likewise"], threading.Event())

    def close(self) -> None:
        """Close the connections, each when it is not in use any more. The embedder may be used again; it then connects anew."""
        self._endpoint.close()

    # --- texts ------------------------------------------------------------------------------------------------------------------

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts: float32 of shape (len(texts), dimension), rows in the order given.

        Raises ``InvalidArgument`` naming the position of what is not text, is empty, is too long, or is refused by the server;
        ``ModelUnreachable`` if the server does not answer, ``BudgetExceeded`` if the budget does not suffice, ``ModelNotAvailable`` if
        the server refuses the key, the model or the account, or gives what it should not; ``BackendTimeout`` at the deadline.
        """
        import numpy as np

        texts = list(check_texts(texts))
        least = self._check(texts)
        call = _Call(texts, np.empty((len(texts), self._card.dimension), np.float32))
        if not texts:
            return call.result
        self._ledger.check(least)
        batches = plan(texts, max_texts=self._max_batch, max_tokens=self._max_request_tokens)
        if len(batches) == 1:
            self._embed(call, batches[0])
            return call.result
        workers = min(self._concurrency, len(batches))
        with ThreadPoolExecutor(workers, thread_name_prefix="likewise-openai") as pool:
            try:
                for future in [pool.submit(copy_context().run, self._embed_or_stop, call, b) for b in batches]:
                    future.result()
            except BaseException:
                call.stop.set()
                raise
        return call.result

    def _check(self, texts: Sequence[str]) -> int:
        """The tokens that the texts have at least; ``InvalidArgument`` for one that the server would refuse in any case."""
        total = 0
        for position, text in enumerate(texts):
            if not text:
                raise InvalidArgument(
                    f"text {position} is empty; {self._card.name} embeds no empty texts: leave it out",
                    position=position,
                )
            least = least_tokens(text)
            if self._card.max_tokens is not None and least > self._card.max_tokens:
                raise InvalidArgument(
                    f"text {position} has {len(text):,} characters, which are at least {least:,} tokens; {self._card.name} takes at most "
                    f"{self._card.max_tokens:,}: cut it into parts",
                    position=position,
                )
            total += least
        return total

    def _embed_or_stop(self, call: _Call, batch: Batch) -> None:
        """In a thread of its own: the first failure stops the others, of which those before it may still tell of their own."""
        try:
            self._embed(call, batch)
        except _Stopped:
            return
        except BaseException:
            call.stop.set()
            raise

    def _embed(self, call: _Call, batch: Batch) -> None:
        """Fill in the vectors of a batch. One that is refused is cut in halves, down to the text that is to blame."""
        try:
            vectors = self._ask(call.texts[batch.start : batch.stop], call.stop, first=batch.start)
        except _Refused as refused:
            self._prove_settings(call.stop, refused)
            if batch.stop - batch.start > 1:
                for half in batch.halves(call.texts):
                    self._embed(call, half)
                return
            raise InvalidArgument(
                f"text {batch.start} is refused by {self._card.name} at {self._base_url}: {refused}; leave it out or change it",
                position=batch.start,
            ) from None
        call.result[batch.start : batch.stop] = vectors

    def _prove_settings(self, stop: threading.Event, refused: _Refused) -> None:
        """``ModelNotAvailable`` if the server refuses a plain word too: then no text is to blame."""
        if self._answered:
            return
        try:
            self._ask(["likewise"], stop)
        except _Refused:
            raise ModelNotAvailable(
                f"{self._base_url} refuses every request for {self._card.name}: {refused}; look at the model's name and its dimension",
                model=self._card.name,
            ) from None

    # --- requests ---------------------------------------------------------------------------------------------------------------

    def _ask(self, texts: Sequence[str], stop: threading.Event, *, first: int = 0) -> NDArray[np.float32]:
        """The vectors of the texts by one request, made again where that may help. ``first`` is the place of the first text in the call."""
        body = request_body(self._model, texts, dimensions=self._dimensions)
        most_bytes = 65_536 + len(texts) * (self._card.dimension * MOST_BYTES_PER_NUMBER + 1_024)
        tokens = sum(map(estimated_tokens, texts))
        started: float | None = None
        for attempt in itertools.count(1):
            check_deadline()
            asked: float | None = None
            cause: BaseException | None = None
            with self._ledger.reserved(tokens) as bill, self._endpoint.slot():
                if stop.is_set():
                    raise _Stopped
                started = time.monotonic() if started is None else started
                try:
                    answer = self._endpoint.post(body, most_bytes=most_bytes)
                    if answer.status == 200:
                        # It was answered, so it was paid for, whatever it says.
                        bill.spent = tokens
                        vectors, used = read_answer(answer.body, count=len(texts), dimension=self._card.dimension)
                        bill.spent = tokens if used is None else used
                        self._answered = True
                        return vectors
                    why = self._worth_another(answer)
                    asked = wait_asked(answer.headers, tokens=tokens, now=time.time())
                except Lost as lost:
                    why, cause = str(lost), lost.__cause__
                except Unusable as error:
                    raise self._failure(f"cannot be asked: {error}") from error
                except TooLarge as error:
                    raise self._failure(
                        f"gives what it should not: an answer of more than {most_bytes:,} bytes"
                    ) from error
                except MalformedAnswer as error:
                    what = "the answer" if error.row is None else f"the answer for text {first + error.row}"
                    raise self._failure(f"gives what it should not: {what}: {error}") from error
            self._pause(attempt, why, asked, started, stop, cause)
        raise AssertionError  # pragma: no cover

    def _worth_another(self, answer: Answer) -> str:
        """Why a request that was not answered may be made again; an error if it may not."""
        status, problem = answer.status, read_problem(answer.body, secret=self._secret())
        said = f": {problem.message}" if problem.message else ""
        if 300 <= status < 400:
            raise self._failure(
                f"redirects to {host_of(answer.headers.get('location', ''))}, which is not followed: give the address itself as base_url"
            )
        if problem.of_quota:
            raise self._failure("has no quota left for this account: look at its plan and billing")
        if status in (408, 409, 429) or status >= 500:
            return f"status {status}{said}"
        if status in (400, 413, 422) and not problem.of_settings:
            raise _Refused(problem.message or f"status {status}")
        if status == 401 and not self._secret():
            raise self._failure(NO_KEY)
        if status == 401:
            # What it says is not repeated: some repeat a part of the key.
            raise self._failure("refuses the key (status 401): look at api_key or OPENAI_API_KEY")
        if status == 403:
            raise self._failure(f"refuses access (status 403){said}; look at what the key and the account may do")
        if status == 404:
            raise self._failure(
                f"does not have it (status 404){said}; look at the model's name and at base_url, which often ends in /v1"
            )
        raise self._failure(f"refuses (status {status}){said}; look at the model's name, its dimension and base_url")

    def _secret(self) -> str:
        return (self._key() or "").strip()

    def _bearer(self) -> str:
        """The key, as a request begins that carries it."""
        key = self._secret()
        if not key and self._base_url == BASE_URL:
            raise self._failure(NO_KEY)
        if not (key.isascii() and key.isprintable()) or " " in key:
            raise self._failure("cannot be given the key, which has other signs than printable ASCII: look at api_key")
        self._ledger.count(requests=1)
        return key

    def _failure(self, what: str) -> ModelNotAvailable:
        return ModelNotAvailable(f"{self._base_url}, asked for {self._card.name}, {what}", model=self._card.name)

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
        name = self._card.name
        if attempt > self._max_retries or gone + seconds > self._retry_for:
            wish = "" if asked is None else f", and wants us to wait {asked:.3g} s"
            raise ModelUnreachable(
                f"{self._base_url}, asked for {name}, gave no vectors in {attempt} attempt{'s' if attempt > 1 else ''} and {gone:.3g} s "
                f"({why}){wish}; try again later, or allow more than max_retries={self._max_retries} and retry_for={self._retry_for:g}",
                model=name,
                attempts=attempt,
                retry_after=asked,
            ) from cause
        if left is not None and seconds >= left:
            raise BackendTimeout(
                f"the deadline leaves {left:.3g} s, and {name} is to be asked again in {seconds:.3g} s only ({why}): give it more time"
            ) from cause
        _log.info(
            "the embedding server is asked again",
            extra={"model": name, "attempt": attempt, "seconds": seconds, "reason": why},
        )
        if self._wait(stop, seconds):
            raise _Stopped
        self._ledger.count(retries=1)


@dataclass(frozen=True, slots=True)
class _Call:
    texts: list[str]
    result: NDArray[np.float32]
    stop: threading.Event = field(default_factory=threading.Event)


class _Refused(Exception):
    """The server finds fault with what it was sent; the text is its own."""


class _Stopped(Exception):
    """Another part of the call has failed, so this one is given up."""
