"""How a database is told of its worker, for ``likewise.ask_by_dblink``: the extension, a foreign server, a user mapping. Pure.

The mapping is made for ``public``. Mappings are not inherited by the members of a role, so that one for each login would be needed
otherwise; and the password of one for ``public`` is shown to the owner of the foreign server alone. Who may use it is said by
``usage`` on the foreign server.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

from psycopg import sql

from likewise.errors import InvalidArgument

__all__ = ["EXTENSION_SCHEMA", "PRESENT", "SERVER", "USER", "Present", "dblink_statements"]

#: The foreign server, and the one user that a worker knows.
SERVER = "likewise_worker"
USER = "likewise"
#: Where dblink is put: in a schema of its own, so that only those who need it can call it, for it can reach other servers too.
EXTENSION_SCHEMA = "likewise_dblink"
#: The file under ``sql/`` that reads what :class:`Present` holds.
PRESENT = "dblink_present.sql"

#: Seconds. A worker that is not there is noticed soon.
_CONNECT_TIMEOUT = "5"


@dataclass(frozen=True, slots=True)
class Present:
    """What is there already: the schema of dblink, and the names of the foreign server's options; None where there is none."""

    schema: str | None = None
    options: Set[str] | None = None


def dblink_statements(
    host: str,
    port: int,
    *,
    password: str,
    roles: Sequence[str] = (),
    options: Mapping[str, str] | None = None,
    present: Present | None = None,
) -> list[sql.Composed]:
    """What makes the worker at ``host:port`` the database's; to be run in one transaction. Run again, they change what is there.

    ``roles`` may then ask the worker; ``options`` are further ones of libpq for the connection, such as ``sslmode`` and ``sslrootcert``.
    Options that are there and are not given stay.
    """
    present = present or Present()
    if not host or not password:
        raise InvalidArgument(f"the {'address' if not host else 'password'} of the worker is empty")
    if not 1 <= port <= 65_535:
        raise InvalidArgument(f"the port of the worker is {port}; it is a number from 1 to 65535")
    wanted = {"host": host, "port": str(port), "dbname": USER, "connect_timeout": _CONNECT_TIMEOUT, **(options or {})}
    for name, value in (*wanted.items(), ("password", password)):
        if "\0" in name or "\0" in value:
            raise InvalidArgument(f"{name} of the worker has a NUL in it, which PostgreSQL cannot hold")
    if not password.isascii():
        raise InvalidArgument(
            "the password of the worker has characters beyond ASCII, which databases in other encodings than UTF-8 send as other bytes: "
            "choose one without"
        )
    names = {"server": sql.Identifier(SERVER), "schema": sql.Identifier(EXTENSION_SCHEMA)}
    found: list[sql.Composed] = []
    if present.schema is None:
        found.append(sql.SQL("create schema if not exists {schema}").format(**names))
        found.append(sql.SQL("create extension dblink with schema {schema}").format(**names))
    if present.options is None:
        statement = sql.SQL("create server {server} foreign data wrapper dblink_fdw options ({options})")
    else:
        statement = sql.SQL("alter server {server} options ({options})")
    listed = _options(wanted, present.options)
    found.append(statement.format(**names, options=listed))
    found.append(sql.SQL("drop user mapping if exists for public server {server}").format(**names))
    login = _options({"user": USER, "password": password})
    found.append(
        sql.SQL("create user mapping for public server {server} options ({options})").format(**names, options=login)
    )
    for role in roles:
        grantee = sql.Identifier(role)
        found.append(sql.SQL("grant usage on foreign server {server} to {role}").format(**names, role=grantee))
        if present.schema in {None, EXTENSION_SCHEMA}:
            found.append(sql.SQL("grant usage on schema {schema} to {role}").format(**names, role=grantee))
    return found


def _options(values: Mapping[str, str], present: Set[str] | None = None) -> sql.Composed:
    """The options of a statement; of one that alters, which has what is ``present``, with what becomes of each."""
    listed: list[sql.Composable] = []
    for name, value in values.items():
        verb = sql.SQL("") if present is None else sql.SQL("set ") if name in present else sql.SQL("add ")
        listed.append(sql.Composed([verb, sql.Identifier(name), sql.SQL(" "), sql.Literal(value)]))
    return sql.SQL(", ").join(listed)
