"""``likewise watch``: keep the rows of a table embedded."""

from __future__ import annotations

import argparse
import time
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from likewise.cli.context import Context
from likewise.cli.exits import Exit
from likewise.errors import InvalidArgument, UnsupportedFeature

if TYPE_CHECKING:
    from likewise.backends.postgres import PostgresStore

HELP = "keep the rows of a table embedded; without a table: list the tables that are"

_LOOK_SECONDS = 0.2
#: After so long without any progress it is said that no worker may be there.
_PATIENCE_SECONDS = 10.0
_COLUMNS = ("name", "source", "model", "state", "done", "estimated", "depth", "failed", "error")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "table", nargs="?", metavar="TABLE", help="the table, with its schema if that is not on the search_path"
    )
    parser.add_argument(
        "--content",
        metavar="EXPR",
        help="SQL over its columns that gives the text to embed, such as: name || '. ' || description",
    )
    parser.add_argument("--image", metavar="EXPR", help="SQL that gives a picture (bytea), or its path or URL (text)")
    parser.add_argument("--filter", metavar="EXPR", help="SQL that says which rows are embedded")
    parser.add_argument(
        "--model", metavar="MODEL", help="the embedding model (default: that of likewise install --model, or mini)"
    )
    parser.add_argument("--name", metavar="NAME", help="the watch's name (default: the table's)")
    parser.add_argument(
        "--wait",
        action="store_true",
        help="wait until a worker has embedded the rows that are there, and show how far it is",
    )
    parser.add_argument("--work", action="store_true", help="embed them in this process, and end when that is done")
    parser.add_argument(
        "--image-root",
        metavar="DIR",
        action="append",
        default=[],
        help="with --work: a folder that pictures named by a path may be read from",
    )
    parser.add_argument("--image-urls", action="store_true", help="with --work: fetch pictures named by a URL")


def run(context: Context) -> int:
    """Watch, and wait if that is asked; exit code 1 if a row could not be embedded."""
    options, output = context.options, context.output
    from likewise.backends.postgres import PostgresStore

    with context.store() as store:
        if not isinstance(store, PostgresStore):
            raise UnsupportedFeature("watching tables", backend=store.capabilities.backend)
        store.install()
        if options.table is None:
            if given := [o for o in ("content", "image", "filter", "model", "name") if getattr(options, o) is not None]:
                raise InvalidArgument(f"--{given[0]} is given, but no table: likewise watch TABLE --{given[0]} …")
            rows = _state(store, None)
            output.document({"watches": rows})
            output.table(_COLUMNS, [[row[column] for column in _COLUMNS] for row in rows])
            return Exit.OK
        (made,) = _fetch(
            store,
            "select likewise.watch(%(table)s::regclass, content => %(content)s, image => %(image)s, model => %(model)s, name => %(name)s,"
            " filter => %(filter)s) as name",
            {each: getattr(options, each) for each in ("table", "content", "image", "model", "name", "filter")},
        )
        if options.wait or options.work:
            with _worker(context, store, made["name"]):
                _wait(context, store, made["name"])
        (row,) = _state(store, made["name"])
    output.document(row)
    output.line(
        f"{row['source']} is watched as {row['name']}: {row['state']}, {row['depth']} changes waiting, {row['failed']} rows failed"
    )
    if not (options.wait or options.work):
        output.note("a worker embeds it: likewise worker; or this process, with --work")
    if row["failed"]:
        output.note("select * from likewise.watch_errors says what is wrong with the rows that failed", style="yellow")
    return Exit.FAILURE if row["failed"] else Exit.OK


def _worker(context: Context, store: PostgresStore, name: str) -> AbstractContextManager[object]:
    """A worker for this watch, if this process is to be it."""
    options = context.options
    if not options.work:
        return nullcontext()
    from likewise.embedding import load_embedder
    from likewise.worker import Watching, Worker, WorkerThread

    # The store's own URL has no password; that of the embedded server needs none.
    given = context.database
    url = given if given is not None and not given.startswith("embedded:") else store.url
    part = Watching(url, embedders=load_embedder, image_roots=options.image_root, urls=options.image_urls, only=[name])
    return WorkerThread(Worker(url, embedders=load_embedder, log=False, watching=part))


def _wait(context: Context, store: PostgresStore, name: str) -> None:
    """Until there is nothing left to do, but for rows that fail."""
    (row,) = _state(store, name)
    moved, told, before = time.monotonic(), "", (None, None, None)
    with context.output.progress(f"embedding {row['source']}", row["estimated"] or None) as advance:
        while row["state"] != "ready" or row["depth"] or row["trying"]:
            advance(row["done"] or 0)
            now = (row["state"], row["done"], row["depth"])
            if now != before:
                moved, before = time.monotonic(), now
            problem = row["error"] or ("" if time.monotonic() - moved < _PATIENCE_SECONDS else _NO_WORKER)
            if problem and problem != told:
                context.output.note(problem, style="yellow")
                told = problem
            time.sleep(_LOOK_SECONDS)
            (row,) = _state(store, name)


_NO_WORKER = (
    "nothing has happened for a while: is a worker there? Start one in another shell: likewise worker; or use --work"
)


def _state(store: PostgresStore, name: str | None) -> list[dict[str, Any]]:
    return _fetch(
        store,
        "select w.name, w.source, w.schema_name, w.collection, w.model, w.content, w.image, w.filter, w.state, w.done, w.estimated,"
        " p.depth, p.oldest, p.failed, w.error,"
        " (select count(*) from likewise.failure f where f.watch = w.id and f.next_try is not null) as trying"
        " from likewise.watches w join likewise.pending p using (name) where %(name)s::text is null or w.name = %(name)s order by w.name",
        {"name": name},
    )


def _fetch(store: PostgresStore, statement: Any, values: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of a statement; what the server refuses is refused in its own words."""
    with store.transaction() as connection:
        try:
            cursor = connection.execute(statement, values)
        except connection.Error as error:
            hint = error.diag.message_hint
            raise InvalidArgument(
                (error.diag.message_primary or str(error)) + (f" ({hint})" if hint else "")
            ) from error
        names = [column.name for column in cursor.description or ()]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
