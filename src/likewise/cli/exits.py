"""The exit codes, in one table, and which error gives which."""

from __future__ import annotations

import enum

from likewise.errors import (
    BackendTimeout,
    BackendUnavailable,
    InvalidArgument,
    ModelUnreachable,
    NotFound,
    RecordExists,
    SchemaMismatch,
    UnsupportedFeature,
)

__all__ = ["Exit", "exit_code"]


class Exit(enum.IntEnum):
    """What the command's exit code says."""

    OK = 0
    FAILURE = 1
    USAGE = 2
    NOT_FOUND = 3
    UNAVAILABLE = 4
    INVALID = 5
    INTERRUPTED = 130
    BROKEN_PIPE = 141
    TERMINATED = 143


EXPLANATIONS = {
    Exit.OK: "it worked; a search that finds nothing has worked",
    Exit.FAILURE: "it failed, or something was found to be wrong (doctor, ingest)",
    Exit.USAGE: "the command line cannot be understood",
    Exit.NOT_FOUND: "a collection, record or file that was named is not there",
    Exit.UNAVAILABLE: "the database, or the server of a model, cannot be reached or did not answer in time",
    Exit.INVALID: "a value is refused: a filter, a picture, a name, another dimension",
    Exit.INTERRUPTED: "interrupted (Ctrl-C)",
    Exit.BROKEN_PIPE: "whoever read the output went away",
    Exit.TERMINATED: "ended by a signal (SIGTERM)",
}


def exit_code(error: Exception) -> Exit:
    """The exit code for an error of the library."""
    if isinstance(error, NotFound):
        return Exit.NOT_FOUND
    if isinstance(error, BackendUnavailable | BackendTimeout | ModelUnreachable):
        return Exit.UNAVAILABLE
    if isinstance(error, InvalidArgument | SchemaMismatch | RecordExists | UnsupportedFeature):
        return Exit.INVALID
    return Exit.FAILURE
