"""``likewise.ask_by_dblink``: a real database asks the worker over the network, and what becomes of the session when that fails."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import psycopg
import pytest
from numpy.typing import NDArray
from psycopg import errors, sql

from likewise.backends.postgres._dblink import EXTENSION_SCHEMA, PRESENT, Present, dblink_statements
from likewise.backends.postgres._install import resource
from likewise.backends.postgres._parameters import own_sql
from likewise.errors import InvalidArgument, ModelNotAvailable
from likewise.worker.wire import WireRequest

from .wire_server import PASSWORD, Running, answer, serving, vector_of

Connection = psycopg.Connection[Any]
REQUEST = {"kind": "text", "input": "x", "model": "mini"}


def present(connection: Connection) -> Present:
    row = connection.execute(own_sql(resource(PRESENT))).fetchone()
    assert row is not None
    return Present(row[0], None if row[1] is None else frozenset(row[1]))


def set_up(connection: Connection, port: int, *, host: str = "127.0.0.1", **more: Any) -> None:
    """Install the function, and tell the database of its worker, as ``likewise install`` does."""
    connection.execute("create schema if not exists likewise")
    connection.execute(own_sql(resource("functions/ask_by_dblink.sql")))
    for statement in dblink_statements(host, port, **{"password": PASSWORD, **more}, present=present(connection)):
        connection.execute(statement)


def ask(connection: Connection, text: str = "x", *, seconds: float = 20, **more: Any) -> list[float]:
    request = json.dumps({**REQUEST, "input": text, **more}, ensure_ascii=False)
    row = connection.execute("select likewise.ask_by_dblink(%s, %s)", [request, seconds]).fetchone()
    assert row is not None
    return floats(row[0])


def floats(numbers: Any) -> list[float]:
    """The numbers as float32 has them."""
    return [float(number) for number in np.array(numbers, np.float32)]


def vector(text: str | bytes) -> list[float]:
    return floats(vector_of(text))


@contextmanager
def role(connection: Connection) -> Iterator[str]:
    """An ordinary role, dropped with what it was granted."""
    name = f"likewise_test_{time.monotonic_ns()}"
    connection.execute(sql.SQL("create role {}").format(sql.Identifier(name)))
    connection.execute(sql.SQL("grant usage on schema likewise to {}").format(sql.Identifier(name)))
    try:
        yield name
    finally:
        connection.rollback()
        connection.execute("reset role")
        connection.execute(sql.SQL("drop owned by {0}; drop role {0}").format(sql.Identifier(name)))


@pytest.fixture
def running() -> Iterator[Running]:
    with serving(wayward) as running:
        yield running


async def wayward(request: WireRequest) -> NDArray[np.float32]:
    """Embeds, unless the text says what to do instead."""
    match request.input:
        case "sleep":
            await asyncio.sleep(60)
        case "unknown":
            raise ModelNotAvailable("there is no model 'mini'", model="mini")
        case "broken":
            raise KeyError("broken")
        case _:
            return await answer(request)
    raise AssertionError


@pytest.fixture
def connection(dblink_database_url: str, running: Running) -> Iterator[Connection]:
    with psycopg.connect(dblink_database_url, autocommit=True) as connection:
        connection.execute("create schema likewise")
        set_up(connection, running.port)
        yield connection


# Answers.


def test_texts_and_pictures(connection: Connection) -> None:
    for text in ("x", "", "Größe 'ß' \\ \n\t \" {} $1 %s $$ ; -- 漢字 😀", "x" * 100_000):
        assert ask(connection, text) == vector(text)
    picture = bytes(range(256)) * 100
    found = connection.execute(
        "select likewise.ask_by_dblink(jsonb_build_object('kind', 'image', 'input', encode(%b, 'base64'), 'model', 'mini'), 5)",
        [picture],
    ).fetchone()
    assert found is not None
    assert floats(found[0]) == vector(picture)


@pytest.mark.parametrize(
    "begin",
    [
        "begin",
        "begin isolation level repeatable read",
        "begin isolation level serializable",
        "begin read only",
        "begin isolation level repeatable read read only",
    ],
)
def test_in_any_transaction(connection: Connection, begin: str) -> None:
    connection.execute(own_sql(begin))
    assert ask(connection) == vector("x")
    assert ask(connection, "y") == vector("y")
    connection.execute("commit")


def test_on_a_hot_standby(connection: Connection, standby: str) -> None:
    with psycopg.connect(standby, autocommit=True) as there:
        assert there.execute("select pg_is_in_recovery()").fetchone() == (True,)
        assert ask(there) == vector("x")
        with pytest.raises(psycopg.DatabaseError, match="there is no model"):
            ask(there, "unknown")
        assert ask(there, "y") == vector("y")


def test_a_database_in_another_encoding(dblink_database_url: str, dblink_server: str, running: Running) -> None:
    name = sql.Identifier(f"likewise_test_latin1_{time.monotonic_ns()}")
    with psycopg.connect(dblink_server, autocommit=True) as server:
        server.execute(
            sql.SQL("create database {} template template0 encoding 'LATIN1' locale_provider libc locale 'C'").format(
                name
            )
        )
        try:
            with psycopg.connect(dblink_server, dbname=name.as_string(None).strip('"'), autocommit=True) as connection:
                set_up(connection, running.port)
                assert ask(connection, "Größe") == vector("Größe")
        finally:
            server.execute(sql.SQL("drop database {} with (force)").format(name))


def test_one_connection_is_kept(connection: Connection, running: Running) -> None:
    for _ in range(5):
        ask(connection)
        with pytest.raises(psycopg.DatabaseError, match="there is no model"):
            ask(connection, "unknown")
        ask(connection)
    assert len(running.server._logged_in) == 1
    assert connection.execute(
        sql.SQL("select {}.dblink_get_connections()").format(sql.Identifier(EXTENSION_SCHEMA))
    ).fetchone() == (["likewise_worker"],)


# Errors.


def test_the_worker_s_errors_are_the_statement_s(connection: Connection) -> None:
    with pytest.raises(psycopg.DatabaseError, match="there is no model") as unknown:
        ask(connection, "unknown")
    assert unknown.value.diag.message_primary == "there is no model 'mini'"
    assert "likewise models list" in (unknown.value.diag.message_hint or "")
    with pytest.raises(psycopg.DatabaseError, match="KeyError"):
        ask(connection, "broken")
    with pytest.raises(errors.InvalidParameterValue, match="kind of EMBED") as refused:
        ask(connection, kind="sound")
    assert refused.value.diag.message_hint is None


@pytest.mark.parametrize("text", ["unknown", "broken", "sleep"])
def test_after_an_error_the_transaction_and_the_connection_go_on(connection: Connection, text: str) -> None:
    with connection.transaction():
        ask(connection)
        for _ in range(2):
            with pytest.raises(psycopg.Error), connection.transaction():
                ask(connection, text, seconds=0.2)
            assert ask(connection, "y") == vector("y")


def test_the_time_is_up(connection: Connection) -> None:
    began = time.monotonic()
    with pytest.raises(psycopg.DatabaseError, match=r"no answer within 0\.[23]"):
        ask(connection, "sleep", seconds=0.3)
    assert 0.25 < time.monotonic() - began < 5


def test_a_worker_that_hangs_holds_nobody_for_longer_than_allowed(connection: Connection, running: Running) -> None:
    ask(connection)
    go_on = threading.Event()
    running.loop.call_soon_threadsafe(go_on.wait, 20)
    try:
        began = time.monotonic()
        with pytest.raises(psycopg.DatabaseError, match=r"no answer from the worker within 0\.3 s"):
            ask(connection, seconds=0.3)
        assert time.monotonic() - began < 5
    finally:
        go_on.set()
    assert ask(connection, "y") == vector("y")


def test_statement_timeout_and_cancel_reach_a_statement_that_waits(connection: Connection) -> None:
    connection.execute("set statement_timeout = '200ms'")
    began = time.monotonic()
    with pytest.raises(errors.QueryCanceled, match="statement timeout"):
        ask(connection, "sleep")
    connection.execute("set statement_timeout = 0")
    threading.Timer(0.2, connection.cancel).start()
    with pytest.raises(errors.QueryCanceled, match="user request"):
        ask(connection, "sleep")
    assert time.monotonic() - began < 5
    assert ask(connection, "y") == vector("y")


def test_another_worker_takes_over(dblink_database_url: str) -> None:
    with psycopg.connect(dblink_database_url, autocommit=True) as connection:
        with serving() as first:
            connection.execute("create schema likewise")
            set_up(connection, first.port)
            assert ask(connection) == vector("x")
        with serving(port=first.port):
            assert ask(connection) == vector("x")
            with connection.transaction():
                assert ask(connection, "y") == vector("y")
        with pytest.raises(psycopg.DatabaseError, match="no worker answers") as nobody:
            ask(connection)
        assert nobody.value.diag.message_primary == f"no worker answers at 127.0.0.1:{first.port}"
        assert nobody.value.diag.message_hint == f"start one: likewise worker --listen 127.0.0.1:{first.port}"
        assert "refused" in (nobody.value.diag.message_detail or "")
        with serving(port=first.port):
            assert ask(connection) == vector("x")


def test_a_worker_that_ends_while_it_is_asked(connection: Connection, running: Running) -> None:
    def end() -> None:
        for client in tuple(running.server._logged_in):
            client.abort()

    ask(connection)
    threading.Timer(0.3, lambda: running.loop.call_soon_threadsafe(end)).start()
    # It is asked once more, for the connection may have been a dead one: this time there is an answer, that the time is up.
    with pytest.raises(psycopg.DatabaseError, match="no answer within"):
        ask(connection, "sleep", seconds=1)


def test_something_else_listens_there(connection: Connection, running: Running) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        set_up(connection, other.getsockname()[1])

        def say() -> None:
            client, _ = other.accept()
            with client:
                client.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=say)
        thread.start()
        with pytest.raises(psycopg.DatabaseError, match="no worker answers"):
            ask(connection)
        thread.join()


def test_a_wrong_password(connection: Connection, running: Running) -> None:
    set_up(connection, running.port, password="wrong")
    with pytest.raises(errors.SqlclientUnableToEstablishSqlconnection, match="refuses the connection") as refused:
        ask(connection)
    assert "password authentication failed" in (refused.value.diag.message_detail or "")
    assert "wrong" not in str(refused.value)


@pytest.mark.parametrize(
    ("spoil", "kind", "words"),
    [
        ("drop extension dblink cascade", errors.UndefinedObject, "extension dblink is not installed"),
        ("drop server likewise_worker cascade", errors.UndefinedObject, "no foreign server"),
        ("drop user mapping for public server likewise_worker", errors.UndefinedObject, "user mapping not found"),
    ],
)
def test_what_is_missing_is_named(connection: Connection, spoil: str, kind: type[psycopg.Error], words: str) -> None:
    connection.execute(own_sql(spoil))
    with pytest.raises(kind, match=words) as missing:
        ask(connection)
    assert "user mapping" in words or "likewise install --transport dblink" in (missing.value.diag.message_hint or "")


@pytest.mark.parametrize(
    ("request_", "seconds", "kind"),
    [
        (None, 1, errors.NullValueNotAllowed),
        (REQUEST, None, errors.NullValueNotAllowed),
        (REQUEST, 0, errors.InvalidParameterValue),
        (REQUEST, -1, errors.InvalidParameterValue),
        (REQUEST, float("nan"), errors.InvalidParameterValue),
        (REQUEST, float("inf"), errors.InvalidParameterValue),
        ([1], 1, errors.SyntaxError),
        ("x", 1, errors.SyntaxError),
    ],
)
def test_wrong_arguments(
    connection: Connection, request_: object, seconds: float | None, kind: type[psycopg.Error]
) -> None:
    text = None if request_ is None else json.dumps(request_)
    with pytest.raises(kind):
        connection.execute("select likewise.ask_by_dblink(%s, %s)", [text, seconds])


# Who may.


def test_an_ordinary_role_with_usage(connection: Connection, running: Running) -> None:
    with role(connection) as name:
        connection.execute(sql.SQL("set role {}").format(sql.Identifier(name)))
        with pytest.raises(errors.InsufficientPrivilege, match="foreign server") as refused:
            ask(connection)
        assert refused.value.diag.message_hint == f"grant usage on foreign server likewise_worker to {name}"
        connection.execute("reset role")
        set_up(connection, running.port, roles=[name])
        connection.execute(sql.SQL("set role {}").format(sql.Identifier(name)))
        assert ask(connection) == vector("x")
        options = connection.execute("select usename, umoptions from pg_user_mappings").fetchall()
        assert options == [("public", None)], "a role that may ask can read the password"
        with pytest.raises(errors.InsufficientPrivilege):
            connection.execute("select umoptions from pg_user_mapping")


def test_a_kept_connection_is_not_lent_to_a_role_without_usage(connection: Connection) -> None:
    ask(connection)
    with role(connection) as name:
        connection.execute(sql.SQL("set role {}").format(sql.Identifier(name)))
        with pytest.raises(errors.InsufficientPrivilege):
            ask(connection)


def test_a_hostile_search_path(connection: Connection, running: Running) -> None:
    with role(connection) as name:
        set_up(connection, running.port, roles=[name])
        connection.execute(
            """
            create schema hostile;
            create table hostile.seen (what text);
            create function hostile.seen(what text) returns void language sql as 'insert into hostile.seen values (what)';
            create function hostile.dblink_connect(text, text) returns text language sql as $$select hostile.seen('connect'); select 'OK'$$;
            create function hostile.dblink_send_query(text, text) returns int language sql as $$select hostile.seen('send'); select 1$$;
            create function hostile.dblink_is_busy(text) returns int language sql as $$select hostile.seen('busy'); select 0$$;
            create function hostile.clock_timestamp() returns timestamptz language sql as $$select hostile.seen('clock'); select now()$$;
            create function hostile.minus(timestamptz, timestamptz) returns interval language sql
                as $$select hostile.seen('minus'); select '1 day'::interval$$;
            create operator hostile.- (leftarg = timestamptz, rightarg = timestamptz, function = hostile.minus);
            create view hostile.pg_extension as select 'dblink'::name as extname, 0::oid as extnamespace;
            create view hostile.pg_foreign_server as select 0::oid as oid, 'likewise_worker'::name as srvname, null::text[] as srvoptions;
            """
        )
        connection.execute("set search_path = hostile, pg_catalog, likewise")
        assert ask(connection) == vector("x")
        with pytest.raises(psycopg.DatabaseError, match="no answer within"):
            ask(connection, "sleep", seconds=0.1)
        assert connection.execute("select count(*) from hostile.seen").fetchone() == (0,)
        connection.execute("drop schema hostile cascade")


# How it is set up.


def test_the_statements_can_be_run_again_and_change_what_is_there(connection: Connection, running: Running) -> None:
    set_up(connection, running.port)
    assert ask(connection) == vector("x")
    set_up(connection, 1, host="worker.invalid", password="it's \\ an\"other %s", options={"sslmode": "verify-full"})
    row = connection.execute("select srvoptions from pg_foreign_server").fetchone()
    assert row is not None
    assert sorted(row[0]) == [
        "connect_timeout=5",
        "dbname=likewise",
        "host=worker.invalid",
        "port=1",
        "sslmode=verify-full",
    ]
    mappings = connection.execute("select usename, umoptions from pg_user_mappings").fetchall()
    assert mappings == [("public", ["user=likewise", "password=it's \\ an\"other %s"])]
    set_up(connection, running.port, options={"sslmode": "prefer"})
    assert ask(connection, "y") == vector("y")


def test_a_dblink_that_is_there_stays_where_it_is(dblink_database_url: str, running: Running) -> None:
    with psycopg.connect(dblink_database_url, autocommit=True) as connection:
        connection.execute('create schema "Other"; create extension dblink schema "Other"')
        set_up(connection, running.port)
        assert ask(connection) == vector("x")
        assert connection.execute("select to_regnamespace(%s)", [EXTENSION_SCHEMA]).fetchone() == (None,)


@pytest.mark.parametrize(
    "wrong",
    [
        {"host": ""},
        {"port": 0},
        {"port": 65_536},
        {"password": ""},
        {"password": "a\0b"},
        {"password": "ü"},
        {"options": {"sslmode": "\0"}},
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, Any]) -> None:
    given: dict[str, Any] = {"host": "127.0.0.1", "port": 5433, "password": "x", **wrong}
    with pytest.raises(InvalidArgument, match=r"worker"):
        dblink_statements(given.pop("host"), given.pop("port"), **given)
