"""Writes the vectors of rows that were embedded, in the caller's transaction: only of what is still so, and each row by one worker at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from likewise.abc.blocks import Block
from likewise.backends.postgres import _statements as statements
from likewise.backends.postgres._copy import COPY_END, COPY_START, pack_block
from likewise.backends.postgres._table import Table
from likewise.errors import BackendError
from likewise.worker._watching import (
    Prepared,
    delays,
    delete_ids,
    judge,
    lock_vectors,
    pack_texts,
    record_ids,
    said,
    stored_digests,
)
from likewise.worker.connections import Connections

__all__ = ["Patience", "Written", "write_prepared"]

#: From so many rows on COPY is quicker than INSERT.
_MANY = 50
_MOVED = "it changed while it was embedded, or its expressions give something else each time they are evaluated"


@dataclass(frozen=True, slots=True)
class Patience:
    """How often a row that cannot be embedded is tried, and the seconds before it is tried again, four times as long each time."""

    most: int = 8
    first: float = 5.0
    longest: float = 3600.0


@dataclass(frozen=True, slots=True)
class Written:
    """What became of a batch: records written and deleted, rows that failed."""

    written: int
    deleted: int
    failed: int


async def write_prepared(
    connections: Connections,
    watch: int,
    table: Table,
    prepared: Prepared,
    attempts: Mapping[str, int],
    patience: Patience,
    *,
    alone: bool = False,
) -> Written:
    """Write what was prepared; ``attempts`` says how often rows have failed before. The caller's transaction holds the locks until it ends.

    ``alone`` keeps others from the whole watch, for many rows; without it only from these rows.
    """
    if not prepared.keys:
        return Written(0, 0, 0)
    stored, failing = await _lock(connections, watch, table, prepared, alone=alone)
    # Only now, when nobody else can write these rows' vectors.
    now, unread = await connections.checker.fingerprints(watch, prepared.keys)
    verdict = judge(prepared, now, unread)
    kept = {each for key in verdict.sound for each in prepared.ids[key]}
    moved = {each for key in verdict.moved for each in record_ids(key, multimodal=bool(table.spec.multimodal))}
    old = sorted(stored.keys() - kept - moved)
    if old:
        await connections.writer.execute(delete_ids(table), {"ids": pack_texts(old)})
    written = 0
    for block in prepared.blocks:
        written += await _write(connections, table, block, kept, stored)
    errors = {key: error for key, error in prepared.errors.items() if key in verdict.sound or key in verdict.unread}
    errors |= dict.fromkeys(verdict.moved, _MOVED)
    if failing:
        mended = [key for key in prepared.keys if key not in errors]
        await connections.run("mended", {"watch": watch, "keys": pack_texts(mended)})
    if errors:
        await _remember(connections, watch, errors, attempts, patience)
    return Written(written, len(old), len(errors))


async def _lock(
    connections: Connections, watch: int, table: Table, prepared: Prepared, *, alone: bool
) -> tuple[dict[str, bytes | None], bool]:
    """Take the locks; what is stored of the rows, by id with the digests, and whether any row of the watch has failed."""
    ids = [each for key in prepared.keys for each in record_ids(key, multimodal=bool(table.spec.multimodal))]
    about = {"watch": watch, "schema": table.schema, "name": table.spec.name}
    async with connections.writer.pipeline():
        if alone:
            await connections.run("lock_all", about)
        else:
            await connections.run("lock_shared", about)
            await connections.run("lock_rows", {"watch": watch, "keys": pack_texts(prepared.keys)})
        await connections.writer.execute(lock_vectors(table))
        before = await connections.writer.execute(said("before_writing"), about)
        digests = await connections.writer.cursor(binary=True).execute(stored_digests(table), {"ids": pack_texts(ids)})
    found = await before.fetchone()
    assert found is not None
    trusted, failing = found
    if not trusted:
        raise BackendError(
            f"the table {table.schema}.{table.spec.name} belongs to a role that the worker does not trust, so nothing is written to it: drop it "
            "and call likewise.resync(), or give it to the role of the worker"
        )
    return dict(await digests.fetchall()), failing


async def _write(
    connections: Connections, table: Table, block: Block, kept: set[str], stored: Mapping[str, bytes | None]
) -> int:
    """Write the rows of a block that are still so, but for those that are stored already."""
    new: list[int] = []
    changed: list[int] = []
    digests = block.embedded or [None] * len(block)
    for place, (each, digest) in enumerate(zip(block.ids, digests, strict=True)):
        if each in kept:
            if each not in stored:
                new.append(place)
            elif digest is None or stored[each] != digest:
                changed.append(place)
    if len(new) < _MANY:
        new, changed = [], sorted(new + changed)
    if new:
        # Nobody else writes them, so they are new still.
        async with connections.writer.cursor().copy(statements.copy(table)) as copy:
            await copy.write(COPY_START + pack_block(table, _taken(block, new)) + COPY_END)
    if changed:
        statement = statements.write(table, _taken(block, changed), replace=True)
        await connections.writer.cursor(binary=True).execute(statement.text, statement.parameters)
    return len(new) + len(changed)


def _taken(block: Block, places: Sequence[int]) -> Block:
    return block if len(places) == len(block) else block.take(places)


async def _remember(
    connections: Connections, watch: int, errors: Mapping[str, str], attempts: Mapping[str, int], patience: Patience
) -> None:
    """Store what failed, to be tried again later."""
    failed = sorted(errors)
    counts = [attempts.get(key, 0) + 1 for key in failed]
    await connections.run(
        "failed",
        {
            "watch": watch,
            "keys": failed,
            "attempts": counts,
            "errors": [errors[key].replace("\x00", "") for key in failed],
            "seconds": delays(counts, most=patience.most, first=patience.first, longest=patience.longest),
        },
    )
