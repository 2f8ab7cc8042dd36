"""How a copy of a collection follows its table: by the write-ahead log (``log``), or by triggers that note what changed (``triggers``)."""

from __future__ import annotations

from typing import Literal

from likewise.abc.feeds import Feed, Payload
from likewise.backends.postgres._table import Table
from likewise.backends.postgres.following.choosing import AnyFeed
from likewise.backends.postgres.following.log import LogFeed
from likewise.backends.postgres.following.triggers import TriggerFeed
from likewise.errors import InvalidArgument, UnsupportedFeature

__all__ = ["open_feed"]


def open_feed(
    conninfo: str | None,
    table: Table,
    holds: frozenset[Payload],
    name: str | None,
    how: Literal["log", "triggers"] | None,
) -> Feed:
    """The feed of a table; it connects when it begins. ``how`` None: by the log where the server allows it, else by triggers."""
    if conninfo is None:
        raise UnsupportedFeature(
            "following a collection over connections that were lent",
            backend="postgres",
            hint="a feed has connections of its own: open the store by a connection string",
        )
    if how not in (None, "log", "triggers"):
        raise InvalidArgument(f"how is {how!r:.80}; it must be 'log', 'triggers' or None")
    if how == "log":
        return LogFeed(conninfo, table, holds, name=name)
    if how == "triggers":
        return TriggerFeed(conninfo, table, holds, name=name)
    return AnyFeed(conninfo, table, holds, name=name)
