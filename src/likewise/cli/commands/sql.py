"""``likewise sql``: one statement, or psql on the same database."""

from __future__ import annotations

import argparse
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from likewise.abc.vector_stores import VectorStore
from likewise.cli.context import Context
from likewise.cli.exits import Exit
from likewise.errors import BackendError, BackendUnavailable, InvalidArgument, NotFound, UnsupportedFeature

HELP = "run SQL: one statement, standard input, or psql when there is a terminal"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "statement",
        nargs="?",
        metavar="STATEMENT",
        help="what to run; without it psql is started, or standard input is run",
    )
    parser.add_argument(
        "--embed",
        action="append",
        default=[],
        metavar="NAME=TEXT",
        help="embed the text and use it in the statement as %%(NAME)s::vector; may be repeated",
    )
    parser.add_argument("--model", metavar="MODEL", default="mini", help="the model that --embed uses (default: mini)")


def run(context: Context) -> int:
    """Run the statement, or psql."""
    options = context.options
    statement = options.statement
    if statement is None and not (sys.stdin.isatty() and context.output.is_terminal):
        statement = sys.stdin.read()
    parameters = _embedded(options.embed, options.model)
    with context.store() as store:
        if store.capabilities.backend != "postgres":
            raise UnsupportedFeature("SQL", backend=store.capabilities.backend)
        if statement is None:
            given = context.database or "embedded:"
            embedded = given.startswith("embedded:")
            # As it was given, since the store's own URL holds no password; the embedded server's names its password file.
            return _psql(store.url if embedded else given, embedded=embedded)
        if not statement.strip():
            raise InvalidArgument("there is no statement to run")
        results = _execute(store, statement, parameters)
    context.output.document({"results": [r.document() for r in results]})
    for result in results:
        if result.columns:
            context.output.table(result.columns, result.rows)
            context.output.note(f"({len(result.rows)} row{'' if len(result.rows) == 1 else 's'})")
        else:
            context.output.line(result.status)
    return Exit.OK


def _embedded(pairs: Sequence[str], model: str) -> dict[str, str]:
    if not pairs:
        return {}
    names, texts = [], []
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name.isidentifier():
            raise InvalidArgument(f"--embed takes NAME=TEXT, not {pair!r:.80}")
        names.append(name)
        texts.append(text)
    from likewise.embedding import load_embedder

    vectors = load_embedder(model).embed_texts(texts)
    return {name: "[" + ",".join(map(repr, vector.tolist())) + "]" for name, vector in zip(names, vectors, strict=True)}


class _Result:
    """What one statement gave: its columns and rows, or its status alone."""

    def __init__(self, cursor: Any) -> None:
        self.status: str = cursor.statusmessage or ""
        self.columns: list[str] = [column.name for column in cursor.description or ()]
        self.rows: list[tuple[Any, ...]] = cursor.fetchall() if self.columns else []

    def document(self) -> dict[str, Any]:
        # Rows as lists: two columns of one statement may share a name.
        return {"status": self.status, "columns": self.columns, "rows": [list(row) for row in self.rows]}


def _execute(store: VectorStore, statement: str, parameters: dict[str, str]) -> list[_Result]:
    """Run it in one transaction: of several statements all take effect, or none."""
    with store.transaction() as connection:
        try:
            # Without parameters a % stands for itself, and several statements may follow each other.
            cursor = connection.execute(statement.encode(), parameters or None)
            results = [_Result(cursor)]
            while cursor.nextset():
                results.append(_Result(cursor))
        except connection.Error as error:
            raise BackendError(_explain(error), sqlstate=error.sqlstate) from error
    return results


def _explain(error: Any) -> str:
    details = [error.diag.message_primary or str(error).strip(), error.diag.message_detail, error.diag.message_hint]
    if error.sqlstate == "25001":
        details.append(
            "this runs statements in a transaction; start psql with `likewise sql` on a terminal for this one"
        )
    return "; ".join(d for d in details if d) + (f" (SQLSTATE {error.sqlstate})" if error.sqlstate else "")


def _psql(conninfo: str, *, embedded: bool) -> int:
    program = _find_psql(embedded=embedded)
    # psql handles Ctrl-C itself: it ends a query, not the session.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        return subprocess.run([program, "-d", conninfo], check=False).returncode  # noqa: S603 - a program, not a shell
    finally:
        signal.signal(signal.SIGINT, before)


def _find_psql(*, embedded: bool) -> str:
    """The system's psql, which knows TLS; for the embedded server the one of its own version, if that can be run."""
    from likewise.backends.postgres.embedded.binaries import find_binaries

    installed = shutil.which("psql")
    if installed and not embedded:
        return installed
    try:
        program = find_binaries(None).program("psql")
    except BackendUnavailable:
        program = None
    if program is not None and program.is_file():
        return str(program)
    if installed:
        return installed
    raise NotFound("there is no psql here: give a STATEMENT, or install the PostgreSQL client")
