"""A copy as simple as can be, kept by a feed, and what it should be."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import psycopg
from psycopg import sql

import likewise
from likewise import AsyncCollection, AsyncVectorStore, CollectionSpec
from likewise.abc.feeds import Change, Cleared, Commit, Feed, Gone, Payload, Position, Put, Rows
from likewise.schema import VectorField

How = Literal["log", "triggers"]
ALL: frozenset[Payload] = frozenset({"metadata", "content"})
SPEC = CollectionSpec("things", dimension=3, vectors={"title": VectorField(2, storage="halfvec")})
SECONDS = 40.0

#: A row of a copy: its vectors as lists, and its payload.
Held = dict[str, Any]


@dataclass
class Copy:
    """Rows by id, as a feed has told them."""

    feed: Feed
    rows: dict[str, Held] = field(default_factory=dict)
    position: Position = field(default_factory=lambda: Position(""))
    commits: list[Commit] = field(default_factory=list)
    moved: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None

    def fill(self, rows: Rows) -> None:
        """Take a part of the snapshot."""
        for n, id_ in enumerate(rows.ids):
            assert id_ not in self.rows, "a snapshot has each row once"
            held: Held = {}
            for name, vectors in rows.vectors.items():
                there = rows.present.get(name)
                if there is not None and not there[n]:
                    assert not vectors[n].any()
                assert vectors.dtype == np.float32
                held[f"vector {name}"] = vectors[n].tolist() if there is None or there[n] else None
            for part, values in rows.payload.items():
                held[part] = values[n]
            self.rows[id_] = held

    def apply(self, commit: Commit) -> None:
        """Do what a commit did."""
        for change in commit.changes:
            self._change(change)
        self.position = commit.position
        self.commits.append(commit)

    def _change(self, change: Change) -> None:
        match change:
            case Put(id=id_, vectors=vectors, payload=payload, was=was):
                before = self.rows.pop(was, {}) if was is not None else self.rows.get(id_, {})
                told: Held = {f"vector {n}": None if v is None else v.tolist() for n, v in vectors.items()}
                told |= {str(part): value for part, value in payload.items()}
                self.rows[id_] = before | told
                assert len(self.rows[id_]) == 4, "what is left out was there before"
            case Gone(id=id_):
                self.rows.pop(id_, None)
            case Cleared():
                self.rows.clear()

    async def read(self) -> None:
        """Apply what comes, until the feed ends."""
        async for commits in self.feed.commits():
            for commit in commits:
                self.apply(commit)
            self.moved.set()

    async def at(self, position: Position) -> Copy:
        """The copy when it has reached a position."""
        await self.feed.hurry()
        async with asyncio.timeout(SECONDS):
            while not self.feed.reached(self.position, position):
                assert self.task is not None
                if self.task.done():
                    await self.task
                self.moved.clear()
                moving = asyncio.create_task(self.moved.wait())
                await asyncio.wait([moving, self.task], return_when=asyncio.FIRST_COMPLETED)
                moving.cancel()
        return self

    async def fails(self) -> BaseException:
        """The error that ends the feed."""
        assert self.task is not None
        await asyncio.wait([self.task], timeout=SECONDS)
        assert self.task.done(), "the feed goes on"
        error = self.task.exception()
        assert error is not None
        return error


@asynccontextmanager
async def following(
    collection: AsyncCollection,
    how: How,
    *,
    name: str | None = None,
    holds: frozenset[Payload] = ALL,
    of: Copy | None = None,
    resumes: bool = False,
) -> AsyncIterator[Copy]:
    """A copy that follows while the block runs. ``of``: go on with that one, ``resumes`` says whether that must work."""
    feed = collection._feed(holds, name=name, how=how)
    async with feed:
        assert await feed.begin(None if of is None else of.position) is resumes
        copy = Copy(feed)
        copy.position = feed.position
        if resumes:
            assert of is not None
            copy.rows = of.rows
        else:
            async for rows in feed.snapshot():
                copy.fill(rows)
        copy.task = asyncio.create_task(copy.read())
        try:
            yield copy
        finally:
            copy.task.cancel()
            with contextlib.suppress(asyncio.CancelledError, likewise.LikewiseError):
                await copy.task


@asynccontextmanager
async def opened(url: str, spec: CollectionSpec = SPEC) -> AsyncIterator[AsyncCollection]:
    """The collection of a store that is open while the block runs."""
    async with await likewise.connect_async(url) as store:
        yield await store.ensure_collection(spec)


@asynccontextmanager
async def opened_store(url: str) -> AsyncIterator[AsyncVectorStore]:
    """A store with the collection in it."""
    async with await likewise.connect_async(url) as store:
        await store.ensure_collection(SPEC)
        yield store


def stored(url: str, table: str = "things", parts: Sequence[str] = ("metadata", "content")) -> dict[str, Held]:
    """What the table has, as a copy should have it."""
    with psycopg.connect(url) as connection:
        found = connection.execute(
            sql.SQL("select id, vector::text, vector_title::text, metadata::text, content from {}").format(
                sql.Identifier(table)
            )
        ).fetchall()
    rows = {}
    for id_, vector, title, metadata, content in found:
        held: Held = {"vector ": numbers(vector), "vector title": numbers(title)}
        held |= {"metadata": metadata.encode(), "content": None if content is None else content.encode()}
        rows[id_] = {k: v for k, v in held.items() if k.startswith("vector") or k in parts}
    return rows


def numbers(text: str | None) -> list[float] | None:
    """A vector that the server has printed, as float32."""
    return None if text is None else np.array(text.strip("[]").split(","), np.float32).tolist()


def run(url: str, *statements: str, parameters: Mapping[str, Any] | None = None) -> None:
    """Run statements, each a transaction of its own."""
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement, parameters)
