"""The embedded server when processes die: the owner, the postmaster, initdb; and what a crash leaves behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from likewise.backends.postgres.embedded import EmbeddedServer, cluster, paths, postmaster
from likewise.errors import BackendError, BackendUnavailable

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")

#: For other processes: what we can import, they can.
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that everybody may enter (pytest's own are closed to the user that root's server runs as)."""
    folder = Path(tempfile.mkdtemp(prefix="lw-", dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    left = processes_below(folder)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    shutil.rmtree(folder)
    assert not left, "a test left its server running"


def processes_below(folder: Path) -> list[int]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").readlink().is_relative_to(folder):
                found.append(int(process.name))
        except OSError:
            continue
    return found


def owner(folder: Path, code: str = "print('up', flush=True); sys.stdin.readline()") -> subprocess.Popen[str]:
    """Another process that starts the server in ``folder``, then runs ``code``; returns once it has said a line."""
    text = (
        "import sys, time; from pathlib import Path\n"
        "from likewise.backends.postgres.embedded import EmbeddedServer\n"
        f"server = EmbeddedServer(Path({str(folder)!r}))\nserver.start()\n{code}"
    )
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", text],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    return process


def kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def postmaster_of(directory: Path) -> int:
    note = postmaster.read_note(paths.Home(directory, 18))
    assert note is not None
    return note.pid


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def count(server: EmbeddedServer) -> int:
    with psycopg.connect(server.url()) as connection:
        row = connection.execute("select count(*) from kept").fetchone()
    assert row is not None
    return int(row[0])


def fill(server: EmbeddedServer) -> None:
    with psycopg.connect(server.url()) as connection:
        connection.execute("create table kept as select generate_series(1, 1000)")


def test_after_a_killed_owner_the_next_user_joins_and_as_the_last_stops_the_server(place: Path) -> None:
    first = owner(place / "db")
    pid = postmaster_of(place / "db")
    kill(first)
    server = EmbeddedServer(place / "db")
    assert server.is_running
    with server:
        assert postmaster_of(place / "db") == pid
    assert not server.is_running
    assert processes_below(place) == []


def test_a_killed_user_does_not_count_any_more(place: Path) -> None:
    with EmbeddedServer(place / "db") as server:
        kill(owner(place / "db"))
        assert server.is_running
    assert not server.is_running


def test_a_killed_postmaster_is_started_again_with_its_data(place: Path) -> None:
    server = EmbeddedServer(place / "db")
    with server:
        fill(server)
        os.kill(postmaster_of(place / "db"), signal.SIGKILL)
        until(lambda: not server.is_running)
        server.start()  # the same user notices too
        assert count(server) == 1000
        os.kill(postmaster_of(place / "db"), signal.SIGKILL)
        with EmbeddedServer(place / "db") as other:
            assert count(other) == 1000
    assert not server.is_running


def test_owner_and_postmaster_killed_together_are_recovered_from(place: Path) -> None:
    first = owner(place / "db")
    pid = postmaster_of(place / "db")
    kill(first)
    os.kill(pid, signal.SIGKILL)
    with EmbeddedServer(place / "db") as server:
        fill(server)
        assert count(server) == 1000


@pytest.mark.slow
def test_a_busy_process_of_a_dead_server_is_ended_before_the_next_start(place: Path) -> None:
    said: list[str] = []
    with EmbeddedServer(place / "db", progress=said.append) as server:
        started = threading.Event()

        def be_busy() -> None:
            connection = psycopg.connect(server.url())
            started.set()
            with pytest.raises(psycopg.OperationalError):
                connection.execute("do $$ begin loop end loop; end $$")
            connection.close()

        thread = threading.Thread(target=be_busy)
        thread.start()
        started.wait()
        time.sleep(0.5)
        os.kill(postmaster_of(place / "db"), signal.SIGKILL)
        until(lambda: not server.is_running)
        assert processes_below(place) != []
        server.start()
        thread.join()
        fill(server)
        assert count(server) == 1000


def test_a_stale_note_with_the_number_of_another_process_does_not_stop_the_start(place: Path) -> None:
    with EmbeddedServer(place / "db") as server:
        note = place / "db" / "18" / "data" / "postmaster.pid"
        text = note.read_text()
    lines = text.split("\n")
    # In a restarted container the number is soon that of someone else. The process is of the server's own user.
    user = {"user": note.parent.stat().st_uid, "extra_groups": []} if os.geteuid() == 0 else {}
    with subprocess.Popen(["/bin/sleep", "60"], cwd="/", **user) as sleeper:  # type: ignore[call-overload]
        note.write_text("\n".join([str(sleeper.pid), *lines[1:]]))
        shutil.chown(note, note.parent.stat().st_uid)
        with server:
            assert server.is_running
        assert sleeper.poll() is None, "a process that is not PostgreSQL's was ended"
        sleeper.kill()
    note.write_text("")  # a machine that lost its power
    shutil.chown(note, note.parent.stat().st_uid)
    with server:
        assert server.is_running


def test_a_kill_during_initdb_leaves_nothing_that_looks_like_a_database(place: Path) -> None:
    home = place / "db" / "18"
    text = f"from pathlib import Path; from likewise.backends.postgres.embedded import EmbeddedServer; EmbeddedServer(Path({str(place / 'db')!r})).start()"
    starter = subprocess.Popen([sys.executable, "-c", text], env=ENVIRONMENT, start_new_session=True)
    until(lambda: any((folder / "global").exists() for folder in home.glob("data.*.new")))
    os.killpg(starter.pid, signal.SIGKILL)  # with its initdb
    starter.wait()
    assert not (home / "data").exists()
    with EmbeddedServer(place / "db") as server:
        fill(server)
    assert list(home.glob("*.new")) == []


def test_a_kill_right_after_the_start_leaves_a_database_that_the_next_user_completes(place: Path) -> None:
    home = place / "db" / "18"
    text = f"from pathlib import Path; from likewise.backends.postgres.embedded import EmbeddedServer; EmbeddedServer(Path({str(place / 'db')!r})).start()"
    starter = subprocess.Popen([sys.executable, "-c", text], env=ENVIRONMENT)
    until((home / "data" / "postmaster.pid").exists)
    starter.kill()
    starter.wait()
    with EmbeddedServer(place / "db") as server, psycopg.connect(server.url()) as connection:
        connection.execute("select '[1]'::vector")


def test_a_start_that_fails_tells_the_end_of_the_log_without_the_password(place: Path) -> None:
    with EmbeddedServer(place / "db") as server:
        pass
    home = paths.Home(place / "db", 18)
    with (home.data / "postgresql.conf").open("a") as file:
        file.write("shared_buffers = 'as much as it takes'\n")
    with home.log.open("a") as file:
        file.write(f"password '{cluster.read_password(home)}'\n")
    with pytest.raises(BackendUnavailable, match=r"(?s)did not start.*shared_buffers") as caught:
        server.start()
    assert cluster.read_password(home) not in str(caught.value)
    assert cluster.read_password(home) not in postmaster.recent_log(home, 0)
    assert processes_below(place) == []


def test_a_lost_password_file_is_reported_with_a_cure_and_nothing_stays_running(place: Path) -> None:
    with EmbeddedServer(place / "db") as server:
        pass
    (place / "db" / "18" / "password").unlink()
    with pytest.raises(BackendError, match="single-user mode"):
        server.start()
    assert processes_below(place) == []


def test_a_log_that_has_grown_big_is_put_aside(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with EmbeddedServer(place / "db") as server:
        pass
    monkeypatch.setattr(postmaster, "LOG_LIMIT", 100)
    with server:
        pass
    home = paths.Home(place / "db", 18)
    assert home.log.with_name("server.log.old").exists()


def test_closing_after_the_folder_was_deleted_is_no_error(place: Path) -> None:
    server = EmbeddedServer(place / "db")
    server.start()
    pid = postmaster_of(place / "db")
    shutil.rmtree(place / "db")
    server.close()
    os.kill(pid, signal.SIGQUIT)
    until(lambda: not Path("/proc", str(pid)).exists())


def test_a_long_wait_says_now_and_then_what_it_waits_for(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(time, "sleep", lambda step: now.__setitem__(0, now[0] + 100 * step))
    said: list[str] = []
    ticker = postmaster.Ticker(60, said.append, "recovering")
    while ticker.wait():
        pass
    assert now[0] >= 60
    assert said[0].startswith("recovering (")
    assert 8 <= len(said) <= 14
