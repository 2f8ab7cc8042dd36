"""Whether a replica is what the database has: row by row, while both go on.

What differs may be on its way: a row was changed between the moment it was read in the database and the moment it was looked at here. So what
differs is read again, between two looks at the replica with the database's newest position reached before the second: if the replica
did not change and the row still is another one, they differ. That must be so more than once, a little apart: a commit is in the log
shortly before other sessions of the database see it, so that a replica can know it first.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from likewise.abc.feeds import Payload, Position
from likewise.abc.stores_async import AsyncCollection
from likewise.abc.validation import chunks
from likewise.records import IncludeField, Record

if TYPE_CHECKING:
    from likewise.backends.faiss.image import Image

__all__ = ["VerifyReport", "verify"]

_PAGE = 2_000
#: How often what differs is looked at again, how many times it must differ with nothing changing, and the seconds between looks.
_LOOKS, _SURE, _APART = 30, 4, 0.05
#: How many ids are named.
_NAMED = 20


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What a comparison found."""

    #: Rows of the database that were compared, and rows that the replica has.
    rows: int
    replica_rows: int
    #: How many are there in one of them only, or are not the same; some of their ids.
    missing: int
    extra: int
    different: int
    ids: tuple[str, ...]
    #: How many changed so often that it could not be told.
    undecided: int
    position: Position | None
    seconds: float

    @property
    def sound(self) -> bool:
        """Whether no row differs."""
        return not (self.missing or self.extra or self.different)


async def verify(
    inner: AsyncCollection, holds: frozenset[Payload], caught_up: Callable[[], Awaitable[Image]]
) -> VerifyReport:
    """Compare all rows. ``caught_up`` gives the image once it has all that was committed before the call."""
    began = time.monotonic()
    # What is on its way: told apart from what is wrong.
    include = _included(holds)
    image = await caught_up()
    seen: set[str] = set()
    doubtful: dict[str, int] = {}
    cursor: str | None = None
    while True:
        page = await inner.scan(limit=_PAGE, cursor=cursor, include=include)
        here = _looked_up(image, (record.id for record in page), include)
        for record in page:
            seen.add(record.id)
            if here.get(record.id) != record:
                doubtful[record.id] = 0
        cursor = page.cursor
        if cursor is None:
            break
    image = await caught_up()
    doubtful.update((i, 0) for i in image.every_id() if i not in seen)
    wrong: dict[str, str] = {}
    for _ in range(_LOOKS):
        if not doubtful:
            break
        await asyncio.sleep(_APART)
        for ids in chunks(sorted(doubtful), _PAGE):
            before = _looked_up(image, ids, include)
            there = {record.id: record for record in await inner.get_many(ids, include=include)}
            image = await caught_up()
            after = _looked_up(image, ids, include)
            for each in ids:
                mine, theirs = after.get(each), there.get(each)
                doubtful[each] += 1
                if mine == theirs:
                    del doubtful[each]
                elif mine != before.get(each):
                    doubtful[each] = 0
                elif doubtful[each] == _SURE:
                    del doubtful[each]
                    wrong[each] = "missing" if mine is None else "extra" if theirs is None else "different"
    kinds = list(wrong.values())
    return VerifyReport(
        rows=len(seen),
        replica_rows=len(image),
        missing=kinds.count("missing"),
        extra=kinds.count("extra"),
        different=kinds.count("different"),
        ids=tuple(sorted(wrong)[:_NAMED]),
        undecided=len(doubtful),
        position=image.position,
        seconds=time.monotonic() - began,
    )


def _included(holds: frozenset[Payload]) -> tuple[IncludeField, ...]:
    """What of a record can be compared."""
    fields: list[IncludeField] = ["vector"]
    if "metadata" in holds:
        fields.append("metadata")
    if "content" in holds:
        fields.append("content")
    return tuple(fields)


def _looked_up(image: Image, ids: Iterable[str], include: tuple[IncludeField, ...]) -> dict[str, Record]:
    return {record.id: record for record in image.records(image.find(ids), include)}
