"""Writing records: one statement for a few, COPY for many. The statements are in ``_statements``, the bytes in ``_copy``.

Many rows go straight into the table if it is empty and can be had alone, else into a temporary table, from which one statement moves them
in the order of their ids. Either way it is one transaction, and what is in memory at any time is a block of rows.
"""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import psycopg
from psycopg import AsyncConnection, errors, sql

from likewise._deadline import check_deadline
from likewise.abc.blocks import Block, join_blocks
from likewise.abc.digests import StoredVector
from likewise.backends.postgres import _statements as statements
from likewise.backends.postgres._copy import COPY_END, COPY_START, SeenIds, pack_block
from likewise.backends.postgres._indexing import most_known
from likewise.backends.postgres._rows import stored_vector
from likewise.backends.postgres._table import Table
from likewise.backends.postgres.connection_async import AsyncDatabase, Row, rows, run
from likewise.backends.postgres.indexing_async import build_again
from likewise.errors import BackendConflict, InvalidArgument, RecordExists
from likewise.records import LoadPhase, LoadProgress

__all__ = ["AsyncLoad", "check_claims"]

#: Up to this many rows (and this much text) are one INSERT.
FEW_ROWS = 500
_FEW_CHARACTERS = 8_000_000
#: Rows of a direct load whose id came before; more are written when so many are waiting.
_MOST_WAITING = 2_000
_PROGRESS_SECONDS = 0.1
_stages = itertools.count(1)


class _Claim:
    """A table that a call has alone while it draws records, as long as it does."""

    def __init__(self, database: AsyncDatabase, table: Table) -> None:
        self.source = database.source
        self.table = (table.schema, table.spec.name)


_claims: ContextVar[set[_Claim]] = ContextVar("likewise_claims")


def check_claims(database: AsyncDatabase, table: Table) -> None:
    """Refuse to write where the call that draws from this code has the table alone: the two would wait for each other."""
    for claim in _claims.get(()):
        if claim.source is database.source and claim.table == (table.schema, table.spec.name):
            raise InvalidArgument(
                f"the records that are being written to collection {table.spec.name!r} come from code that writes to it as well; "
                "draw them first, or write to it afterwards"
            )


@contextmanager
def _claimed(database: AsyncDatabase, table: Table) -> Iterator[None]:
    claim, outer = _Claim(database, table), _claims.get(None)
    claims = set(outer or ()) | {claim}
    token = _claims.set(claims)
    try:
        yield
    finally:
        # Tasks that were begun meanwhile keep the set.
        claims.discard(claim)
        _claims.reset(token)


class AsyncLoad:
    """One call that writes records.

    ``slow``: the blocks come from a model, so nobody is kept off the table while they are drawn. ``lazy``: they come from an iterable of
    the caller's, which may read from the collection meanwhile, so readers are not kept off. ``saving`` is a statement that ends the
    transaction; one that changes no row says that somebody else was there.
    """

    def __init__(
        self,
        database: AsyncDatabase,
        table: Table,
        *,
        replace: bool,
        slow: bool = False,
        lazy: bool = False,
        saving: statements.Statement | None = None,
        progress: Callable[[LoadProgress], None] | None = None,
    ) -> None:
        self._database = database
        self._table = table
        self._name = table.spec.name
        self._replace = replace
        self._slow = slow
        self._lazy = lazy
        self._saving = saving
        self._progress = progress
        self._rows = 0
        self._said = 0.0
        #: The connection of the transaction that writes, while it does.
        self._connection: AsyncConnection[Any] | None = None

    async def known(self, ids: list[str]) -> Mapping[str, StoredVector]:
        """What is stored of vectors that a model made: asked on the connection that writes, if there is one already."""
        statement = statements.embedded(self._table, ids)
        if self._connection is None:
            found = await self._database.fetch(statement, collection=self._name)
        else:
            found = await rows(self._connection, statement)
        element = self._table.element("")
        return {row["id"]: stored_vector(row, element) for row in found}

    async def run(self, blocks: AsyncIterator[Block]) -> int:
        """Write all of the blocks, or nothing; the number of ids written."""
        check_claims(self._database, self._table)
        first: list[Block] = []
        count = characters = 0
        async for block in blocks:
            first.append(block)
            count += len(block)
            characters += sum(map(len, block.metadata)) + sum(len(c) for c in block.content if c)
            if count > FEW_ROWS or characters > _FEW_CHARACTERS:
                break
        else:
            written = await self._write_few(join_blocks(first)) if first else await self._write_nothing()
            self._say("done", count, at_once=True)
            return written
        async with self._database.transaction(collection=self._name) as connection:
            self._connection = connection
            everything = _chain(first, blocks)
            indexes = None
            if self._database.source.private and not self._slow:
                indexes = await self._claim(connection)
            if indexes is not None:
                with _claimed(self._database, self._table):
                    written = await self._into_table(connection, everything, indexes)
            else:
                written = await self._by_stage(connection, everything)
            await self._save(connection)
        self._say("done", 0, at_once=True)
        return written

    async def _save(self, connection: AsyncConnection[Any]) -> None:
        if self._saving is not None and not await run(connection, self._saving):
            raise BackendConflict(
                f"another load into collection {self._name!r} goes on with the same token; nothing of this part was stored"
            )

    async def _write_nothing(self) -> int:
        if self._saving is not None:
            async with self._database.transaction(collection=self._name) as connection:
                await self._save(connection)
        return 0

    # --- a few ------------------------------------------------------------------------------------------------------------------

    async def _write_few(self, block: Block) -> int:
        """One statement writes the block: no staging needed."""
        places = {record_id: place for place, record_id in enumerate(block.ids)}
        unique = block if len(places) == len(block) else block.take(sorted(places.values()))
        statement = statements.write(self._table, unique, replace=self._replace)
        async with self._database.transaction(collection=self._name) as connection:
            counts = Counter(block.ids)
            twice = [] if self._replace else [record_id for record_id, times in counts.items() if times > 1]
            try:
                if not twice:
                    async with connection.transaction():
                        written = await run(connection, statement)
                    await self._save(connection)
                    return written
            except errors.UniqueViolation as error:
                known = await self._existing(connection, places)
                if not known:  # the other transaction's record is gone again
                    raise self._vanished(error) from error
            else:
                known = await self._existing(connection, places)
            raise RecordExists(sorted({*known, *twice}), collection=self._name)

    def _vanished(self, error: errors.UniqueViolation) -> BackendConflict:
        return BackendConflict(
            f"another transaction inserted the same id into collection {self._name!r} and removed it; retry",
            sqlstate=error.sqlstate,
        )

    async def _existing(self, connection: AsyncConnection[Any], ids: Iterable[str]) -> list[str]:
        return [row["id"] for row in await rows(connection, statements.existing_ids(self._table, list(ids)))]

    # --- many -------------------------------------------------------------------------------------------------------------------

    async def _claim(self, connection: AsyncConnection[Any]) -> Sequence[Row] | None:
        """Have the table alone until the end of the transaction, if it is empty and that can be had at once; None otherwise.

        Its vector indexes are dropped, for which readers are kept off too; they are returned.
        """
        indexes: Sequence[Row] | None = None
        try:
            async with connection.transaction():
                await connection.execute(statements.lock(self._table, readers=False))
                (found,) = await rows(connection, statements.may_copy(self._table))
                known = await rows(connection, statements.rebuildable(self._table))
                if not found["empty"] or (known and self._lazy):
                    raise psycopg.Rollback
                indexes = await self._drop(connection, known)
        except (errors.LockNotAvailable, errors.InsufficientPrivilege):
            return None
        return indexes

    async def _into_table(
        self, connection: AsyncConnection[Any], blocks: AsyncIterator[Block], indexes: Sequence[Row]
    ) -> int:
        """Copy into the empty table. A row whose id came before waits until the copy is done, and is then written as upserts are."""
        seen = SeenIds()
        copied = 0
        repeated_any = False
        more = True
        while more:
            waiting: list[Block] = []
            more = False
            cursor = connection.cursor()
            async with cursor.copy(statements.copy(self._table)) as copy:
                await copy.write(COPY_START)
                async for block in blocks:
                    check_deadline()
                    self._say("rows", len(block))
                    repeated = seen.repeated(block.ids)
                    if repeated:
                        repeated_any = True
                        waiting.append(block.take(repeated))
                        again = set(repeated)
                        block = block.take([i for i in range(len(block)) if i not in again])
                    if len(block):
                        await copy.write(pack_block(self._table, block))
                    if sum(map(len, waiting)) > _MOST_WAITING:
                        more = True
                        break
                await copy.write(COPY_END)
            copied += cursor.rowcount
            if waiting:
                stage = await self._stage(connection, _chain(waiting))
                await self._move(connection, stage)
        await self._build(connection, indexes)
        if not repeated_any:
            return copied
        found = await rows(connection, statements.count(self._table, None))
        return int(found[0]["count"])

    async def _by_stage(self, connection: AsyncConnection[Any], blocks: AsyncIterator[Block]) -> int:
        before = self._rows
        stage = await self._stage(connection, blocks, say=True)
        indexes: Sequence[Row] = ()
        if self._database.source.private:
            indexes = await self._drop_if_that_pays(connection, self._rows - before)
        written = await self._move(connection, stage)
        await self._build(connection, indexes)
        return written

    async def _stage(self, connection: AsyncConnection[Any], blocks: AsyncIterator[Block], *, say: bool = False) -> str:
        """A temporary table with the rows."""
        stage = f"likewise_stage_{next(_stages)}"
        for statement in statements.stage_table(self._table, stage):
            await run(connection, statement)
        if self._slow:
            # While a model embeds, no COPY goes on: what is stored already is looked up on this connection.
            async for block in blocks:
                await self._copy(connection, stage, _chain([block]), say=say)
        else:
            await self._copy(connection, stage, blocks, say=say)
        return stage

    async def _copy(
        self, connection: AsyncConnection[Any], stage: str, blocks: AsyncIterator[Block], *, say: bool
    ) -> None:
        async with connection.cursor().copy(statements.copy(self._table, stage=stage)) as copy:
            await copy.write(COPY_START)
            async for block in blocks:
                check_deadline()
                if say:
                    self._say("rows", len(block))
                await copy.write(pack_block(self._table, block))
            await copy.write(COPY_END)

    async def _move(self, connection: AsyncConnection[Any], stage: str) -> int:
        self._say("move", 0, at_once=True)
        try:
            async with connection.transaction():
                written = await run(connection, statements.move_staged(self._table, stage, replace=self._replace))
        except errors.UniqueViolation as error:
            found = await rows(connection, statements.staged_conflicts(self._table, stage))
            if not found:
                raise self._vanished(error) from error
            raise RecordExists([row["id"] for row in found], collection=self._name) from None
        await connection.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier("pg_temp", stage)))
        return written

    # --- indexes ----------------------------------------------------------------------------------------------------------------

    async def _drop_if_that_pays(self, connection: AsyncConnection[Any], new: int) -> Sequence[Row]:
        """Drop the vector indexes, if building them anew takes less time than inserting and the table can be had alone at once."""
        indexes = await rows(connection, statements.rebuildable(self._table))
        if not indexes:
            return ()
        most = most_known(new)
        (known,) = await rows(connection, statements.count_up_to(self._table, most + 1))
        if known["count"] > most:
            return ()
        try:
            async with connection.transaction():
                return await self._drop(connection, indexes)
        except (errors.LockNotAvailable, errors.InsufficientPrivilege):
            return ()

    async def _drop(self, connection: AsyncConnection[Any], indexes: Sequence[Row]) -> Sequence[Row]:
        """Drop indexes as they are once nobody else is at the table; those that were dropped."""
        if not indexes:
            return indexes
        await connection.execute(statements.lock(self._table, readers=True))
        # Somebody may have changed them before we had the lock.
        indexes = await rows(connection, statements.rebuildable(self._table))
        for index in indexes:
            await connection.execute(statements.drop_index(self._table, index["name"]))
        return indexes

    async def _build(self, connection: AsyncConnection[Any], indexes: Sequence[Row]) -> None:
        if indexes:
            # What is deferred to the end of the transaction, which is ours, must be done before an index can be built.
            await connection.execute("set constraints all immediate")
        for index in indexes:
            check_deadline()
            self._say("index", 0, at_once=True)
            rows_now = self._table.rows + self._rows
            await build_again(connection, self._table, index["name"], index["definition"], rows_now)

    def _say(self, phase: LoadPhase, added: int, *, at_once: bool = False) -> None:
        self._rows += added
        if self._progress is not None:
            now = time.monotonic()
            if at_once or now - self._said >= _PROGRESS_SECONDS:
                self._said = now
                self._progress(LoadProgress(phase, self._rows))


async def _chain(first: Iterable[Block], rest: AsyncIterator[Block] | None = None) -> AsyncIterator[Block]:
    for block in first:
        yield block
    if rest is not None:
        async for block in rest:
            yield block
