"""The embedded server as its users meet it: starting, joining, leaving, and what nobody else can get at.

What happens when processes are killed is in ``test_embedded_faults.py``. Run as root, the server's user is another one than
ours, and the ordinary user's case runs in a process that has given up root.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from likewise.backends.postgres.embedded import EmbeddedServer, binaries, paths, postmaster
from likewise.backends.postgres.embedded.privileges import Account, choose_account, may_use
from likewise.errors import BackendUnavailable, InvalidArgument

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the Windows code path is untested")

ROOT = os.geteuid() == 0 if sys.platform != "win32" else False
#: Two ordinary users; initdb wants them to be listed.
NOBODY, DAEMON = 65534, 1
#: For other processes: what we can import, they can.
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}

# What a process that gives up root may no longer be able to import.
PRELUDE = """
import encodings.idna, fcntl, getpass, os, platformdirs.unix, psycopg, pwd, shutil, signal, socket, subprocess, sys, time
from pathlib import Path
from likewise.backends.postgres.embedded import EmbeddedServer
uid = int(sys.argv[1])
if uid:
    os.setgroups([]); os.setgid(uid); os.setuid(uid)
folder = Path(sys.argv[2])
"""


def script(code: str, folder: Path, *, uid: int = 0) -> subprocess.Popen[str]:
    """Another process that runs ``code`` with ``folder``, as user ``uid`` (0: as ourselves), spoken to through its pipes."""
    if uid and ROOT and not may_use(Account(uid=uid, gid=uid, name=str(uid), switch=True), Path(sys.prefix)):
        pytest.skip(f"other users cannot reach this Python: {sys.prefix}")
    command = [sys.executable, "-W", "error", "-c", PRELUDE + code, str(uid), str(folder)]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT
    )


def finish(process: subprocess.Popen[str], say: str = "") -> str:
    """Send a line, wait for the end, and give back what was printed; an exit status other than 0 is a failure."""
    out, err = process.communicate(say, timeout=60)
    assert process.returncode == 0, err
    return out


STAY = """
with EmbeddedServer(folder) as server:
    print(server.url(), flush=True)
    sys.stdin.readline()
"""


def servers_below(folder: Path) -> list[int]:
    """Processes of PostgreSQL that work in a folder below this one."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").readlink().is_relative_to(folder):
                found.append(int(process.name))
        except OSError:
            continue
    return found


def users_of(processes: list[int]) -> set[int]:
    """Whose these processes are; of those that have ended since they were listed nothing is said."""
    users = set()
    for pid in processes:
        with contextlib.suppress(FileNotFoundError):
            users.add(Path(f"/proc/{pid}").stat().st_uid)
    return users


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that everybody may enter (pytest's own are closed to the user that root's server runs as)."""
    folder = Path(tempfile.mkdtemp(prefix="lw-", dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    left = servers_below(folder)
    for pid in left:
        os.kill(pid, 9)
    shutil.rmtree(folder)
    assert not left, "a test left its server running"


def one(server: EmbeddedServer, query: str) -> object:
    with psycopg.connect(server.url()) as connection:
        row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return row[0]


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# -- starting and leaving


def test_the_first_start_makes_a_database_with_pgvector_and_a_restart_keeps_it(place: Path) -> None:
    said: list[str] = []
    began = time.monotonic()
    with EmbeddedServer(place / "db", progress=said.append) as server:
        first = time.monotonic() - began
        assert one(server, "select current_database()") == "likewise"
        assert one(server, "select current_user") == "likewise"
        assert one(server, "select '[1,2]'::vector <-> '[1,4]'") == 2.0
        with psycopg.connect(server.url()) as connection:
            connection.execute("create table kept as select 1 as number")
        assert server.is_running
        assert server.version == 18
    assert not server.is_running
    assert any("creating" in text for text in said)
    began = time.monotonic()
    with server:
        again = time.monotonic() - began
        assert one(server, "select number from kept") == 1
    print(f"first start {first:.2f} s, restart {again:.2f} s")
    assert again < 5


def test_the_constructor_touches_nothing(place: Path) -> None:
    server = EmbeddedServer(place / "db")
    assert server.directory == place / "db"
    assert not server.is_running
    assert list(place.iterdir()) == []
    with pytest.raises(BackendUnavailable, match="not been started"):
        server.url()


def test_starting_twice_and_closing_twice_is_starting_and_closing_once(place: Path) -> None:
    server = EmbeddedServer(place / "db")
    server.start()
    server.start()
    server.close()
    assert not server.is_running
    server.close()


def test_two_objects_and_many_threads_share_one_server(place: Path) -> None:
    servers = [EmbeddedServer(place / "db") for _ in range(4)]
    errors: list[BaseException] = []

    def start(server: EmbeddedServer) -> None:
        try:
            server.start()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=start, args=(server,)) for server in [*servers, *servers]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len({one(server, "select pg_postmaster_start_time()::text") for server in servers}) == 1
    for server in servers[:3]:
        server.close()
        assert servers[3].is_running
    servers[3].close()
    assert not servers[3].is_running


def test_several_processes_share_the_server_and_the_last_one_stops_it(place: Path) -> None:
    others = [script(STAY, place / "db") for _ in range(3)]
    for other in others:
        assert other.stdout is not None
        assert other.stdout.readline().startswith("postgresql://")
    with EmbeddedServer(place / "db") as server:
        for other in others:
            finish(other, "go\n")
        assert server.is_running
    assert not server.is_running


def test_a_server_that_is_kept_runs_on_until_a_user_without_that_wish_is_the_last(place: Path) -> None:
    finish(script("EmbeddedServer(folder, keep_running=True).start()", place / "db"))
    later = EmbeddedServer(place / "db")
    assert later.is_running
    with later:
        assert one(later, "select 1") == 1
    assert not later.is_running


def test_a_server_that_nobody_closed_stops_at_the_exit_of_the_program(place: Path) -> None:
    finish(script("EmbeddedServer(folder).start()", place / "db"))
    assert not EmbeddedServer(place / "db").is_running


def test_a_forked_child_does_not_stop_its_parents_server(place: Path) -> None:
    code = """
with EmbeddedServer(folder) as server:
    child = os.fork()
    if child == 0:
        server.close()
        sys.exit(0 if server.is_running else 3)  # with the handlers of a normal exit
    assert os.waitpid(child, 0)[1] == 0
    assert server.is_running
    child = os.fork()
    if child == 0:
        time.sleep(60)  # outlives its parent's use: that must not keep the server
assert not server.is_running
os.kill(child, signal.SIGKILL)
os.waitpid(child, 0)
"""
    finish(script(code, place / "db"))


# -- paths


@pytest.mark.parametrize("name", ["two words", 'o\'clock "quoted" $HOME `id`; 100% \\back', "Ünïcode-語, comma"])
def test_any_character_may_be_in_the_path(place: Path, name: str) -> None:
    with EmbeddedServer(place / name) as server:
        assert one(server, "select 1") == 1


def test_a_path_too_long_for_a_socket_gets_a_private_socket_folder_and_a_password(place: Path) -> None:
    directory = place / ("long" * 30) / "db"
    with EmbeddedServer(directory) as server:
        assert one(server, "select 1") == 1
        note = postmaster.read_note(paths.Home(directory, server.version))
        assert note is not None
        folder = Path(note.host)
        assert not folder.is_relative_to(place)
        assert mode(folder) == 0o700
        assert folder.stat().st_uid == (directory / str(server.version)).stat().st_uid
        assert one(server, "select count(*) from pg_hba_file_rules where auth_method <> 'scram-sha-256'") == 0
    assert not folder.exists()


@pytest.mark.parametrize("trap", ["symlink", "open", "foreign"])
def test_a_socket_folder_that_somebody_prepared_is_not_used(
    place: Path, trap: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if trap == "foreign" and not ROOT:
        pytest.skip("only root can give a folder away")
    monkeypatch.setattr(paths, "SHORT_FOLDERS", (place / "short",))
    account = choose_account([])
    home = paths.Home(place / ("long" * 30), 18)
    (place / "short").mkdir()
    expected = paths.choose_socket_folder(home, account)
    expected.rmdir()
    if trap == "symlink":
        paths.own_folder(place / "elsewhere", account)
        expected.symlink_to(place / "elsewhere")
    else:
        expected.mkdir(mode=0o700)
        os.chown(expected, account.uid if trap == "open" else 4242, -1)
        if trap == "open":
            expected.chmod(0o777)
    with pytest.raises(BackendUnavailable, match="no safe folder"):
        paths.choose_socket_folder(home, account)


def test_missing_parents_are_created_and_existing_ones_keep_their_mode_and_owner(place: Path) -> None:
    before = {path: path.stat() for path in [place, *place.parents]}
    with EmbeddedServer(place / "new" / "newer" / "db"):
        pass
    for path, was in before.items():
        now = path.stat()
        assert (now.st_mode, now.st_uid, now.st_gid) == (was.st_mode, was.st_uid, was.st_gid)


def test_the_data_folder_of_another_postgresql_is_refused(place: Path) -> None:
    (place / "PG_VERSION").write_text("18\n")
    with pytest.raises(InvalidArgument, match="another PostgreSQL"):
        EmbeddedServer(place).start()


def test_the_default_is_the_users_data_folder() -> None:
    directory = paths.default_directory()
    assert directory.parts[-2:] == ("likewise", "postgres")
    assert directory.is_relative_to("/var/lib" if ROOT else Path.home())


# -- who gets in


def test_files_and_folders_are_closed_to_others(place: Path) -> None:
    with EmbeddedServer(place / "db") as server:
        home = place / "db" / str(server.version)
        for folder in (place / "db", home, home / "data", home / "socket"):
            assert mode(folder) == 0o700, folder
        for file in ("password", "server.log", "start.lock", "users.lock", "data/likewise.conf"):
            assert mode(home / file) == 0o600, file
        assert one(server, "show unix_socket_permissions") == "0700"
        password = (home / "password").read_text()
        assert password.startswith("*:*:*:likewise:")
        assert password.strip().rpartition(":")[2] not in server.url()


def test_a_wrong_password_or_none_does_not_open_the_server(place: Path) -> None:
    with EmbeddedServer(place / "db") as server:
        for options in ({"password": "wrong"}, {"passfile": "/dev/null"}, {"user": "postgres", "password": "x"}):
            address = psycopg.conninfo.make_conninfo(server.url(), **options)
            with pytest.raises(psycopg.OperationalError, match=r"password|fe_sendauth"):
                psycopg.connect(address).close()
        assert one(server, "select count(*) from pg_hba_file_rules where auth_method <> 'scram-sha-256'") == 0


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="looks into /proc")
def test_no_tcp_port_is_open(place: Path) -> None:
    with EmbeddedServer(place / "db") as server:
        assert one(server, "show listen_addresses") == ""
        sockets = set()
        for pid in servers_below(place):
            try:
                links = [str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir()]
            except OSError:  # a process that has ended meanwhile
                continue
            sockets |= {link.removeprefix("socket:[").removesuffix("]") for link in links}
        assert sockets
        for table in ("tcp", "tcp6"):
            for line in Path("/proc/net", table).read_text().splitlines()[1:]:
                assert line.split()[9] not in sockets


def test_a_password_file_that_others_may_read_is_closed_again(place: Path) -> None:
    with EmbeddedServer(place / "db") as server:
        file = place / "db" / str(server.version) / "password"
    file.chmod(0o644)
    with server:
        assert mode(file) == 0o600
        assert one(server, "select 1") == 1


def test_psql_of_the_same_installation_accepts_the_url(place: Path) -> None:
    psql = binaries.find_binaries().program("psql")
    with EmbeddedServer(place / "db's") as server:
        for database in ("likewise", "postgres"):
            command = [str(psql), "-XAt", "-c", "select current_database()", server.url(database)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert (done.stdout.strip(), done.stderr) == (database, "")


def test_settings_for_another_server_in_the_environment_do_not_come_in(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"PGPASSWORD": "x", "PGUSER": "x", "PGDATABASE": "x", "PGPORT": "1", "PGHOST": "x"}.items():
        monkeypatch.setenv(name, value)
    with EmbeddedServer(place / "db") as server:
        assert one(server, "select current_database() || current_user") == "likewiselikewise"
    monkeypatch.setenv("PGHOSTADDR", "127.0.0.1")
    monkeypatch.setenv("PGOPTIONS", "-c search_path=nowhere")
    server.start()
    server.close()


# -- users of the system


@pytest.mark.skipif(not ROOT, reason="needs root")
def test_root_runs_the_server_as_another_user(place: Path) -> None:
    with EmbeddedServer(place / "db"):
        users = users_of(servers_below(place))
    assert len(users) == 1
    assert 0 not in users


@pytest.mark.skipif(not ROOT, reason="needs root")
def test_root_says_so_if_the_servers_user_cannot_enter_the_folder(place: Path) -> None:
    (place / "closed").mkdir(mode=0o700)
    with pytest.raises(BackendUnavailable, match=r"does not run as root.*cannot enter"):
        EmbeddedServer(place / "closed" / "db").start()
    assert mode(place / "closed") == 0o700


@pytest.mark.skipif(not ROOT, reason="needs root")
def test_root_joins_the_server_of_an_ordinary_user_and_runs_it_as_that_user(place: Path) -> None:
    home = place / "home"
    home.mkdir(mode=0o700)
    os.chown(home, NOBODY, NOBODY)
    other = script(STAY, home / "db", uid=NOBODY)
    assert other.stdout is not None
    assert other.stdout.readline().startswith("postgresql://"), finish(other)
    server = EmbeddedServer(home / "db")
    with server:
        assert one(server, "select 1") == 1
        finish(other, "go\n")
    with server:  # and an ordinary user can go on with what root has started
        assert users_of(servers_below(place)) == {NOBODY}
    finish(script(STAY, home / "db", uid=NOBODY), "go\n")


@pytest.mark.skipif(not ROOT, reason="needs root")
def test_two_users_of_one_machine_do_not_meet(place: Path) -> None:
    # Long paths, so that both sockets lie in the common temporary folder.
    others = []
    for uid in (NOBODY, DAEMON):
        home = place / f"{'home' * 25}{uid}"
        home.mkdir(mode=0o700)
        os.chown(home, uid, uid)
        others.append(script(STAY, home / "db", uid=uid))
    urls = []
    for other in others:
        assert other.stdout is not None
        urls.append(other.stdout.readline().strip())
    code = f"""
try:
    psycopg.connect({urls[0]!r})
except psycopg.OperationalError as error:
    print(error)
"""
    assert "Permission denied" in finish(script(code, place, uid=DAEMON))
    for other in others:
        finish(other, "go\n")


@pytest.mark.skipif(not ROOT, reason="needs root")
def test_the_folder_of_another_user_is_refused(place: Path) -> None:
    with EmbeddedServer(place / "db"):
        pass
    code = """
from likewise.errors import BackendUnavailable
try:
    EmbeddedServer(folder).start()
except BackendUnavailable as error:
    print(error)
"""
    assert "belongs to another user" in finish(script(code, place / "db", uid=DAEMON))


@pytest.mark.skipif(not ROOT, reason="needs root")
def test_programs_out_of_the_users_reach_are_copied_not_opened(place: Path) -> None:
    original = binaries.find_binaries()
    if original.package is None:
        pytest.skip("only a wheel's programs are copied")
    install = original.folder.parent
    closed = place / "closed"
    package = closed / original.package.name
    shutil.copytree(install, package / install.name, ignore=shutil.ignore_patterns("include"))
    libraries = original.package.with_name(f"{original.package.name}.libs")
    shutil.copytree(libraries, closed / libraries.name)
    closed.chmod(0o700)
    account = Account(uid=NOBODY, gid=NOBODY, name="nobody", switch=True)
    unreachable = binaries.Binaries(package / install.name / "bin", 18, 4, "the wheel of a test 1.0", package)
    assert not may_use(account, unreachable.program("postgres"))
    copied = binaries.reachable_binaries(unreachable, account, runtime=place / "runtime")
    assert mode(closed) == 0o700
    assert copied.folder.is_relative_to(place / "runtime")
    for program in ("postgres", "psql"):
        command = [str(copied.program(program)), "--version"]
        assert subprocess.run(command, user=NOBODY, group=NOBODY, extra_groups=[], cwd="/", check=False).returncode == 0
    assert binaries.reachable_binaries(unreachable, account, runtime=place / "runtime") == copied


# -- versions and binaries


def test_an_older_major_can_be_asked_for_and_its_data_decides_from_then_on(place: Path) -> None:
    try:
        binaries.find_binaries(16)
    except BackendUnavailable:
        pytest.skip("there is no PostgreSQL 16 with pgvector here")
    with EmbeddedServer(place / "db", version=16) as server:
        assert str(one(server, "show server_version")).startswith("16.")
        assert one(server, "select '[1,2]'::vector <-> '[1,4]'") == 2.0
    with EmbeddedServer(place / "db") as server:
        assert server.version == 16
    with EmbeddedServer(place / "db", version=18) as server:
        assert str(one(server, "show server_version")).startswith("18.")
    assert EmbeddedServer(place / "db").version == 18


def test_data_of_a_major_without_programs_is_not_passed_over_for_a_new_database(place: Path) -> None:
    (place / "19" / "data").mkdir(parents=True)
    (place / "19" / "data" / "PG_VERSION").write_text("19\n")
    with pytest.raises(BackendUnavailable, match="needs PostgreSQL 19"):
        EmbeddedServer(place).start()
    assert [path.name for path in place.iterdir()] == ["19"]


def test_the_server_runs_with_our_settings_and_the_users_own_take_precedence(place: Path) -> None:
    with EmbeddedServer(place / "db") as server:
        assert one(server, "show wal_level") == "logical"
        assert one(server, "show jit") == "off"
        assert one(server, "show server_encoding") == "UTF8"
        conf = place / "db" / str(server.version) / "data" / "postgresql.conf"
    with conf.open("a") as file:
        file.write("work_mem = 11MB\n")
    with server:
        assert one(server, "show work_mem") == "11MB"
