"""Runs what blocks (models, above all) without blocking an event loop: in a bounded executor of our own, never the default one."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from likewise._deadline import remaining
from likewise.abc.batching import Batcher, model_threads
from likewise.errors import BackendTimeout

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["meanwhile", "run_apart", "run_blocking", "run_together", "waited"]

P = ParamSpec("P")
T = TypeVar("T")


async def run_blocking(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """The function's result, computed in Likewise's executor of two threads, in the caller's context."""
    context = contextvars.copy_context()
    call = partial(context.run, partial(function, *args, **kwargs))
    return await asyncio.get_running_loop().run_in_executor(model_threads(), call)


async def run_apart(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """The function's result, computed in a thread of its own: for what waits for Likewise's threads itself."""
    executor = ThreadPoolExecutor(1, thread_name_prefix="likewise-apart")
    try:
        return await asyncio.get_running_loop().run_in_executor(executor, partial(function, *args, **kwargs))
    finally:
        executor.shutdown(wait=False)


async def run_together(
    batcher: Batcher, embed: Callable[[Sequence[str]], NDArray[np.float32]], texts: Sequence[str]
) -> NDArray[np.float32]:
    """The rows of the texts, embedded together with those of others who ask meanwhile; ``BackendTimeout`` when the deadline passes."""
    left = remaining()
    rows = asyncio.wrap_future(batcher.start(embed, texts))
    try:
        async with asyncio.timeout(left):
            return await rows
    except TimeoutError as error:
        if isinstance(error, BackendTimeout) or not rows.cancelled():
            raise
        raise BackendTimeout(f"the deadline passed while texts were embedded: {left:.3g} s") from None


async def waited(future: Future[None], seconds: float) -> bool:
    """Whether what another thread does was done within so many seconds; raises what it failed with."""
    done = asyncio.wrap_future(future)
    await asyncio.wait([done], timeout=seconds)
    if not done.done():
        done.cancel()
        return False
    done.result()
    return True


@asynccontextmanager
async def meanwhile(look: Callable[[], Awaitable[None]], seconds: float) -> AsyncIterator[None]:
    """Calls ``look`` every so many seconds while the block runs; what it raises ends it, and is raised after the block."""

    async def again() -> None:
        while True:
            await asyncio.sleep(seconds)
            await look()

    task = asyncio.create_task(again())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
    with contextlib.suppress(asyncio.CancelledError):
        task.result()
