"""What a ``faiss+…`` URL says of the replica, taken out of it; the rest is the URL of the database. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias, cast
from urllib.parse import unquote_plus

from likewise.abc.feeds import Payload
from likewise.errors import InvalidArgument

__all__ = ["PREFIX", "Follow", "ReplicaOptions", "split_url"]

#: How changes become known: from the write-ahead log, or noted by triggers.
Follow: TypeAlias = Literal["log", "triggers"]

#: How such a URL begins.
PREFIX = "faiss+"
_OWN = "replica_"
_HOLDS = ("metadata", "content")
_FOLLOWS = ("log", "triggers")
#: More than this nobody means.
_MOST_PATIENCE = 3600.0


@dataclass(frozen=True, slots=True)
class ReplicaOptions:
    """How replicas of a store's collections are kept."""

    #: A folder for their files, from which they go on after a restart. None: in memory only.
    path: Path | None = None
    #: What they hold of a row beside its id and vectors.
    hold: frozenset[Payload] = frozenset({"metadata"})
    #: None: the log where it may be read, else triggers.
    follow: Follow | None = None
    #: Seconds that a read waits for the replica before the database answers.
    patience: float = 1.0


def split_url(url: str) -> tuple[str, ReplicaOptions]:
    """The URL of the database, and what the ``faiss+`` URL says of the replica beside; ``InvalidArgument`` for what it cannot say."""
    head, question, query = url[len(PREFIX) :].partition("?")
    if not head.lower().startswith(("postgresql:", "postgres:", "embedded:")):
        raise InvalidArgument(
            "a replica needs a database of record: faiss+postgresql://user@host/database or faiss+embedded:///path"
        )
    theirs: list[str] = []
    ours: dict[str, str] = {}
    for part in query.split("&") if question else ():
        name, _, value = part.partition("=")
        if unquote_plus(name).startswith(_OWN):
            ours[unquote_plus(name)] = unquote_plus(value)
        else:
            theirs.append(part)
    options = ReplicaOptions(
        path=_path(ours.pop("replica_path", None)),
        hold=_hold(ours.pop("replica_hold", "metadata")),
        follow=_follow(ours.pop("replica_follow", None)),
        patience=_patience(ours.pop("replica_patience", "1")),
    )
    if ours:
        raise InvalidArgument(
            f"a faiss+ URL knows no {next(iter(ours))[:40]!r}; it knows replica_path, replica_hold, replica_follow and replica_patience"
        )
    return head + (f"?{'&'.join(theirs)}" if theirs else ""), options


def _path(text: str | None) -> Path | None:
    if text is None:
        return None
    if not text or "\0" in text:
        raise InvalidArgument("replica_path is empty; it must be a folder, such as replica_path=/var/lib/app/replica")
    return Path(text).expanduser().absolute()


def _hold(text: str) -> frozenset[Payload]:
    names = [] if text in ("", "none") else text.split(",")
    for name in names:
        if name not in _HOLDS:
            raise InvalidArgument(
                f"replica_hold names {name[:40]!r}; it must be a list of some of: {', '.join(_HOLDS)}; or none"
            )
    return frozenset(cast("list[Payload]", names))


def _follow(text: str | None) -> Follow | None:
    if text is not None and text not in _FOLLOWS:
        raise InvalidArgument(f"replica_follow is {text[:40]!r}; it must be one of: {', '.join(_FOLLOWS)}")
    return cast("Follow | None", text)


def _patience(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds <= _MOST_PATIENCE:
        raise InvalidArgument(
            f"replica_patience is {text[:40]!r}; it must be a number of seconds from 0 to {_MOST_PATIENCE:,.0f}"
        )
    return seconds
