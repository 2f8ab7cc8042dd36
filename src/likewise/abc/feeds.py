"""How a copy of a collection follows the database that holds it: a snapshot, then what is committed, in the order of the commits.

A backend whose collections can be followed makes a ``Feed``; a backend that keeps a copy in memory reads one. Neither knows the other.
A feed belongs to one task of one event loop and there is no synchronous twin: it is read where it does not hold up anybody. No driver enters this module.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Literal, NewType, Self, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Change", "Cleared", "Commit", "Feed", "Gone", "Payload", "Position", "Put", "Rows"]

#: A place in the history of a database, as text. What it looks like is the backend's affair; ``Feed.reached`` compares two of them.
Position = NewType("Position", str)

#: What a row has beside its id and its vectors. Metadata is JSON text in UTF-8, as the database has it.
Payload: TypeAlias = Literal["metadata", "content", "modality", "content_id"]


@dataclass(frozen=True, slots=True)
class Rows:
    """Some rows of a snapshot, by column: a row is the same place in each."""

    ids: Sequence[str]
    #: For each named vector (the empty name is the collection's own) an array of float32, shape (rows, dimension). Rows without it
    #: have zeros there, and are false in ``present``; a name that is not in ``present`` has no such rows.
    vectors: Mapping[str, NDArray[np.float32]]
    present: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)
    #: Those that were asked for.
    payload: Mapping[Payload, Sequence[bytes | None]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Put:
    """A row is there now, new or changed. What is left out of ``vectors`` and ``payload`` is as it was before."""

    id: str
    #: Of shape (dimension,), or None where the row has no such vector.
    vectors: Mapping[str, NDArray[np.float32] | None]
    payload: Mapping[Payload, bytes | None] = field(default_factory=dict)
    #: The id that it had before, if that has changed.
    was: str | None = None


@dataclass(frozen=True, slots=True)
class Gone:
    """The row with this id was deleted."""

    id: str


@dataclass(frozen=True, slots=True)
class Cleared:
    """Every row was deleted."""


Change: TypeAlias = Put | Gone | Cleared


@dataclass(frozen=True, slots=True)
class Commit:
    """What one or several transactions changed, and where the copy stands that has applied it: all of it, or none.

    Without changes only the position has moved on: until there nothing happened to the collection.
    """

    position: Position
    changes: Sequence[Change] = ()


class Feed(ABC):
    """What happens to one collection. An async context manager; ``begin`` comes first, then ``snapshot`` or not, then ``commits``.

    Raises ``BackendUnavailable`` from any of them when the connection is lost, ``CollectionNotFound`` when the collection is no more,
    ``SchemaMismatch`` when its vectors are no longer what they were: then a new feed begins at a snapshot.
    """

    @abstractmethod
    async def begin(self, after: Position | None) -> bool:
        """Connect. Whether what was committed after this position can still be told; if not, a snapshot has to be taken."""

    @abstractmethod
    def snapshot(self) -> AsyncIterator[Rows]:
        """Every row, as of one moment, in no order. ``commits`` then tells what was committed after that moment, and nothing else."""

    @property
    @abstractmethod
    def position(self) -> Position:
        """Where a copy stands that has taken the snapshot, or has been where ``begin`` was told."""

    @abstractmethod
    def commits(self) -> AsyncIterator[Sequence[Commit]]:
        """What is committed, as it comes, without end. A commit may be told again after ``begin``: putting is idempotent."""

    @abstractmethod
    async def kept(self, position: Position) -> None:
        """The copy is stored safely up to this position: what was before need never be told again."""

    @abstractmethod
    async def hurry(self) -> None:
        """Somebody waits: have ``commits`` tell soon how far the database is, even if nothing happens. May be called while it is read."""

    @abstractmethod
    def reached(self, position: Position, wanted: Position) -> bool:
        """Whether a copy that stands at ``position`` has all that was committed before somebody learnt ``wanted``. Pure; from any thread."""

    @abstractmethod
    async def forget(self) -> None:
        """Have the database keep nothing for this feed any longer. No copy can go on from a position of it then."""

    @abstractmethod
    async def aclose(self) -> None:
        """Let go of connections. May be called twice."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()
