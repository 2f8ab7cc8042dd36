"""Who gets into the worker's server, with TLS and without."""

from __future__ import annotations

import base64
import logging
import ssl
import struct
import time
from pathlib import Path

import pytest
import trustme
from psycopg import pq

from .wire_server import (
    GSS_REQUEST,
    PASSWORD,
    SSL_REQUEST,
    Raw,
    Running,
    embed,
    message,
    sasl_first,
    sasl_last,
    serving,
    startup,
)

OK = pq.ConnStatus.OK


def works(running: Running) -> bool:
    """Whether the server still answers others."""
    connection = running.connect()
    assert connection.status == OK, connection.get_error_message()
    found = embed(connection).get_value(0, 0)
    connection.finish()
    return found is not None


# Who gets in.


@pytest.mark.parametrize(
    "password", ["x", "pass wörd", "a\u00a0b", "\u2168", "I\u00adX", "a\u200bb", "'\\\"$", "\u0627\u0031"]
)
def test_any_password_is_understood_as_libpq_does(password: str) -> None:
    with serving(password=password) as running:
        connection = running.connect(password=password)
        assert connection.status == OK, connection.get_error_message()
        assert connection.used_password


def test_a_wrong_password_and_an_unknown_user_are_told_alike_and_late(caplog: pytest.LogCaptureFixture) -> None:
    with serving() as running:
        for user in ("likewise", "nobody"):
            began = time.monotonic()
            connection = running.connect(user=user, password="wrong")
            assert time.monotonic() - began > 0.5
            assert connection.status != OK
            assert f'password authentication failed for user "{user}"' in connection.get_error_message()
        assert running.connect(user="nobody").status != OK  # with the right password
    assert "a login was refused" in caplog.text


def test_an_unknown_user_has_a_salt_as_the_known_one_has() -> None:
    def salt(running: Running, user: str) -> bytes:
        with Raw(running) as raw:
            raw.send(startup(user=user) + sasl_first())
            raw.read()
            return raw.read()[1].split(b"s=")[1]

    with serving() as running:
        nobody = salt(running, "nobody")
        assert nobody == salt(running, "nobody") != salt(running, "likewise")
        assert salt(running, "likewise") == salt(running, "likewise")


def test_a_login_that_was_overheard_is_of_no_use() -> None:
    with serving(password="ascii") as running:
        with Raw(running) as raw:
            raw.send(startup())
            raw.read()
            raw.send(sasl_first())
            overheard = sasl_last(raw.read()[1][4:], "ascii")
            raw.send(overheard)
            assert raw.until(b"Z")[-1][0] == b"Z"
        with Raw(running) as raw:
            raw.send(startup())
            raw.read()
            raw.send(sasl_first())
            raw.read()
            raw.send(overheard)
            assert raw.error() == "28P01"


@pytest.mark.parametrize(
    "messages",
    [
        [message(b"Q", b"EMBED {}\0")],
        [message(b"p", PASSWORD.encode() + b"\0")],
        [sasl_first(mechanism=b"SCRAM-SHA-256-PLUS")],
        [sasl_first(header=b"p=tls-server-end-point,,")],
        [message(b"p", b"SCRAM-SHA-256\0" + struct.pack("!i", -1))],
        [message(b"p", b"SCRAM-SHA-256\0" + struct.pack("!i", 1 << 30) + b"n,,n=,r=x")],
        [sasl_first(), message(b"p", b"")],
        [sasl_first(), message(b"p", b"c=biws,r=abcdefgh,p=" + base64.b64encode(bytes(32)))],
        [sasl_first(), sasl_first()],
        [b"p" + struct.pack("!I", 1 << 31)],
        [b"p" + struct.pack("!I", 100_000)],
    ],
)
def test_there_is_no_other_way_in(messages: list[bytes]) -> None:
    with serving() as running, Raw(running) as raw:
        raw.send(startup())
        assert raw.read()[0] == b"R"
        raw.send(b"".join(messages))
        came = raw.until(b"E")
        assert came[-1][0] == b"E"
        assert not [body for kind, body in came if kind == b"R" and body[:4] == b"\0\0\0\0"]
        assert works(running)


def test_nothing_secret_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with serving(password="the-secret-word") as running:
        connection = running.connect(password="the-secret-word")
        embed(connection, "what somebody searches for")
        connection.finish()
        running.connect(password="the-wrong-word").finish()
    told = " ".join(str(record.__dict__) for record in caplog.records)
    assert "listening" in told
    assert not [word for word in ("secret-word", "wrong-word", "somebody searches") if word in told]


# TLS.


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def context(authority: trustme.CA) -> ssl.SSLContext:
    made = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(made)
    return made


def test_with_a_certificate_there_is_tls_and_nothing_else(
    authority: trustme.CA, context: ssl.SSLContext, tmp_path: Path
) -> None:
    authority.cert_pem.write_to_path(tmp_path / "root.crt")
    with serving(ssl=context) as running:
        connection = running.connect(sslmode="verify-full", sslrootcert=str(tmp_path / "root.crt"))
        assert connection.status == OK, connection.get_error_message()
        assert embed(connection, "x" * 300_000).ntuples == 1
        connection.finish()
        assert running.connect(sslmode="require", channel_binding="require").status != OK
        refused = running.connect(sslmode="disable")
        assert "wants TLS" in refused.get_error_message()


def test_plain_bytes_before_tls_are_not_taken_for_encrypted_ones(context: ssl.SSLContext) -> None:
    with serving(ssl=context) as running, Raw(running) as raw:
        raw.send(SSL_REQUEST + startup())
        assert raw.error() == "08P01"


def test_a_handshake_that_fails_is_the_end_of_one_connection_only(context: ssl.SSLContext) -> None:
    with serving(ssl=context) as running:
        with Raw(running) as raw:
            raw.send(SSL_REQUEST)
            assert raw.take(1) == b"S"
            raw.send(startup() * 10)
            raw.take(100)
        assert running.connect(sslmode="require").status == OK


def test_without_a_certificate_there_is_no_encryption() -> None:
    with serving() as running, Raw(running) as raw:
        for request in (GSS_REQUEST, SSL_REQUEST):
            raw.send(request)
            assert raw.take(1) == b"N"
        raw.send(startup())
        assert raw.read()[0] == b"R"
