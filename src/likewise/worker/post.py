"""The worker's own connection: what it stores for callers, the gate at which they wait, and what it says of itself. See ``sql/``.

The gate's other side is ``likewise.ask``: callers wait for the advisory lock whose number the sequence ``likewise.turn`` shows. The worker
that answers holds it; when it has stored vectors it takes the lock of the next number, advances the sequence, and lets go, so that
everybody who waited wakes at once, looks, and waits at the next gate if there was nothing for them. A worker that dies lets go too.
"""

from __future__ import annotations

import asyncio
import os
import platform
import uuid
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, Self

import numpy as np
from psycopg import AsyncConnection
from psycopg.conninfo import make_conninfo
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from likewise.abc.embedder import ModelCard
from likewise.backends.postgres._errors import translating
from likewise.backends.postgres._install import resource
from likewise.backends.postgres._parameters import own_sql
from likewise.backends.postgres._rows import pack_reals
from likewise.errors import BackendError
from likewise.worker._messages import Used
from likewise.worker._sql import statement
from likewise.worker.lanes import Answer, Refusal, identity_of
from likewise.worker.metrics import WorkerCounts

__all__ = ["Post", "check_rights"]

_LAST_GATE = 2_000_000_000
#: A machine that is gone says nothing; the server finds out by these, on connections over a network.
_KEEPALIVES = {"tcp_keepalives_idle": "2", "tcp_keepalives_interval": "1", "tcp_keepalives_count": "3"}
OLDEST_SERVER = 140_000
#: A worker that says nothing for so long, though it does so every few seconds, hangs: then the server ends its connection, and another takes over.
HUNG_SECONDS = 30.0


class Post:
    """One connection; statements go one at a time."""

    def __init__(self, connection: AsyncConnection[Any]) -> None:
        self._connection = connection
        self._turn = asyncio.Lock()
        self._gate = 0
        #: The server's version, such as 180004.
        self.version = 0

    @classmethod
    async def open(cls, conninfo: str) -> Self:
        """Connect, and see that the server and the database are set up for a worker.

        Raises:
            BackendUnavailable: the database does not answer.
            BackendError: it is a standby, or decodes nothing, or Likewise is not installed in it, or the role may not write Likewise's
                tables; the text has the cure.
        """
        with translating():
            connection = await AsyncConnection.connect(
                make_conninfo(conninfo, application_name="likewise worker", connect_timeout=10), autocommit=True
            )
        post = cls(connection)
        try:
            await post._check()
        except BaseException:
            await connection.close()
            raise
        return post

    async def _check(self) -> None:
        (server,) = await self.fetch("server")
        self.version = server["version"]
        if self.version < OLDEST_SERVER:
            raise BackendError(
                "a worker reads messages from the log, which PostgreSQL has from 14 on; this server is older"
            )
        if server["standby"]:
            raise BackendError("this server is a standby: a worker answers on the primary, or over dblink (--listen)")
        if server["wal_level"] != "logical":
            raise BackendError(
                f"a worker reads requests by logical decoding, and wal_level is {server['wal_level']}: set wal_level = logical and "
                "restart the server, or have requests go over dblink (likewise install --transport dblink)"
            )
        if not server["installed"]:
            raise BackendError("Likewise is not installed in this database: likewise install --database URL")
        for rights in await self.fetch("rights"):
            check_rights(**rights)
        if server["over_tcp"]:
            for name, value in _KEEPALIVES.items():
                await self._run("select pg_catalog.set_config(%s, %s, false)", (name, value))
        # What is lost in a crash of the server had callers that are gone too.
        await self._run("set synchronous_commit = off")

    async def _run(self, text: str, parameters: Sequence[Any] = ()) -> None:
        with translating():
            await self._connection.execute(own_sql(text), parameters)

    async def fetch(self, name: str, parameters: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """The rows of a statement of ours."""
        async with self._turn:
            with translating():
                cursor = self._connection.cursor(row_factory=dict_row)
                await cursor.execute(statement(name), parameters)
                return [] if cursor.description is None else await cursor.fetchall()

    async def be_there(self) -> None:
        """Be one of those who would answer, from now on for as long as this connection says something every few seconds."""
        await self._run(
            "select pg_catalog.set_config('idle_session_timeout', %s, false)", [f"{HUNG_SECONDS * 1000:.0f}ms"]
        )
        await self.fetch("be_there")

    async def try_to_lead(self) -> bool:
        """Become the one that answers, if nobody is; callers who wait see that somebody is there."""
        if not (await self.fetch("lead"))[0]["leads"]:
            return False
        self._gate = int((await self.fetch("gate_begin"))[0]["number"])
        return True

    async def store(self, answers: Sequence[Answer], refusals: Sequence[Refusal]) -> None:
        """Store vectors and errors, then wake all who wait: in one round trip."""
        following = self._gate + 1 if self._gate < _LAST_GATE else 1
        async with self._turn:
            with translating():
                async with self._connection.pipeline() as pipeline:
                    if answers:
                        await self._connection.execute(statement("answer"), _columns(answers))
                    if refusals:
                        await self._connection.execute(
                            statement("refuse"),
                            {
                                "requests": [r.request for r in refusals],
                                "states": [r.sqlstate for r in refusals],
                                "messages": [r.message for r in refusals],
                                "hints": [r.hint for r in refusals],
                            },
                        )
                    # Committed before the gate opens: who wakes looks at once.
                    await pipeline.sync()
                    cursor = self._connection.cursor(row_factory=dict_row)
                    await cursor.execute(statement("gate_open"), {"next": following, "gate": self._gate})
                    opened = await cursor.fetchone()
        if opened is None or opened["number"] != following:
            raise BackendError("somebody else has advanced the sequence likewise.turn, which only workers may")
        self._gate = following

    async def remembered(self, keys: Collection[tuple[str, bytes]]) -> set[tuple[str, bytes]]:
        """Which of these vectors are there already."""
        found = await self.fetch("present", {"models": [k[0] for k in keys], "queries": [k[1] for k in keys]})
        return {(row["model"], bytes(row["query"])) for row in found}

    async def offered(self) -> frozenset[str]:
        """The models of this database."""
        return frozenset(row["name"] for row in await self.fetch("models"))

    async def known_models(self) -> list[str]:
        """The names of which callers know what they stand for."""
        return [row["name"] for row in await self.fetch("models_known")]

    async def introduce(self, name: str, card: ModelCard) -> None:
        """Let callers know what a name stands for."""
        parameters = {"name": name, "identity": Jsonb(list(identity_of(card))), "modalities": list(card.modalities)}
        await self.fetch("model_put", parameters)

    async def note_used(self, used: Collection[Used]) -> None:
        """Keep what was used from being forgotten."""
        await self.fetch("used", {"models": [u.model for u in used], "queries": [u.query for u in used]})

    async def evict(self, most: int) -> None:
        """Forget what was not used for the longest time."""
        async with self._turn:
            with translating():
                await self._connection.execute(own_sql(resource("query_cache_evict.sql")), {"most": most})

    async def be_seen(self, number: uuid.UUID, started_at: datetime, counts: WorkerCounts, *, leads: bool) -> None:
        """Say that this worker is alive, and what it has done."""
        await self.fetch(
            "seen",
            {
                "id": number,
                "host": platform.node(),
                "process": os.getpid(),
                "version": version("likewise"),
                "started_at": started_at.astimezone(UTC),
                "leads": leads,
                "counts": Jsonb(counts.as_dict()),
            },
        )

    async def aclose(self) -> None:
        """Let go of the connection, and of every lock with it."""
        await self._connection.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


def check_rights(role: str, owner: str, closed: Sequence[str], *, enters: bool = True) -> None:
    """See that a role may do what a worker does, by the row of ``sql/rights.sql``; names are quoted as SQL has them.

    Raises:
        BackendError: it may not, with SQLSTATE 42501; the text says what, and the cure.
    """
    if enters and not closed:
        return
    what = f"tables ({', '.join(closed)})" if enters else "schema"
    raise BackendError(
        f"the role {role} may not use Likewise's {what}: start the worker as {owner}, the role that ran `likewise install`, or grant {role} "
        f"the rights, as {owner}: GRANT USAGE ON SCHEMA likewise TO {role}; GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA likewise "
        f"TO {role}; GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA likewise TO {role}",
        sqlstate="42501",
    )


def _columns(answers: Sequence[Answer]) -> dict[str, Any]:
    return {
        "models": [a.model for a in answers],
        "queries": [a.digest for a in answers],
        "dimensions": [len(a.vector) for a in answers],
        "numbers": pack_reals(np.concatenate([a.vector for a in answers])),
    }
