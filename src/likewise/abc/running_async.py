"""Runs what blocks (models, above all) without blocking an event loop: in a bounded executor of our own, never the default one."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import cache, partial
from typing import ParamSpec, TypeVar

__all__ = ["meanwhile", "run_blocking"]

P = ParamSpec("P")
T = TypeVar("T")


@cache
def _executor() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=2, thread_name_prefix="likewise-model")


async def run_blocking(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """The function's result, computed in Likewise's executor of two threads, in the caller's context."""
    context = contextvars.copy_context()
    call = partial(context.run, partial(function, *args, **kwargs))
    return await asyncio.get_running_loop().run_in_executor(_executor(), call)


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
