"""What a backend can do, as a value that callers can ask before they try."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Capabilities", "ServerInfo"]


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a backend can do. What it cannot raises ``UnsupportedFeature``, never something else."""

    backend: str
    #: The methods of vector index that ``ensure_indexes`` builds; without one every search is exact.
    vector_indexes: frozenset[Literal["hnsw", "ivfflat"]] = frozenset()
    #: ``ensure_indexes(metadata=…)``.
    metadata_indexes: bool = False
    #: ``store.transaction()``, ``collection.using(connection)``: records and other rows commit together.
    transactions: bool = False
    #: What is stored outlives the process.
    durable: bool = False


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """The database behind a store: its name, version, and the version of its vector extension."""

    backend: str
    version: str
    vector_extension: str | None = None
    warnings: tuple[str, ...] = ()
