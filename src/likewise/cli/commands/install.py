"""``likewise install``: the schema and the SQL functions into a database."""

from __future__ import annotations

import argparse
from typing import Any

from likewise.cli.context import Context
from likewise.cli.exits import Exit
from likewise.errors import InvalidArgument, UnsupportedFeature

HELP = "create or update Likewise's schema and SQL functions in a database"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "--no-search-path",
        action="store_true",
        help="leave the database's search_path as it is; the functions are then called by their full names, such as "
        "likewise.find_similar_multimodal",
    )
    parser.add_argument(
        "--model",
        metavar="MODEL",
        help="the model of embed() in SQL when none is named (default: mini, or what was set before)",
    )
    parser.add_argument(
        "--transport",
        choices=("log", "dblink"),
        help="how requests of embed() reach a worker: over the write-ahead log, or through dblink, which also works on standbys and needs no "
        "logical decoding (default: log, or what was set before)",
    )
    parser.add_argument(
        "--worker",
        metavar="HOST:PORT",
        help="with --transport dblink: where the database reaches the worker (`likewise worker --listen`)",
    )
    parser.add_argument(
        "--password-file",
        metavar="FILE",
        help="with --worker: the worker's password, in the file's first line; else it is $LIKEWISE_WORKER_PASSWORD",
    )
    parser.add_argument(
        "--no-role",
        action="store_true",
        help="do not make the role likewise_user, which may search in SQL and of which others are made members",
    )


def run(context: Context) -> int:
    """Install, and put the schema on the search_path of future sessions."""
    from likewise.backends.postgres import PostgresStore

    worker = _worker(context.options)
    with context.store() as store:
        if not isinstance(store, PostgresStore):
            raise UnsupportedFeature("installing SQL functions", backend=store.capabilities.backend)
        store.install()
        path, problem = None, None
        if not context.options.no_search_path:
            with store.transaction() as connection:
                path, problem = _extend_search_path(connection)
        problems = [] if problem is None else [f"the search_path was left as it is: {problem}"]
        with store.transaction() as connection:
            if context.options.model is not None:
                _set_model(connection, context.options.model)
            if not context.options.no_role:
                problems += _make_role(connection)
        with store.transaction() as connection:
            problems += _set_transport(connection, context.options, worker)
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
            "problem": "; ".join(problems) or None,
        }
    )
    context.output.line(f"installed in {store.url} (PostgreSQL {info.version}, pgvector {info.vector_extension})")
    context.output.line(f"functions: {', '.join(functions)}")
    if path is not None:
        context.output.line(f"search_path of new sessions: {path}")
    for text in problems:
        context.output.note(text, style="yellow")
    return Exit.OK


def _set_model(connection: Any, name: str) -> None:
    """The model that embed() uses when none is named; one that is not known here is refused."""
    from likewise.embedding import load_embedder

    load_embedder(name)
    connection.execute(
        "insert into likewise.setting values ('model', %s) on conflict (name) do update set value = excluded.value",
        [name],
    )


def _worker(options: argparse.Namespace) -> tuple[str, int, str] | None:
    """Host, port and password of the worker that is to be asked through dblink."""
    from likewise.cli.commands.worker import parse_address, read_password

    if options.worker is None:
        if options.transport == "dblink":
            raise InvalidArgument("--transport dblink needs the worker's address: --worker HOST:PORT")
        return None
    if options.transport != "dblink":
        raise InvalidArgument("--worker is for --transport dblink; over the log a worker finds the database by itself")
    return *parse_address(options.worker), read_password(options.password_file)


def _set_transport(connection: Any, options: argparse.Namespace, worker: tuple[str, int, str] | None) -> list[str]:
    """Choose how requests travel; what the database lacks for it."""
    from likewise.backends.postgres._dblink import PRESENT, Present, dblink_statements
    from likewise.backends.postgres._install import resource

    if options.transport is not None:
        connection.execute(
            "insert into likewise.setting values ('transport', %s) on conflict (name) do update set value = excluded.value",
            [options.transport],
        )
    if worker is not None:
        host, port, password = worker
        schema, present = connection.execute(resource(PRESENT)).fetchone()
        roles = [] if options.no_role else ["likewise_user"]
        for statement in dblink_statements(
            host,
            port,
            password=password,
            roles=roles,
            present=Present(schema, None if present is None else frozenset(present)),
        ):
            connection.execute(statement)
    (over_log, wal_level) = connection.execute(
        "select coalesce((select s.value from likewise.setting as s where s.name = 'transport'), 'log') = 'log',"
        " current_setting('wal_level')"
    ).fetchone()
    if over_log and wal_level != "logical":
        return [
            f"embed() will not work before wal_level, which is {wal_level}, is logical (it takes a restart), or with --transport dblink"
        ]
    return []


def _make_role(connection: Any) -> list[str]:
    """Make the role that may search, and give it its rights here: why that could not be done, if it could not."""
    from likewise.backends.postgres._install import resource

    try:
        with connection.transaction():
            connection.execute(resource("role.sql"))
            connection.execute(resource("grants.sql"))
    except connection.Error as error:
        return [f"the role likewise_user was not made: {error.diag.message_primary or error}"]
    return []


#: Those that are for users; of the others the comment begins with a word that says so.
_FUNCTIONS = """
select distinct p.proname
from pg_catalog.pg_proc as p
where p.pronamespace = to_regnamespace('likewise') and pg_catalog.obj_description(p.oid, 'pg_proc') not like 'Internal:%'
order by 1
"""


#: The search_path that the database itself sets, for every role that has none of its own.
_DATABASE_PATH = """
select substr(setting, length('search_path=') + 1)
from pg_catalog.pg_db_role_setting as s
join pg_catalog.pg_database as d on d.oid = s.setdatabase
cross join unnest(s.setconfig) as setting
where d.datname = current_database() and s.setrole = 0 and setting like 'search_path=%'
"""


def _extend_search_path(connection: Any) -> tuple[str | None, str | None]:
    """Append the schema to the database's search_path: the new path, or why it could not be done."""
    found = connection.execute(_DATABASE_PATH).fetchone()
    if found is not None and "likewise" in [part.strip().strip('"') for part in found[0].split(",")]:
        return found[0], None
    path = found[0] if found is not None else connection.execute("show search_path").fetchone()[0]
    parts = [part for p in path.split(",") if (part := p.strip()) not in ("", "likewise")]
    if connection.execute("select current_user = 'likewise'").fetchone()[0]:
        # For a role of the schema's own name "$user" is that schema, and new tables would land in it.
        parts = [part for part in parts if part != '"$user"'] or ["public"]
    path = ", ".join([*parts, "likewise"])
    # ALTER DATABASE takes no parameters, so the server itself quotes the name; the path is the server's own, and quoted already.
    statement = "select format('alter database %%I set search_path to ', current_database()) || %s::text"
    try:
        with connection.transaction():
            connection.execute(connection.execute(statement, [path]).fetchone()[0])
    except connection.Error as error:
        return None, str(error.diag.message_primary or error)
    return path, None
