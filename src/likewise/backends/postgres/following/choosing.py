"""Follows a collection by the log where the server decodes it and the role may replicate, else by triggers. Which is known when it begins."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from likewise.abc.feeds import Commit, Feed, Payload, Position, Rows
from likewise.backends.postgres._table import Table
from likewise.backends.postgres.following._table import close, connect, look
from likewise.backends.postgres.following.log import LogFeed
from likewise.backends.postgres.following.triggers import TriggerFeed
from likewise.errors import CollectionNotFound, InvalidArgument

__all__ = ["AnyFeed"]


class AnyFeed(Feed):
    """The feed that is allowed. A copy of one kind cannot go on as one of the other: it begins anew."""

    def __init__(self, conninfo: str, table: Table, holds: frozenset[Payload], *, name: str | None = None) -> None:
        self._conninfo, self._table, self._holds = conninfo, table, holds
        self._log = LogFeed(conninfo, table, holds, name=name)
        self._triggers = TriggerFeed(conninfo, table, holds, name=name)
        self._chosen: LogFeed | TriggerFeed | None = None

    async def _choose(self) -> LogFeed | TriggerFeed:
        connection = await connect(self._conninfo, "likewise copy")
        try:
            facts = (await look(connection, self._table.schema, self._table.spec, self._holds)).facts
        finally:
            await close(connection)
        logged = facts["wal_level"] == "logical" and facts["may_replicate"] and facts["persistence"] == "p"
        return self._log if logged else self._triggers

    async def begin(self, after: Position | None) -> bool:
        await self.aclose()
        self._chosen = await self._choose()
        return await self._chosen.begin(after)

    @property
    def _begun(self) -> LogFeed | TriggerFeed:
        if self._chosen is None:
            raise InvalidArgument("begin() comes first")
        return self._chosen

    def snapshot(self) -> AsyncIterator[Rows]:
        return self._begun.snapshot()

    @property
    def position(self) -> Position:
        return self._begun.position

    def commits(self) -> AsyncIterator[Sequence[Commit]]:
        return self._begun.commits()

    async def kept(self, position: Position) -> None:
        await self._begun.kept(position)

    async def hurry(self) -> None:
        if self._chosen is not None:
            await self._chosen.hurry()

    def reached(self, position: Position, wanted: Position) -> bool:
        return (self._log if "/" in position else self._triggers).reached(position, wanted)

    async def forget(self) -> None:
        chosen = self._chosen
        if chosen is None:
            try:
                chosen = await self._choose()
            except CollectionNotFound:
                # A slot is what must not stay; notes of a table that is no more are deleted by the copies of others.
                chosen = self._log
        await chosen.forget()

    async def aclose(self) -> None:
        if self._chosen is not None:
            await self._chosen.aclose()
