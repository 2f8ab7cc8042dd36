# Generated from src/likewise/backends/postgres/loading_async.py by tools/async_to_sync.py; edit that file instead.
"""Writing records: one statement for a few, COPY for many. The statements are in ``_statements``, the bytes in ``_copy``.

Many rows go straight into the table if it is empty and can be had alone, else into a temporary table, from which one statement moves them
in the order of their ids. Either way it is one transaction, and what is in memory at any time is a block of rows.
"""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import psycopg
from psycopg import Connection, errors, sql

from likewise._deadline import check_deadline
from likewise.abc.blocks import Block, join_blocks
from likewise.abc.digests import StoredVector
from likewise.backends.postgres import _statements as statements
from likewise.backends.postgres._copy import COPY_END, COPY_START, SeenIds, pack_block
from likewise.backends.postgres._indexing import most_known
from likewise.backends.postgres._rows import stored_vector
from likewise.backends.postgres._table import Table
from likewise.backends.postgres.connection import Database, Row, rows, run
from likewise.backends.postgres.indexing import build_again
from likewise.errors import BackendConflict, InvalidArgument, RecordExists
from likewise.records import LoadPhase, LoadProgress

__all__ = ["Load", "check_claims"]

#: Up to this many rows (and this much text) are one INSERT.
FEW_ROWS = 500
_FEW_CHARACTERS = 8_000_000
#: Rows of a direct load whose id came before; more are written when so many are waiting.
_MOST_WAITING = 2_000
_PROGRESS_SECONDS = 0.1
_stages = itertools.count(1)


class _Claim:
    """A table that a call has alone while it draws records, as long as it does."""

    def __init__(self, database: Database, table: Table) -> None:
        self.source = database.source
        self.table = (table.schema, table.spec.name)


_claims: ContextVar[set[_Claim]] = ContextVar("likewise_claims")


def check_claims(database: Database, table: Table) -> None:
    """Refuse to write where the call that draws from this code has the table alone: the two would wait for each other."""
    for claim in _claims.get(()):
        if claim.source is database.source and claim.table == (table.schema, table.spec.name):
            raise InvalidArgument(
                f"the records that are being written to collection {table.spec.name!r} come from code that writes to it as well; "
                "draw them first, or write to it afterwards"
            )


@contextmanager
def _claimed(database: Database, table: Table) -> Iterator[None]:
    claim, outer = _Claim(database, table), _claims.get(None)
    claims = set(outer or ()) | {claim}
    token = _claims.set(claims)
    try:
        yield
    finally:
        # Tasks that were begun meanwhile keep the set.
        claims.discard(claim)
        _claims.reset(token)


class Load:
    """One call that writes records.

    ``slow``: the blocks come from a model, so nobody is kept off the table while they are drawn. ``lazy``: they come from an iterable of
    the caller's, which may read from the collection meanwhile, so readers are not kept off. ``saving`` is a statement that ends the
    transaction; one that changes no row says that somebody else was there.
    """

    def __init__(
        self,
        database: Database,
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
        self._connection: Connection[Any] | None = None

    def known(self, ids: list[str]) -> Mapping[str, StoredVector]:
        """What is stored of vectors that a model made: asked on the connection that writes, if there is one already."""
        statement = statements.embedded(self._table, ids)
        if self._connection is None:
            found = self._database.fetch(statement, collection=self._name)
        else:
            found = rows(self._connection, statement)
        element = self._table.element("")
        return {row["id"]: stored_vector(row, element) for row in found}

    def run(self, blocks: Iterator[Block]) -> int:
        """Write all of the blocks, or nothing; the number of ids written."""
        check_claims(self._database, self._table)
        first: list[Block] = []
        count = characters = 0
        for block in blocks:
            first.append(block)
            count += len(block)
            characters += sum(map(len, block.metadata)) + sum(len(c) for c in block.content if c)
            if count > FEW_ROWS or characters > _FEW_CHARACTERS:
                break
        else:
            written = self._write_few(join_blocks(first)) if first else self._write_nothing()
            self._say("done", count, at_once=True)
            return written
        with self._database.transaction(collection=self._name) as connection:
            self._connection = connection
            everything = _chain(first, blocks)
            indexes = None
            if self._database.source.private and not self._slow:
                indexes = self._claim(connection)
            if indexes is not None:
                with _claimed(self._database, self._table):
                    written = self._into_table(connection, everything, indexes)
            else:
                written = self._by_stage(connection, everything)
            self._save(connection)
        self._say("done", 0, at_once=True)
        return written

    def _save(self, connection: Connection[Any]) -> None:
        if self._saving is not None and not run(connection, self._saving):
            raise BackendConflict(
                f"another load into collection {self._name!r} goes on with the same token; nothing of this part was stored"
            )

    def _write_nothing(self) -> int:
        if self._saving is not None:
            with self._database.transaction(collection=self._name) as connection:
                self._save(connection)
        return 0

    # --- a few ------------------------------------------------------------------------------------------------------------------

    def _write_few(self, block: Block) -> int:
        """One statement writes the block: no staging needed."""
        places = {record_id: place for place, record_id in enumerate(block.ids)}
        unique = block if len(places) == len(block) else block.take(sorted(places.values()))
        statement = statements.write(self._table, unique, replace=self._replace)
        with self._database.transaction(collection=self._name) as connection:
            counts = Counter(block.ids)
            twice = [] if self._replace else [record_id for record_id, times in counts.items() if times > 1]
            try:
                if not twice:
                    with connection.transaction():
                        written = run(connection, statement)
                    self._save(connection)
                    return written
            except errors.UniqueViolation as error:
                known = self._existing(connection, places)
                if not known:  # the other transaction's record is gone again
                    raise self._vanished(error) from error
            else:
                known = self._existing(connection, places)
            raise RecordExists(sorted({*known, *twice}), collection=self._name)

    def _vanished(self, error: errors.UniqueViolation) -> BackendConflict:
        return BackendConflict(
            f"another transaction inserted the same id into collection {self._name!r} and removed it; retry",
            sqlstate=error.sqlstate,
        )

    def _existing(self, connection: Connection[Any], ids: Iterable[str]) -> list[str]:
        return [row["id"] for row in rows(connection, statements.existing_ids(self._table, list(ids)))]

    # --- many -------------------------------------------------------------------------------------------------------------------

    def _claim(self, connection: Connection[Any]) -> Sequence[Row] | None:
        """Have the table alone until the end of the transaction, if it is empty and that can be had at once; None otherwise.

        Its vector indexes are dropped, for which readers are kept off too; they are returned.
        """
        indexes: Sequence[Row] | None = None
        try:
            with connection.transaction():
                connection.execute(statements.lock(self._table, readers=False))
                (found,) = rows(connection, statements.may_copy(self._table))
                known = rows(connection, statements.rebuildable(self._table))
                if not found["empty"] or (known and self._lazy):
                    raise psycopg.Rollback
                indexes = self._drop(connection, known)
        except (errors.LockNotAvailable, errors.InsufficientPrivilege):
            return None
        return indexes

    def _into_table(self, connection: Connection[Any], blocks: Iterator[Block], indexes: Sequence[Row]) -> int:
        """Copy into the empty table. A row whose id came before waits until the copy is done, and is then written as upserts are."""
        seen = SeenIds()
        copied = 0
        repeated_any = False
        more = True
        while more:
            waiting: list[Block] = []
            more = False
            cursor = connection.cursor()
            with cursor.copy(statements.copy(self._table)) as copy:
                copy.write(COPY_START)
                for block in blocks:
                    check_deadline()
                    self._say("rows", len(block))
                    repeated = seen.repeated(block.ids)
                    if repeated:
                        repeated_any = True
                        waiting.append(block.take(repeated))
                        again = set(repeated)
                        block = block.take([i for i in range(len(block)) if i not in again])
                    if len(block):
                        copy.write(pack_block(self._table, block))
                    if sum(map(len, waiting)) > _MOST_WAITING:
                        more = True
                        break
                copy.write(COPY_END)
            copied += cursor.rowcount
            if waiting:
                stage = self._stage(connection, _chain(waiting))
                self._move(connection, stage)
        self._build(connection, indexes)
        if not repeated_any:
            return copied
        found = rows(connection, statements.count(self._table, None))
        return int(found[0]["count"])

    def _by_stage(self, connection: Connection[Any], blocks: Iterator[Block]) -> int:
        before = self._rows
        stage = self._stage(connection, blocks, say=True)
        indexes: Sequence[Row] = ()
        if self._database.source.private:
            indexes = self._drop_if_that_pays(connection, self._rows - before)
        written = self._move(connection, stage)
        self._build(connection, indexes)
        return written

    def _stage(self, connection: Connection[Any], blocks: Iterator[Block], *, say: bool = False) -> str:
        """A temporary table with the rows."""
        stage = f"likewise_stage_{next(_stages)}"
        for statement in statements.stage_table(self._table, stage):
            run(connection, statement)
        if self._slow:
            # While a model embeds, no COPY goes on: what is stored already is looked up on this connection.
            for block in blocks:
                self._copy(connection, stage, _chain([block]), say=say)
        else:
            self._copy(connection, stage, blocks, say=say)
        return stage

    def _copy(self, connection: Connection[Any], stage: str, blocks: Iterator[Block], *, say: bool) -> None:
        with connection.cursor().copy(statements.copy(self._table, stage=stage)) as copy:
            copy.write(COPY_START)
            for block in blocks:
                check_deadline()
                if say:
                    self._say("rows", len(block))
                copy.write(pack_block(self._table, block))
            copy.write(COPY_END)

    def _move(self, connection: Connection[Any], stage: str) -> int:
        self._say("move", 0, at_once=True)
        try:
            with connection.transaction():
                written = run(connection, statements.move_staged(self._table, stage, replace=self._replace))
        except errors.UniqueViolation as error:
            found = rows(connection, statements.staged_conflicts(self._table, stage))
            if not found:
                raise self._vanished(error) from error
            raise RecordExists([row["id"] for row in found], collection=self._name) from None
        connection.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier("pg_temp", stage)))
        return written

    # --- indexes ----------------------------------------------------------------------------------------------------------------

    def _drop_if_that_pays(self, connection: Connection[Any], new: int) -> Sequence[Row]:
        """Drop the vector indexes, if building them anew takes less time than inserting and the table can be had alone at once."""
        indexes = rows(connection, statements.rebuildable(self._table))
        if not indexes:
            return ()
        most = most_known(new)
        (known,) = rows(connection, statements.count_up_to(self._table, most + 1))
        if known["count"] > most:
            return ()
        try:
            with connection.transaction():
                return self._drop(connection, indexes)
        except (errors.LockNotAvailable, errors.InsufficientPrivilege):
            return ()

    def _drop(self, connection: Connection[Any], indexes: Sequence[Row]) -> Sequence[Row]:
        """Drop indexes as they are once nobody else is at the table; those that were dropped."""
        if not indexes:
            return indexes
        connection.execute(statements.lock(self._table, readers=True))
        # Somebody may have changed them before we had the lock.
        indexes = rows(connection, statements.rebuildable(self._table))
        for index in indexes:
            connection.execute(statements.drop_index(self._table, index["name"]))
        return indexes

    def _build(self, connection: Connection[Any], indexes: Sequence[Row]) -> None:
        if indexes:
            # What is deferred to the end of the transaction, which is ours, must be done before an index can be built.
            connection.execute("set constraints all immediate")
        for index in indexes:
            check_deadline()
            self._say("index", 0, at_once=True)
            rows_now = self._table.rows + self._rows
            build_again(connection, self._table, index["name"], index["definition"], rows_now)

    def _say(self, phase: LoadPhase, added: int, *, at_once: bool = False) -> None:
        self._rows += added
        if self._progress is not None:
            now = time.monotonic()
            if at_once or now - self._said >= _PROGRESS_SECONDS:
                self._said = now
                self._progress(LoadProgress(phase, self._rows))


def _chain(first: Iterable[Block], rest: Iterator[Block] | None = None) -> Iterator[Block]:
    for block in first:
        yield block
    if rest is not None:
        for block in rest:
            yield block
