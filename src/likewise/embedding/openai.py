"""Models behind the embeddings API of OpenAI, or of any server that speaks the same protocol.

Here are threads and the budget. Requests and retries are ``_asking``'s; what is said, and what answers mean, is in ``_openai``. No environment
variable is read here for a key or an address; ``registry`` does that for ``openai:…``.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from likewise.abc.embedder import Embedder, ModelCard
from likewise.embedding._asking import BASE_URL, Refused, Server, Stopped
from likewise.embedding._openai import (
    Batch,
    check_base_url,
    estimated_tokens,
    least_tokens,
    make_card,
    plan,
    read_answer,
    request_body,
    split_variant,
)
from likewise.embedding._spending import Bill, Ledger, Usage
from likewise.embedding.texts import check_texts
from likewise.errors import (
    InvalidArgument,
    ModelNotAvailable,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["OpenAIEmbedder"]

DEFAULT_VARIANT = "text-embedding-3-small"
NO_KEY = "needs a key: give api_key, or set OPENAI_API_KEY where the model is loaded by its name"
#: A server may answer with indented JSON and sixteen digits a number; more than this for each number is not an answer.
MOST_BYTES_PER_NUMBER = 64


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
        self._card, self._dimensions = make_card(
            model, dimensions, shorten, max_tokens=max_tokens, query_prompt=query_prompt, passage_prompt=passage_prompt
        )
        self._concurrency = self.calls_at_once = concurrency
        self._max_batch = max_batch
        self._max_request_tokens = max_request_tokens
        self._ledger = ledger = Ledger(self._card.name, budget)
        self._server = Server(
            self._base_url,
            "/embeddings",
            name=self._card.name,
            gives="vectors",
            # A function, so that the key is in no attribute.
            key=(lambda: api_key) if isinstance(api_key, str | None) else api_key,
            no_key=NO_KEY,
            settings="the model's name, its dimension and base_url",
            timeout=float(timeout),
            max_retries=max_retries,
            retry_for=float(retry_for),
            concurrency=concurrency,
            counted=lambda: ledger.count(requests=1),
            again=lambda: ledger.count(retries=1),
        )
        #: Whether the server has answered a request, which proves its address, the key and the model's settings right.
        self._answered = False

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
        self._server.close()

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
        except Stopped:
            return
        except BaseException:
            call.stop.set()
            raise

    def _embed(self, call: _Call, batch: Batch) -> None:
        """Fill in the vectors of a batch. One that is refused is cut in halves, down to the text that is to blame."""
        try:
            vectors = self._ask(call.texts[batch.start : batch.stop], call.stop, first=batch.start)
        except Refused as refused:
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

    def _prove_settings(self, stop: threading.Event, refused: Refused) -> None:
        """``ModelNotAvailable`` if the server refuses a plain word too: then no text is to blame."""
        if self._answered:
            return
        try:
            self._ask(["likewise"], stop)
        except Refused:
            raise ModelNotAvailable(
                f"{self._base_url} refuses every request for {self._card.name}: {refused}; look at the model's name and its dimension",
                model=self._card.name,
            ) from None

    # --- requests ---------------------------------------------------------------------------------------------------------------

    def _ask(self, texts: Sequence[str], stop: threading.Event, *, first: int = 0) -> NDArray[np.float32]:
        """The vectors of the texts by one request, made again where that may help. ``first`` is the place of the first text in the call."""
        tokens = sum(map(estimated_tokens, texts))

        def read(body: bytes, bill: Bill) -> NDArray[np.float32]:
            # It was answered, so it was paid for, whatever it says.
            bill.spent = tokens
            vectors, used = read_answer(body, count=len(texts), dimension=self._card.dimension)
            bill.spent = tokens if used is None else used
            self._answered = True
            return vectors

        return self._server.ask(
            request_body(self._model, texts, dimensions=self._dimensions),
            most_bytes=65_536 + len(texts) * (self._card.dimension * MOST_BYTES_PER_NUMBER + 1_024),
            read=read,
            paying=lambda: self._ledger.reserved(tokens),
            tokens=tokens,
            stop=stop,
            first=first,
        )


@dataclass(frozen=True, slots=True)
class _Call:
    texts: list[str]
    result: NDArray[np.float32]
    stop: threading.Event = field(default_factory=threading.Event)
