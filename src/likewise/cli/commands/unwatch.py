"""``likewise unwatch``: end a watch."""

from __future__ import annotations

import argparse

from likewise.cli.commands.watch import _fetch
from likewise.cli.context import Context
from likewise.cli.exits import Exit
from likewise.errors import UnsupportedFeature

HELP = "end the watch of a table, and remove its triggers, functions and vectors"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("name", metavar="NAME", help="the watch's name, as likewise watch lists it")
    parser.add_argument("--keep-vectors", action="store_true", help="leave the collection NAME_embeddings")


def run(context: Context) -> int:
    """Unwatch, and say so."""
    options = context.options
    from likewise.backends.postgres import PostgresStore

    with context.store() as store:
        if not isinstance(store, PostgresStore):
            raise UnsupportedFeature("watching tables", backend=store.capabilities.backend)
        store.install()
        values = {"name": options.name, "keep": options.keep_vectors}
        _fetch(store, "select likewise.unwatch(%(name)s, keep_vectors => %(keep)s)", values)
    context.output.document({"unwatched": options.name, "kept_vectors": options.keep_vectors})
    context.output.line(f"{options.name} is not watched any more")
    return Exit.OK
