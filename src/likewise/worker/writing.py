"""Writes the vectors of rows that were embedded, in the caller's transaction: only of what is still so, and each row by one worker at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from likewise.abc.blocks import Block
from likewise.backends.postgres import _statements as statements
from likewise.backends.postgres._table import Table
from likewise.errors import BackendError
from likewise.worker._watching import (
    Prepared,
    Verdict,
    delays,
    delete_ids,
    judge,
    lock_vectors,
    record_ids,
    stored_digests,
)
from likewise.worker.lanes import Lane

__all__ = ["Patience", "Written", "write_prepared"]

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
    lane: Lane, watch: int, table: Table, prepared: Prepared, attempts: Mapping[str, int], patience: Patience
) -> Written:
    """Write what was prepared; ``attempts`` says how often rows have failed before. The caller's transaction holds the locks until it ends."""
    keys = prepared.keys
    if not keys:
        return Written(0, 0, 0)
    await lane.run("lock_keys", {"watch": watch, "keys": list(keys)})
    await _lock(lane, table)
    # Only now, when nobody else can write these rows' vectors.
    now, unread = await lane.checker.fingerprints(watch, keys)
    verdict = judge(prepared, now, unread)
    deleted = await _delete(lane, table, prepared, verdict)
    written = 0
    for block in prepared.blocks:
        written += await _write(lane, table, block, prepared, verdict)
    errors = {key: error for key, error in prepared.errors.items() if key in verdict.sound or key in verdict.unread}
    errors |= dict.fromkeys(verdict.moved, _MOVED)
    await _remember(lane, watch, keys, errors, attempts, patience)
    return Written(written, deleted, len(errors))


async def _lock(lane: Lane, table: Table) -> None:
    await lane.writer.execute(lock_vectors(table))
    found = await lane.fetch("trusted", {"schema": table.schema, "name": table.spec.name})
    if not found or not found[0]["trusted"]:
        raise BackendError(
            f"the table {table.schema}.{table.spec.name} belongs to a role that the worker does not trust, so nothing is written to it: drop it "
            "and call likewise.resync(), or give it to the role of the worker"
        )


async def _delete(lane: Lane, table: Table, prepared: Prepared, verdict: Verdict) -> int:
    """Delete the records of rows that are gone, and those that rows have no more."""
    multimodal = bool(table.spec.multimodal)
    old: list[str] = []
    for key in (*verdict.gone, *verdict.unread, *verdict.sound):
        keep = prepared.ids.get(key, set()) if key in verdict.sound else set()
        old += [each for each in record_ids(key, multimodal=multimodal) if each not in keep]
    if not old:
        return 0
    return (await lane.writer.execute(delete_ids(table), {"ids": sorted(set(old))})).rowcount


async def _write(lane: Lane, table: Table, block: Block, prepared: Prepared, verdict: Verdict) -> int:
    """Write the rows of a block that are still so, but for those that are stored already."""
    sound = set().union(*(prepared.ids[key] for key in verdict.sound))
    places = [place for place, each in enumerate(block.ids) if each in sound]
    if table.embedded and block.embedded is not None and places:
        cursor = await lane.writer.execute(stored_digests(table), {"ids": [block.ids[place] for place in places]})
        stored = {row[0]: row[1] for row in await cursor.fetchall()}
        places = [p for p in places if (digest := block.embedded[p]) is None or stored.get(block.ids[p]) != digest]
    if not places:
        return 0
    chosen = block if len(places) == len(block) else block.take(places)
    statement = statements.write(table, chosen, replace=True)
    async with lane.writer.cursor(binary=True) as cursor:
        await cursor.execute(statement.text, statement.parameters)
        return cursor.rowcount


async def _remember(
    lane: Lane,
    watch: int,
    keys: Sequence[str],
    errors: Mapping[str, str],
    attempts: Mapping[str, int],
    patience: Patience,
) -> None:
    """Store what failed, to be tried again later, and forget what had failed and does not any more."""
    await lane.run("mended", {"watch": watch, "keys": [key for key in keys if key not in errors]})
    if not errors:
        return
    failed = sorted(errors)
    counts = [attempts.get(key, 0) + 1 for key in failed]
    await lane.run(
        "failed",
        {
            "watch": watch,
            "keys": failed,
            "attempts": counts,
            "errors": [errors[key].replace("\x00", "") for key in failed],
            "seconds": delays(counts, most=patience.most, first=patience.first, longest=patience.longest),
        },
    )
