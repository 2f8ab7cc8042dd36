"""``likewise install``: the schema and the SQL functions into a database."""

from __future__ import annotations

import argparse
from typing import Any

from likewise.cli.context import Context
from likewise.cli.exits import Exit
from likewise.errors import UnsupportedFeature

HELP = "create or update Likewise's schema and SQL functions in a database"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "--no-search-path",
        action="store_true",
        help="leave the database's search_path as it is; the functions are then called by their full names, such as "
        "likewise.find_similar_multimodal",
    )


def run(context: Context) -> int:
    """Install, and put the schema on the search_path of future sessions."""
    from likewise.backends.postgres import PostgresStore

    with context.store() as store:
        if not isinstance(store, PostgresStore):
            raise UnsupportedFeature("installing SQL functions", backend=store.capabilities.backend)
        store.install()
        path, problem = None, None
        if not context.options.no_search_path:
            with store.transaction() as connection:
                path, problem = _extend_search_path(connection)
        info = store.info()
        with store.transaction() as connection:
            functions = [row[0] for row in connection.execute(_FUNCTIONS).fetchall()]
    context.output.document(
        {
            "database": store.url,
            "server": info.version,
            "pgvector": info.vector_extension,
            "functions": functions,
            "search_path": path,
            "problem": problem,
        }
    )
    context.output.line(f"installed in {store.url} (PostgreSQL {info.version}, pgvector {info.vector_extension})")
    context.output.line(f"functions: {', '.join(functions)}")
    if path is not None:
        context.output.line(f"search_path of new sessions: {path}")
    if problem is not None:
        context.output.note(f"the search_path was left as it is: {problem}", style="yellow")
    return Exit.OK


_FUNCTIONS = (
    "select distinct p.proname from pg_catalog.pg_proc p where p.pronamespace = to_regnamespace('likewise') order by 1"
)


def _extend_search_path(connection: Any) -> tuple[str | None, str | None]:
    """Append the schema to the database's search_path: the new path, or why it could not be done."""
    path = connection.execute("show search_path").fetchone()[0]
    if "likewise" in [part.strip().strip('"') for part in path.split(",")]:
        return path, None
    path = f"{path}, likewise" if path.strip() else "likewise"
    # ALTER DATABASE takes no parameters, so the server itself quotes the name; the path is the server's own, and quoted already.
    statement = "select format('alter database %%I set search_path to ', current_database()) || %s::text"
    try:
        with connection.transaction():
            connection.execute(connection.execute(statement, [path]).fetchone()[0])
    except connection.Error as error:
        return None, str(error.diag.message_primary or error)
    return path, None
