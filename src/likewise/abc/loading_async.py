"""Long loads, for every backend: an input taken in parts, each stored together with the place that was reached."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from likewise._deadline import check_deadline
from likewise.abc.blocks import Block
from likewise.abc.runs import Run
from likewise.abc.sources import LoadMark, Piece, last_id, piece_size, pieces_after
from likewise.errors import DimensionMismatch, InvalidRecord
from likewise.records import LoadPhase, LoadProgress, LoadReport, RejectedRecord

if TYPE_CHECKING:
    from likewise.abc.stores_async import AsyncCollection, Progress

__all__ = ["AsyncPart", "AsyncPartsLoad"]

#: A part ends before its rows are many, if what they hold is much.
PART_BYTES = 256_000_000
_PROGRESS_SECONDS = 0.1


class AsyncPart:
    """Checked rows that are stored together, and the mark of the load before and after them.

    ``token`` is None where the load is not marked; ``before`` is None if it has no mark yet.
    """

    def __init__(self, token: str | None, before: LoadMark | None) -> None:
        self.token = token
        self.before = before
        self.after = before or LoadMark(0, None, False)
        self.blocks: list[Block] = []
        self.rows = 0
        self.size = 0

    def add(self, blocks: list[Block], piece: Piece) -> None:
        """Take the blocks that a piece of the input became."""
        self.blocks += blocks
        self.rows += len(piece)
        self.after = LoadMark(self.after.position + len(piece), last_id(piece), False)
        for block in blocks:
            self.size += sum(array.nbytes for array in block.vectors.values())
            self.size += sum(map(len, block.metadata)) + sum(len(text) for text in block.content if text)

    def end(self) -> None:
        """Say that the input has ended."""
        self.after = LoadMark(self.after.position, self.after.last_id, True)

    async def drawn(self) -> AsyncIterator[Block]:
        """The blocks, as writers of many records take them."""
        for block in self.blocks:
            yield block


class AsyncPartsLoad:
    """One call of ``load``."""

    def __init__(
        self,
        collection: AsyncCollection,
        *,
        replace: bool,
        skip_invalid: bool,
        token: str | None,
        part_rows: int,
        progress: Progress | None,
    ) -> None:
        self._collection = collection
        self._replace = replace
        self._skip_invalid = skip_invalid
        self._token = token
        self._part_rows = part_rows
        self._progress = progress
        self._rejected: list[RejectedRecord] = []
        self._read = 0
        self._said = 0.0
        self._block_rows = 1

    async def run(self, records: object, most: int, block_rows: int) -> LoadReport:
        """Load the records, in pieces of at most ``most``, checked in blocks of at most ``block_rows``."""
        self._block_rows = block_rows
        check_deadline()
        before = None if self._token is None else await self._collection._load_mark(self._token)
        start = before or LoadMark(0, None, False)
        if start.finished:
            return LoadReport(0, 0, (), start.position)
        size = piece_size(self._part_rows, most)
        written = 0
        part = AsyncPart(self._token, before)
        for piece in pieces_after(start, records, size):
            check_deadline()
            part.add(await self._good(piece, part.after.position), piece)
            self._read += len(piece)
            self._say("rows")
            if part.rows + size > self._part_rows or part.size > PART_BYTES:
                written += await self._write(part)
                part = AsyncPart(self._token, part.after)
        part.end()
        written += await self._write(part)
        self._say("done", at_once=True)
        rejected = sorted(self._rejected, key=lambda one: one.position)
        return LoadReport(self._read, written, tuple(rejected), start.position)

    async def _write(self, part: AsyncPart) -> int:
        return await self._collection._write_part(part, replace=self._replace, progress=self._pass_on)

    async def _good(self, piece: Piece, position: int) -> list[Block]:
        """The rows of the piece that can be stored; the others are rejected, or the first of them is an error."""
        rejected: list[InvalidRecord] | None = [] if self._skip_invalid else None
        known = self._collection._stored_vectors if self._replace else None
        blocks: list[Block] = []
        for run in await self._collection._runs(piece, position, known, rejected):
            blocks += self._sound(run)
        for error in rejected or ():
            assert error.position is not None
            self._reject(error, error.position, None)
        return blocks

    def _sound(self, run: Run) -> list[Block]:
        try:
            return list(run.blocks(self._collection.spec, self._block_rows))
        except (InvalidRecord, DimensionMismatch) as error:
            if not self._skip_invalid:
                raise
            if len(run) == 1:
                self._reject(error, run.position, last_id(run.piece))
                return []
        run = run.as_records()
        half = len(run) // 2
        return self._sound(run.part(0, half)) + self._sound(run.part(half, len(run)))

    def _reject(self, error: InvalidRecord | DimensionMismatch, position: int, record_id: str | None) -> None:
        # What an error keeps alive, the frames of the call and so the records, goes; the text says it all.
        error.__cause__ = error.__context__ = None
        self._rejected.append(
            RejectedRecord(position, record_id or error.record_id or None, error.with_traceback(None))
        )

    def _pass_on(self, progress: LoadProgress) -> None:
        """What the writing of a part says; how many rows there are, and the end, is ours to say."""
        if progress.phase in ("move", "index"):
            self._say(progress.phase, at_once=True)

    def _say(self, phase: LoadPhase, *, at_once: bool = False) -> None:
        now = time.monotonic()
        if self._progress is not None and (at_once or now - self._said >= _PROGRESS_SECONDS):
            self._said = now
            self._progress(LoadProgress(phase, self._read))
