"""The synchronous twin of ``running_async``: a caller that may block simply calls."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from contextlib import contextmanager
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from likewise.abc.batching import Batcher

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["meanwhile", "run_apart", "run_blocking", "run_together", "waited"]

P = ParamSpec("P")
T = TypeVar("T")


def run_blocking(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """The function's result, computed here and now."""
    return function(*args, **kwargs)


def run_apart(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """The function's result."""
    return function(*args, **kwargs)


def run_together(
    batcher: Batcher, embed: Callable[[Sequence[str]], NDArray[np.float32]], texts: Sequence[str]
) -> NDArray[np.float32]:
    """The rows of the texts, embedded together with those of others who ask meanwhile; ``BackendTimeout`` when the deadline passes."""
    return batcher.call(embed, texts)


def waited(future: Future[None], seconds: float) -> bool:
    """Whether what another thread does was done within so many seconds; raises what it failed with."""
    if not wait([future], seconds).done:
        return False
    future.result()
    return True


@contextmanager
def meanwhile(look: Callable[[], None], seconds: float) -> Iterator[None]:
    """Calls ``look`` every so many seconds while the block runs, in a thread; what it raises ends it, and is raised after the block."""
    stop = threading.Event()
    raised: list[BaseException] = []

    def again() -> None:
        try:
            while not stop.wait(seconds):
                look()
        except BaseException as error:  # noqa: BLE001 -- raised again below
            raised.append(error)

    thread = threading.Thread(target=contextvars.copy_context().run, args=(again,), daemon=True, name="likewise-look")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    if raised:
        raise raised[0]
