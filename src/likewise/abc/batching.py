"""Embeds together what many callers ask one embedder for at the same time.

A model answers sixteen texts in less than sixteen times the time of one, and many calls of a local model at once only take the
processors from each other. So few calls are made at a time: who finds the model free is answered at once, and what comes while it is
busy goes into the next call together. Nobody waits for company.
"""

from __future__ import annotations

import contextvars
import itertools
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

from likewise._deadline import ends_at, remaining, until
from likewise.abc.embedder import Embedder
from likewise.errors import BackendTimeout, BudgetExceeded, InvalidArgument, LikewiseError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["MOST_TEXTS", "Batcher", "model_threads", "passages_of", "queries_of"]

#: How many texts go together into one call; a caller with more of them goes alone.
MOST_TEXTS = 32

E = TypeVar("E", bound=BaseException)


class Caller:
    """What one caller asks for, in the caller's context; the future gives it rows of its own, or an error of its own."""

    __slots__ = ("context", "embed", "ends_at", "future", "texts")

    def __init__(self, embed: Callable[[Sequence[str]], NDArray[np.float32]], texts: Sequence[str]) -> None:
        self.embed = embed
        self.texts = texts
        self.context = contextvars.copy_context()
        self.ends_at = ends_at()
        self.future: Future[NDArray[np.float32]] = Future()


class Batcher:
    """The callers of one method of one embedder; safe to use from several threads and event loops.

    At most ``calls`` calls are under way, and what waits goes together, up to ``most`` texts in a call. A joint call is made in the context of
    its first caller, and may take as long as the deadline of the last one. If it fails for what may be the fault of one input, its
    halves are tried apart, so that each caller gets the error, or the rows, of its own texts.
    """

    def __init__(self, calls: int = 1, most: int = MOST_TEXTS) -> None:
        self._calls = calls
        self._most = most
        self._lock = threading.Lock()
        self._under_way = 0
        self._waiting: deque[Caller] = deque()

    def start(
        self, embed: Callable[[Sequence[str]], NDArray[np.float32]], texts: Sequence[str]
    ) -> Future[NDArray[np.float32]]:
        """The rows of the texts, when they are there; embedded in Likewise's threads for models. Cancelling it disturbs nobody else."""
        caller = Caller(embed, texts)
        with self._lock:
            self._waiting.append(caller)
            if self._under_way >= self._calls:
                return caller.future
            self._under_way += 1
        self._hand_over()
        return caller.future

    def call(self, embed: Callable[[Sequence[str]], NDArray[np.float32]], texts: Sequence[str]) -> NDArray[np.float32]:
        """The rows of the texts, embedded here and now if the model is idle. ``BackendTimeout`` if the deadline passes while waiting."""
        if _in_a_model_thread():
            return embed(texts)  # The threads may all be taken by callers that wait for this one.
        caller: Caller | None = None
        with self._lock:
            if self._under_way < self._calls and not self._waiting:
                self._under_way += 1
            else:
                caller = Caller(embed, texts)
                self._waiting.append(caller)
        if caller is None:
            try:
                # A copy, before somebody else's turn: a model may use its array again.
                return embed(texts).copy()
            finally:
                self._next()
        try:
            left = remaining()
            wait([caller.future], timeout=left)
            if not caller.future.done():
                raise BackendTimeout(f"the deadline passed while the model was busy with other texts: {left:.3g} s")
            return caller.future.result()
        finally:
            caller.future.cancel()

    def _next(self) -> None:
        """A call has ended: begin another one if somebody waits."""
        with self._lock:
            if not self._waiting:
                self._under_way -= 1
                return
        self._hand_over()

    def _hand_over(self) -> None:
        """Have the next call made in a thread for models."""
        try:
            model_threads().submit(self._work)
        except RuntimeError as error:  # The interpreter is on its way out.
            with self._lock:
                left, self._waiting = list(self._waiting), deque()
                self._under_way -= 1
            _answer([each for each in left if each.future.set_running_or_notify_cancel()], error)

    def _work(self) -> None:
        try:
            callers = self._take()
            if callers:
                self._embed(callers)
        finally:
            self._next()

    def _take(self) -> list[Caller]:
        """Who is next: the one that has waited longest, and those after it as far as they fit into the call."""
        taken: list[Caller] = []
        texts = 0
        with self._lock:
            while self._waiting:
                caller = self._waiting[0]
                if taken and texts + len(caller.texts) > self._most:
                    break
                self._waiting.popleft()
                # One that was given up while it waited is left out.
                if caller.future.set_running_or_notify_cancel():
                    taken.append(caller)
                    texts += len(caller.texts)
        return taken

    def _embed(self, callers: list[Caller]) -> None:
        first = callers[0]
        try:
            if len(callers) == 1:
                first.future.set_result(first.context.run(first.embed, first.texts).copy())
                return
            texts = list(itertools.chain.from_iterable(each.texts for each in callers))
            ends = [each.ends_at for each in callers]
            latest = None if None in ends else max(end for end in ends if end is not None)
            rows = first.context.copy().run(_within, latest, first.embed, texts)
            if len(rows) != len(texts):
                # The rows cannot be told apart. Asked alone, each caller is given what the model gives.
                raise InvalidArgument(f"{len(rows)} rows for {len(texts)} texts")
        except BaseException as error:  # noqa: BLE001 -- each caller is given it
            if len(callers) == 1 or not _of_the_input(error):
                _answer(callers, error)
                return
            middle = len(callers) // 2
            self._embed(callers[:middle])
            self._embed(callers[middle:])
            return
        place = 0
        for each in callers:
            each.future.set_result(rows[place : place + len(each.texts)].copy())
            place += len(each.texts)


def _within(
    latest: float | None, embed: Callable[[Sequence[str]], NDArray[np.float32]], texts: Sequence[str]
) -> NDArray[np.float32]:
    with until(latest):
        return embed(texts)


def _of_the_input(error: BaseException) -> bool:
    """Whether one caller's texts may be at fault, so that the others', or fewer, might do."""
    if isinstance(error, LikewiseError):
        return isinstance(error, InvalidArgument | BudgetExceeded)
    return isinstance(error, Exception)


def _answer(callers: Sequence[Caller], error: BaseException) -> None:
    """Give each caller the error, the first one itself and each other a copy, since raising it writes into it."""
    for place, caller in enumerate(callers):
        caller.future.set_exception(error if place == 0 else _copy(error))


def _copy(error: E) -> E:
    if not isinstance(error, LikewiseError):
        return error  # Of a foreign class it is not known how.
    made: E = type(error).__new__(type(error), *error.args)
    made.args = error.args
    made.__dict__.update(error.__dict__)
    made.__cause__, made.__context__ = error.__cause__, error.__context__
    made.__suppress_context__ = error.__suppress_context__
    return made


# The threads, and who has which batcher.

_place = threading.local()


def _mark() -> None:
    _place.for_models = True


def _in_a_model_thread() -> bool:
    return getattr(_place, "for_models", False)


@cache
def model_threads() -> ThreadPoolExecutor:
    """Likewise's two threads for models."""
    return ThreadPoolExecutor(max_workers=2, thread_name_prefix="likewise-model", initializer=_mark)


_lock = threading.Lock()
#: By the embedder's identity, for an embedder need not be hashable: of queries, and of passages.
_batchers: dict[int, tuple[Batcher, Batcher]] = {}


def queries_of(embedder: Embedder) -> Batcher:
    """Of those who embed queries by this embedder, whatever their collections; it goes when the embedder does."""
    return _of(embedder)[0]


def passages_of(embedder: Embedder) -> Batcher:
    """The same of those who embed a few passages."""
    return _of(embedder)[1]


def _of(embedder: Embedder) -> tuple[Batcher, Batcher]:
    key = id(embedder)
    with _lock:
        if key not in _batchers:
            calls = max(1, embedder.calls_at_once)
            _batchers[key] = Batcher(calls), Batcher(calls)
            weakref.finalize(embedder, _batchers.pop, key, None).atexit = False
        return _batchers[key]


def _after_fork() -> None:
    """A child has none of its parent's threads, and nobody of its own that waits."""
    global _lock
    _lock = threading.Lock()
    _batchers.clear()
    model_threads.cache_clear()
    _place.__dict__.clear()


_register: Callable[..., Any] | None = getattr(os, "register_at_fork", None)
if _register is not None:
    _register(after_in_child=_after_fork)
