"""A part of the worker beside a program that does not wait: in a thread with an event loop of its own."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Protocol

__all__ = ["Part", "beside"]


class Part(Protocol):
    """What serves until it is told to stop."""

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until ``stop`` is set."""


@contextmanager
def beside(part: Part) -> Iterator[None]:
    """The part serves for the length of the block; then it finishes what it is at. What it raises is raised after the block."""
    started = threading.Event()
    stop: asyncio.Event | None = None
    loop: asyncio.AbstractEventLoop | None = None

    async def serve() -> None:
        nonlocal stop, loop
        stop, loop = asyncio.Event(), asyncio.get_running_loop()
        started.set()
        await part.run(stop)

    with ThreadPoolExecutor(1, thread_name_prefix="likewise-worker") as threads:
        serving = threads.submit(lambda: asyncio.run(serve()))
        started.wait()
        assert stop is not None
        assert loop is not None
        try:
            yield
        finally:
            with contextlib.suppress(RuntimeError):  # it may have ended by itself
                loop.call_soon_threadsafe(stop.set)
        serving.result()
