"""The backend in memory: exact, obvious, gone with the process. It is the specification that the other backends are compared with."""

from likewise.backends.memory.store import MemoryStore
from likewise.backends.memory.store_async import AsyncMemoryStore

__all__ = ["AsyncMemoryStore", "MemoryStore"]
