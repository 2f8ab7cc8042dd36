"""Writing records: one statement for a few, COPY for many. The statements are in ``_statements``, the bytes in ``_copy``.

Many rows go straight into the table if it is empty and can be had alone, else into a temporary table, from which one statement moves them
in the order of their ids. Either way it is one transaction, and what is in memory at any time is a block of rows.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Any

import psycopg
from psycopg import AsyncConnection, errors, sql

from likewise._deadline import check_deadline
from likewise.abc.blocks import Block, join_blocks
from likewise.backends.postgres import _statements as statements
from likewise.backends.postgres._copy import COPY_END, COPY_START, SeenIds, pack_block
from likewise.backends.postgres._indexing import rebuild_pays, vector_indexes
from likewise.backends.postgres._parameters import own_sql
from likewise.backends.postgres._table import Table, TableIndex
from likewise.backends.postgres.connection_async import AsyncDatabase, rows, run
from likewise.errors import BackendConflict, RecordExists
from likewise.records import LoadPhase, LoadProgress

__all__ = ["AsyncLoad"]

_log = logging.getLogger("likewise.postgres")

#: Up to this many rows (and this much text) are one INSERT.
FEW_ROWS = 500
_FEW_CHARACTERS = 8_000_000
#: Rows of a direct load whose id came before; more are written when so many are waiting.
_MOST_WAITING = 2_000
_PROGRESS_SECONDS = 0.1
_stages = itertools.count(1)


class AsyncLoad:
    """One call that writes records."""

    def __init__(
        self,
        database: AsyncDatabase,
        table: Table,
        *,
        replace: bool,
        slow: bool = False,
        progress: Callable[[LoadProgress], None] | None = None,
    ) -> None:
        self._database = database
        self._table = table
        self._name = table.spec.name
        self._replace = replace
        self._slow = slow
        self._progress = progress
        self._rows = 0
        self._said = 0.0

    async def run(self, blocks: AsyncIterator[Block]) -> int:
        """Write all of the blocks, or nothing; the number of ids written."""
        first: list[Block] = []
        count = characters = 0
        async for block in blocks:
            first.append(block)
            count += len(block)
            characters += sum(map(len, block.metadata)) + sum(len(c) for c in block.content if c)
            if count > FEW_ROWS or characters > _FEW_CHARACTERS:
                break
        else:
            written = await self._write_few(join_blocks(first)) if first else 0
            self._say("done", count, at_once=True)
            return written
        async with self._database.transaction(collection=self._name) as connection:
            everything = _chain(first, blocks)
            # A slow source (a model that embeds) must not keep others off the table meanwhile.
            if self._database.source.private and not self._slow and await self._claim(connection):
                written = await self._into_table(connection, everything)
            else:
                written = await self._by_stage(connection, everything)
        self._say("done", 0, at_once=True)
        return written

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
                        return await run(connection, statement)
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

    async def _lock(
        self, connection: AsyncConnection[Any], *, readers: bool, only_if: statements.Statement | None
    ) -> bool:
        """Have the table alone until the end of the transaction, if that can be had at once (and a condition holds)."""
        locked = False
        try:
            async with connection.transaction():
                await connection.execute(statements.lock(self._table, readers=readers))
                if only_if is not None and not next(iter((await rows(connection, only_if))[0].values())):
                    raise psycopg.Rollback
                locked = True
        except (errors.LockNotAvailable, errors.InsufficientPrivilege):
            return False
        return locked

    async def _claim(self, connection: AsyncConnection[Any]) -> bool:
        """Have the empty table alone. Where it has vector indexes readers wait too, for the indexes are built anew."""
        readers = bool(vector_indexes(self._table))
        return await self._lock(connection, readers=readers, only_if=statements.may_copy(self._table))

    async def _into_table(self, connection: AsyncConnection[Any], blocks: AsyncIterator[Block]) -> int:
        """Copy into the empty table. A row whose id came before waits until the copy is done, and is then written as upserts are."""
        indexes = await self._drop(connection, vector_indexes(self._table))
        seen = SeenIds()
        copied = 0
        repeated_any = False
        more = True
        while more:
            waiting: list[Block] = []
            more = False
            async with connection.cursor().copy(statements.copy(self._table)) as copy:
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
                        copied += len(block)
                    if sum(map(len, waiting)) > _MOST_WAITING:
                        more = True
                        break
                await copy.write(COPY_END)
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
        indexes: Sequence[TableIndex] = vector_indexes(self._table)
        if indexes and self._database.source.private:
            (known,) = await rows(connection, statements.estimated_rows(self._table))
            pays = rebuild_pays(int(known["rows"]), self._rows - before)
            if pays and await self._lock(connection, readers=True, only_if=None):
                indexes = await self._drop(connection, indexes)
                written = await self._move(connection, stage)
                await self._build(connection, indexes)
                return written
        return await self._move(connection, stage)

    async def _stage(self, connection: AsyncConnection[Any], blocks: AsyncIterator[Block], *, say: bool = False) -> str:
        """A temporary table with the rows."""
        stage = f"likewise_stage_{next(_stages)}"
        for statement in statements.stage_table(self._table, stage):
            await run(connection, statement)
        async with connection.cursor().copy(statements.copy(self._table, stage=stage)) as copy:
            await copy.write(COPY_START)
            async for block in blocks:
                check_deadline()
                if say:
                    self._say("rows", len(block))
                await copy.write(pack_block(self._table, block))
            await copy.write(COPY_END)
        return stage

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

    async def _drop(self, connection: AsyncConnection[Any], indexes: Sequence[TableIndex]) -> Sequence[TableIndex]:
        for index in indexes:
            await connection.execute(statements.drop_index(self._table, index.name))
        return indexes

    async def _build(self, connection: AsyncConnection[Any], indexes: Sequence[TableIndex]) -> None:
        for index in indexes:
            check_deadline()
            self._say("index", 0, at_once=True)
            await connection.execute(own_sql(index.definition))
            _log.info("index built again after a load", extra={"collection": self._name, "index": index.name})

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
