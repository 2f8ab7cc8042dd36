"""The worker's server as clients meet it: libpq, and sockets that say what no client says."""

from __future__ import annotations

import asyncio
import base64
import json
import struct
import threading
import time

import numpy as np
import psycopg
import pytest
from numpy.typing import NDArray
from psycopg import pq

from likewise.errors import InvalidArgument, ModelNotAvailable
from likewise.worker.wire import WireRequest, WireServer

from .wire_server import (
    CANCEL_REQUEST,
    GSS_REQUEST,
    SSL_REQUEST,
    Raw,
    Running,
    answer,
    embed,
    fields,
    message,
    result_of,
    sasl_first,
    serving,
    startup,
    vector_of,
)

OK = pq.ConnStatus.OK
TOLD = {
    "server_encoding": "UTF8",
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "postgres",
    "integer_datetimes": "on",
    "standard_conforming_strings": "on",
    "TimeZone": "UTC",
}


def works(running: Running) -> bool:
    """Whether the server still answers others."""
    connection = running.connect()
    assert connection.status == OK, connection.get_error_message()
    found = embed(connection).get_value(0, 0)
    connection.finish()
    return found is not None


# What it is for.


def test_a_vector_comes_back_as_it_was() -> None:
    numbers = np.array([1 / 3, -0.0, 1e-38, 3.4028235e38, 16777217, np.pi], np.float32)

    async def fixed(_: WireRequest) -> NDArray[np.float32]:
        return numbers

    with serving(fixed) as running:
        result = embed(running.connect())
    assert (result.status, result.ntuples, result.nfields) == (pq.ExecStatus.TUPLES_OK, 1, 1)
    assert (result.fname(0), result.ftype(0), result.fformat(0)) == (b"vector", 1021, 0)
    value = result.get_value(0, 0).decode()
    assert np.array_equal(np.array(value.strip("{}").split(","), np.float64).astype(np.float32), numbers)


def test_a_request_comes_as_it_was_sent() -> None:
    asked: list[WireRequest] = []

    async def note(request: WireRequest) -> NDArray[np.float32]:
        asked.append(request)
        return await answer(request)

    with serving(note, seconds=7.0) as running:
        connection = running.connect()
        embed(connection, "Größe 'ß' \\ \n 漢字", model=["mini", "1", 384, ""], within=3)
        embed(connection, base64.b64encode(b"\0picture").decode(), kind="image", within=100)
    assert asked == [
        WireRequest("Größe 'ß' \\ \n 漢字", ("mini", "1", 384, ""), 3.0),
        WireRequest(b"\0picture", "mini", 7.0),
    ]


def test_what_a_client_is_told_of_the_server() -> None:
    with serving() as running:
        connection = running.connect()
        told = {
            name: (connection.parameter_status(name.encode()) or b"").decode() for name in (*TOLD, "client_encoding")
        }
        assert connection.server_version == 140000
        assert connection.backend_pid > 0
        assert connection.transaction_status == pq.TransactionStatus.IDLE
    assert told == {**TOLD, "client_encoding": "UTF8"}


def test_statements_and_their_errors_leave_the_connection_usable() -> None:
    with serving() as running:
        connection = running.connect()
        assert connection.exec_(b"").status == pq.ExecStatus.EMPTY_QUERY
        assert connection.exec_(b"set datestyle to 'ISO'").status == pq.ExecStatus.COMMAND_OK
        sqlstate, text, hint = fields(connection.exec_(b"select 1"))
        assert (sqlstate, "worker of Likewise" in text, "EMBED" in hint) == ("0A000", True, True)
        assert fields(connection.exec_(b"EMBED {}"))[0] == "22023"
        assert fields(connection.exec_(b"\xff\xfe"))[0] == "22021"
        assert embed(connection).ntuples == 1


def test_the_extended_protocol_is_refused_until_sync() -> None:
    with serving() as running:
        connection = running.connect()
        assert fields(connection.exec_params(b"select $1", [b"1"]))[0] == "0A000"
        assert embed(connection).ntuples == 1
    with serving() as running, psycopg.connect(running.conninfo(), autocommit=True) as client:
        with pytest.raises(psycopg.errors.FeatureNotSupported, match="extended protocol"):
            client.execute("select %s", [1])


def test_calls_of_functions_are_refused() -> None:
    with serving(password="ascii") as running, Raw(running) as raw:
        raw.log_in("ascii")
        raw.send(message(b"F", struct.pack("!IHHH", 1, 0, 0, 0)))
        assert [kind for kind, _ in raw.until(b"Z")] == [b"E", b"Z"]


@pytest.mark.parametrize("how", ["at the start", "later"])
def test_other_encodings(how: str) -> None:
    asked: list[str | bytes] = []

    async def refuse(request: WireRequest) -> NDArray[np.float32]:
        asked.append(request.input)
        raise InvalidArgument("größer als erlaubt: 漢")

    with serving(refuse) as running:
        connection = running.connect(**({"client_encoding": "LATIN1"} if how == "at the start" else {}))
        if how == "later":  # as dblink does it in a database in this encoding
            assert connection.exec_(b"set client_encoding to 'LATIN1'").status == pq.ExecStatus.COMMAND_OK
        assert connection.parameter_status(b"client_encoding") == b"LATIN1"
        result = embed(connection, "Größe", codec="latin-1")
    assert asked == ["Größe"]
    assert result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY) == "größer als erlaubt: ?".encode("latin-1")


def test_an_encoding_that_is_not_known() -> None:
    with serving() as running:
        connection = running.connect(client_encoding="MULE_INTERNAL")
        assert connection.status != OK
        assert b"MULE_INTERNAL" in connection.get_error_message().encode()


# Errors of what embeds.


def test_an_error_of_the_model_reaches_the_client() -> None:
    async def absent(_: WireRequest) -> NDArray[np.float32]:
        raise ModelNotAvailable("there is no model 'x'", model="x")

    with serving(absent) as running:
        sqlstate, text, hint = fields(embed(running.connect()))
    assert (sqlstate, text) == ("LW005", "there is no model 'x'")
    assert "likewise models list" in hint


@pytest.mark.parametrize("numbers", [[float("nan"), 0], [float("inf")], [], [[1.0]]])
def test_what_is_no_vector_is_an_error_of_the_worker(numbers: list[object], caplog: pytest.LogCaptureFixture) -> None:
    async def odd(_: WireRequest) -> NDArray[np.float32]:
        return np.array(numbers, np.float32)

    with serving(odd) as running:
        assert fields(embed(running.connect()))[0] == "LW006"
    assert "not finite" in caplog.text


def test_the_time_is_up() -> None:
    cancelled = threading.Event()

    async def slow(_: WireRequest) -> NDArray[np.float32]:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()
            raise
        raise AssertionError

    with serving(slow) as running:
        connection = running.connect()
        sqlstate, text, _ = fields(embed(connection, within=0.05))
        assert (sqlstate, "0.05 s" in text) == ("LW002", True)
        assert cancelled.wait(5)
        assert fields(connection.exec_(b"select 1"))[0] == "0A000"


def test_a_client_that_goes_is_not_worked_for() -> None:
    asked, cancelled = threading.Event(), threading.Event()

    async def slow(_: WireRequest) -> NDArray[np.float32]:
        asked.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()
            raise
        raise AssertionError

    with serving(slow) as running:
        connection = running.connect()
        connection.send_query(b'EMBED {"kind": "text", "input": "x", "model": "m", "within": 60}')
        assert asked.wait(5)
        connection.finish()
        assert cancelled.wait(5)


# Lengths, versions, and other things that are not to be believed.


@pytest.mark.parametrize(
    "sent",
    [
        struct.pack("!I", 0),
        struct.pack("!I", 4),
        struct.pack("!I", 7) + b"abc",
        struct.pack("!i", -1),
        struct.pack("!I", 0x7FFFFFFF) + b"x" * 100,
        struct.pack("!I", 4101) + bytes(4097),
        struct.pack("!III", 12, 3 << 16, 0x61616161),
        struct.pack("!II", 10, 3 << 16) + b"\0\0",
        struct.pack("!II", 14, 3 << 16) + b"user\0\0",
        struct.pack("!II", 12, 3 << 16) + b"\xff\0\xff\0",
        struct.pack("!III", 12, (1234 << 16) | 5679, 0),
        startup(version=2 << 16),
        startup(version=4 << 16),
        startup(replication="database"),
        startup(client_encoding="x"),
        SSL_REQUEST + SSL_REQUEST,
        SSL_REQUEST + startup(),
        GSS_REQUEST + startup(),
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        bytes.fromhex("16030100f8010000f40303") + bytes(100),
    ],
)
def test_malformed_beginnings(sent: bytes) -> None:
    with serving() as running:
        with Raw(running) as raw:
            raw.send(sent)
            assert raw.error()
            assert raw.take(1) == b""
        assert works(running)


@pytest.mark.parametrize("end", range(1, 30, 4))
def test_clients_that_go_in_the_middle_of_a_message(end: int) -> None:
    with serving() as running:
        with Raw(running) as raw:
            raw.send((startup() + sasl_first())[:end])
        assert works(running)


@pytest.mark.parametrize(
    ("sent", "sqlstate"),
    [
        (b"Q" + struct.pack("!I", 3), "08P01"),
        (b"Q" + struct.pack("!i", -5), "08P01"),
        (b"Q" + struct.pack("!I", 100_006), "54000"),
        (message(b"Q", b""), "08P01"),
        (message(b"Q", b"a\0b\0"), "08P01"),
        (message(b"Q", b"no NUL"), "08P01"),
        (message(b"!", b""), "08P01"),
    ],
)
def test_malformed_messages_end_the_connection(sent: bytes, sqlstate: str) -> None:
    with serving(password="ascii", most_bytes=100_000) as running:
        with Raw(running) as raw:
            raw.log_in("ascii")
            raw.send(sent)
            assert raw.error() == sqlstate
            assert raw.take(1) == b""
        assert works_as(running, "ascii")


def works_as(running: Running, password: str) -> bool:
    return bool(embed(running.connect(password=password)).ntuples == 1)


def test_the_longest_message_is_read_and_one_byte_more_is_not() -> None:
    with serving(password="ascii", most_bytes=100_000) as running, Raw(running) as raw:
        head = b'EMBED {"kind": "text", "model": "mini", "within": 10, "input": "'
        longest = head + b"x" * (100_000 - len(head) - 3) + b'"}\0'
        raw.log_in("ascii")
        raw.send(message(b"Q", longest))
        assert [kind for kind, _ in raw.until(b"Z")] == [b"T", b"D", b"C", b"Z"]
        raw.send(message(b"Q", b" " + longest))
        assert raw.error() == "54000"


def test_many_messages_at_once_are_answered_in_order() -> None:
    queries = [json.dumps({"kind": "text", "input": str(n), "model": "m", "within": 9}) for n in range(500)]
    with serving(password="ascii") as running, Raw(running) as raw:
        raw.log_in("ascii")
        sending = threading.Thread(
            target=lambda: raw.send(b"".join(message(b"Q", f"EMBED {query}\0".encode()) for query in queries))
        )
        sending.start()
        rows = [body for _ in queries for kind, body in raw.until(b"Z") if kind == b"D"]
        sending.join()
    found = [row[6:].decode() for row in rows]
    wanted = [vector_of(str(n)) for n in range(500)]
    assert [np.array(f.strip("{}").split(","), np.float32).tolist() for f in found] == [w.tolist() for w in wanted]


def test_versions_and_options_are_negotiated() -> None:
    with serving() as running, Raw(running) as raw:
        raw.send(startup(version=(3 << 16) | 9999, **{"_pq_.better": "1"}))
        kind, body = raw.read()
        assert (kind, struct.unpack_from("!II", body), body[8:]) == (b"v", (3 << 16, 1), b"_pq_.better\0")
        assert raw.read()[0] == b"R"


@pytest.mark.skipif(pq.version() < 180000, reason="older clients speak 3.0 only")
def test_libpq_takes_the_older_version() -> None:
    with serving() as running:
        assert embed(running.connect(max_protocol_version="latest")).ntuples == 1


def test_a_cancel_request_is_closed_without_a_word() -> None:
    with serving() as running, Raw(running) as raw:
        raw.send(CANCEL_REQUEST)
        assert raw.take(1) == b""


# How many, how long.


def test_a_login_may_not_take_long() -> None:
    with serving(login_seconds=0.3) as running, Raw(running) as silent, Raw(running) as dripping:
        began = time.monotonic()
        for byte in startup()[:-1]:
            dripping.send(bytes([byte]))
            time.sleep(0.001)
        assert silent.error() == "57014"
        assert dripping.error() == "57014"
        assert time.monotonic() - began < 5


def test_there_are_only_so_many_connections() -> None:
    with serving(most_connections=2) as running:
        kept = [running.connect(), running.connect()]
        assert "2 clients are connected" in running.connect().get_error_message()
        kept.pop().finish()
        assert works_soon(running)


def works_soon(running: Running) -> bool:
    for _ in range(100):
        if running.connect().status == OK:
            return True
        time.sleep(0.02)
    return False


def test_those_who_do_not_log_in_do_not_keep_those_out_who_are_in() -> None:
    with serving(most_connections=2, login_seconds=30) as running:
        inside = running.connect()
        waiting = [Raw(running) for _ in range(60)]
        try:
            refused = [raw for raw in waiting[50:] if raw.error() == "53300"]
            assert len(refused) == 10
            assert embed(inside).ntuples == 1
        finally:
            for raw in waiting:
                raw.socket.close()
        assert works_soon(running)


def test_it_stops_after_the_answers_under_way() -> None:
    asked = threading.Event()

    async def slow(request: WireRequest) -> NDArray[np.float32]:
        asked.set()
        await asyncio.sleep(0.3)
        return vector_of(request.input)

    with serving(slow, password="ascii") as running, Raw(running) as idle, Raw(running) as silent:
        idle.log_in("ascii")
        busy = running.connect(password="ascii")
        busy.send_query(b'EMBED {"kind": "text", "input": "x", "model": "m", "within": 60}')
        assert asked.wait(5)
        running.stop()
        assert result_of(busy).ntuples == 1
        assert idle.error() == "57P01"
        assert silent.error() == "57P01"


def test_it_stops_although_an_answer_does_not_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("likewise.worker.wire._GRACE_SECONDS", 0.2)
    asked = threading.Event()

    async def never(_: WireRequest) -> NDArray[np.float32]:
        asked.set()
        await asyncio.sleep(3600)
        raise AssertionError

    with serving(never, password="ascii") as running, Raw(running) as raw:
        raw.log_in("ascii")
        raw.send(message(b"Q", b'EMBED {"kind": "text", "input": "x", "model": "m", "within": 60}\0'))
        assert asked.wait(5)
        began = time.monotonic()
        running.stop()
        assert raw.error() == "57P01"
        assert time.monotonic() - began < 5


def test_a_port_that_is_taken_is_named() -> None:
    with serving() as running:
        with pytest.raises(InvalidArgument, match=rf"cannot listen on 127\.0\.0\.1:{running.port}: .*in use"):
            with serving(port=running.port):
                raise AssertionError


@pytest.mark.parametrize("wrong", [{"password": ""}, {"host": ""}])
def test_there_is_no_server_without_password_or_address(wrong: dict[str, str]) -> None:
    with pytest.raises(InvalidArgument):
        WireServer(answer, **{"host": "127.0.0.1", "port": 0, "password": "x", **wrong})  # type: ignore[arg-type]
