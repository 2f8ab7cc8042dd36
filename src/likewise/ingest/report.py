"""What an ingestion did, as a value."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["FileFailure", "IngestReport"]


@dataclass(frozen=True, slots=True)
class FileFailure:
    """A file that gave no record, why, and what was being done.

    The stages are ``finding`` (where it was left out), ``reading``, ``detecting``, ``unpacking``, ``parsing``, ``isolating``, ``chunking``
    and ``embedding``.
    """

    path: str
    reason: str
    stage: str = "finding"


@dataclass(slots=True)
class IngestReport:
    """What an ingestion did. Files are counted once each: ``stored``, ``unchanged``, ``duplicates``, or listed in ``failed`` or ``skipped``.

    ``duplicates`` have the content of another file, which is stored. ``failed`` could not be stored, ``skipped`` were left out on purpose
    (links that lead elsewhere). ``records`` were written, ``removed`` are the records that changed files no longer say; ``pruned`` are
    the documents that were deleted because their files are gone. Of a dry run these are what would be done, and ``estimated_seconds`` is
    how long the embedding would take, as measured on some of the texts; None where there is nothing to embed, or it was no dry run.
    """

    stored: int = 0
    unchanged: int = 0
    duplicates: int = 0
    records: int = 0
    removed: int = 0
    pruned: int = 0
    characters: int = 0
    estimated_seconds: float | None = None
    failed: list[FileFailure] = field(default_factory=list)
    skipped: list[FileFailure] = field(default_factory=list)

    @property
    def files(self) -> int:
        """How many files were looked at."""
        return self.stored + self.unchanged + self.duplicates + len(self.failed) + len(self.skipped)
