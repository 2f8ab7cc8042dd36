"""Keeps a collection as some folders are: ingests what is in them, then what changes, until it is told to stop."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from likewise.abc.stores import Collection
from likewise.errors import (
    BackendConflict,
    BackendTimeout,
    BackendUnavailable,
    InvalidArgument,
    LikewiseError,
    ModelNotAvailable,
    OptionalDependencyError,
)
from likewise.ingest.pipeline import ingest
from likewise.ingest.report import IngestReport

__all__ = ["watch_folders"]

#: Changes that come within so many milliseconds of each other are taken together, for so many at most.
_SETTLE, _MOST = 200, 2_000
#: How often everything is looked at, should the system have failed to tell of a change.
RESCAN_SECONDS = 3_600.0
#: Errors that may pass, and the seconds after which they are tried again: twice as many each time.
_PASSING = (BackendUnavailable, BackendTimeout, BackendConflict, ModelNotAvailable)
_FIRST_WAIT, _LONGEST_WAIT = 1.0, 60.0


class _Changed:
    """The files that have changed, and those in folders that have."""

    def __init__(self, paths: Iterable[str]) -> None:
        self._paths = {Path(path) for path in paths}

    def __call__(self, path: Path) -> bool:
        return path in self._paths or any(parent in self._paths for parent in path.parents)


def watch_folders(
    collection: Collection,
    folders: Iterable[str | os.PathLike[str]],
    *,
    stop: threading.Event,
    reported: Callable[[IngestReport], None] = lambda _: None,
    troubled: Callable[[LikewiseError], None] = lambda _: None,
    rescan: float = RESCAN_SECONDS,
    **how: Any,
) -> None:
    """Ingest what is in the folders, then what changes in them, and delete the documents of files that go, until ``stop`` is set.

    ``how`` is what ``ingest`` takes. ``reported`` is called after each ingestion that did something. ``rescan`` is after how many seconds all
    files are looked at again, in case the system did not tell of a change. Where the database or the model cannot be reached, once everything was
    ingested, ``troubled`` is called with the error, and it is tried again after a second, then ever less often, up to once a minute; any other error, and any in the
    first ingestion, is raised. Needs the extra ``ingest``.
    """
    try:
        from watchfiles import Change, watch
    except ImportError as error:
        raise OptionalDependencyError("watchfiles", extra="ingest") from error
    unknown = {"prune", "only", "dry_run"} & how.keys()
    if unknown:
        raise InvalidArgument(f"{min(unknown)}= is not for folders that are watched")
    roots = [Path(folder).resolve() for folder in folders]
    for root in roots:
        if not root.is_dir():
            raise InvalidArgument(f"{str(root)!r} is no folder: only folders are watched")
    # Watched before they are looked at, so that nothing that happens meanwhile is missed.
    changes = watch(
        *roots, stop_event=stop, debounce=_MOST, step=_SETTLE, raise_interrupt=False, yield_on_timeout=True, rust_timeout=500,
        watch_filter=None, ignore_permission_denied=True,
    )  # fmt: skip
    begun, everything, settled = 0.0, True, False
    wait, resume = _FIRST_WAIT, 0.0
    for some in changes:
        everything = everything or time.monotonic() - begun > rescan
        if not some and not everything:
            continue
        if time.monotonic() < resume:
            # What changes meanwhile is found when everything is looked at.
            continue
        if everything:
            begun = time.monotonic()
        gone = everything or any(change is Change.deleted for change, _ in some)
        only = None if everything else _Changed(path for _, path in some)
        try:
            report = ingest(collection, [root for root in roots if root.is_dir()], prune=gone, only=only, **how)
        except _PASSING as error:
            if not settled:
                raise
            troubled(error)
            everything, resume, wait = True, time.monotonic() + wait, min(_LONGEST_WAIT, 2 * wait)
            continue
        everything, settled, wait = False, True, _FIRST_WAIT
        if report.files > report.unchanged + len(report.skipped) or report.pruned:
            reported(report)
