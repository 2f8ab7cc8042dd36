"""The server's process: is it there, start it, wait for it, stop it.

``postmaster.pid`` is PostgreSQL's own note about itself. The number in it may be that of another process by now (after a crash, or
in a restarted container), so it is believed only together with an answering socket or a process that works in the data folder.
All functions but :func:`answering` want the start lock held. Databases and logins are not known here.
"""

from __future__ import annotations

import logging
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from likewise.backends.postgres.embedded.binaries import Binaries
from likewise.backends.postgres.embedded.paths import PORT, Home, choose_socket_folder, open_private
from likewise.backends.postgres.embedded.privileges import Account, program_options, run_program
from likewise.errors import BackendUnavailable

__all__ = ["Note", "Ticker", "answering", "is_running", "launch", "read_note", "recent_log", "stop", "wait_ready"]

_log = logging.getLogger("likewise.backends.postgres.embedded")

#: As long as the process lives and works, recovery may take this long.
START_TIMEOUT = 900.0
#: A fast shutdown writes one checkpoint. After this it is told to stop at once; the next start then recovers.
STOP_TIMEOUT = 60.0
#: Processes of a dead server notice its death by themselves, unless they are busy.
ORPHAN_PATIENCE = 2.0
LOG_LIMIT = 8 << 20


class Ticker:
    """Waits in short steps that grow, and says now and then what for."""

    def __init__(self, timeout: float, say: Callable[[str], None], what: str) -> None:
        self._began = time.monotonic()
        self._timeout = timeout
        self._say = say
        self._what = what
        self._step = 0.005
        self._next = 2.0

    def wait(self) -> bool:
        """Sleep one step; False if the time is up."""
        time.sleep(self._step)
        self._step = min(self._step * 1.2, 0.05)
        spent = time.monotonic() - self._began
        if spent > self._next:
            self._say(f"{self._what} ({spent:.0f} s)")
            self._next += 5.0
        return spent < self._timeout


@dataclass(frozen=True, slots=True)
class Note:
    """What ``postmaster.pid`` says; ``host`` is the socket's folder, or 127.0.0.1 on Windows."""

    pid: int
    port: int
    host: str
    status: str


def read_note(home: Home) -> Note | None:
    """The server's note; None if there is none, or it is half-written."""
    try:
        lines = os.fsdecode(home.pid_file.read_bytes()).split("\n")
    except (FileNotFoundError, NotADirectoryError):
        return None
    if not lines or not lines[0].strip().isdigit():
        return None
    lines += [""] * 8
    port = int(lines[3]) if lines[3].isdigit() else PORT
    return Note(int(lines[0]), port, lines[4] or lines[5].strip(), lines[7].strip())


def answering(note: Note) -> bool:
    """Whether something accepts connections at the socket; nothing is sent, which PostgreSQL takes in silence."""
    if sys.platform == "win32":
        family, address = socket.AF_INET, (note.host, note.port)
    else:
        family, address = socket.AF_UNIX, os.path.join(note.host, f".s.PGSQL.{note.port}")  # noqa: PTH118
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.settimeout(5.0)
            probe.connect(address)
    except OSError:  # refused, absent, denied: in each case there is no server for us
        return False
    return True


def is_running(home: Home, pid: int) -> bool:
    """Whether process ``pid`` is alive and is a server of this data folder."""
    if sys.platform.startswith("linux"):
        return _works_in(Path("/proc", str(pid)), home.data)
    if sys.platform == "win32":
        command = ["tasklist", "/FI", f"PID eq {pid}", "/NH"]
    else:
        command = ["/bin/ps", "-o", "stat=,comm=", "-p", str(pid)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 -- fixed words and a number
    return "postgres" in done.stdout and not done.stdout.startswith("Z")


def _works_in(process: Path, data: Path) -> bool:
    try:
        # The link is that of a live process only: a zombie has no working folder.
        here, there = (process / "cwd").stat(), data.stat()
    except OSError:
        return False
    return (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino) and _is_postgres(process)


def _is_postgres(process: Path) -> bool:
    try:
        return (process / "comm").read_text().strip().startswith("postgres")
    except OSError:
        return False


def launch(home: Home, binaries: Binaries, account: Account, say: Callable[[str], None]) -> int:
    """Start the server and return its process number; :func:`wait_ready` tells whether it came up."""
    if home.pid_file.exists():  # the caller has seen that its process is gone
        _end_orphans(home, account, say)
        # PostgreSQL would believe a number that another process, or a zombie, has by now, and stumble over an empty file.
        home.pid_file.unlink(missing_ok=True)
    if home.log.exists() and home.log.stat().st_size > LOG_LIMIT:
        home.log.replace(home.log.with_suffix(".log.old"))
    log = open_private(home.log, account, os.O_WRONLY | os.O_APPEND)
    try:
        if sys.platform == "win32":
            return _launch_windows(home, binaries, log)
        sockets = choose_socket_folder(home, account)
        for left in (
            f".s.PGSQL.{PORT}",
            f".s.PGSQL.{PORT}.lock",
        ):  # the folder is this cluster's alone, and nobody runs it
            (sockets / left).unlink(missing_ok=True)
        folder = str(sockets).replace('"', '""')
        command = [
            binaries.program("postgres"),
            "-D",
            home.data,
            "-p",
            PORT,
            "-c",
            f'unix_socket_directories="{folder}"',
        ]
        # Through a shell that ends at once: the server must not be our child, which we would have to wait for, and must not get
        # the terminal's Ctrl-C. Paths are arguments, not shell text, so that any character may be in them.
        with subprocess.Popen(  # noqa: S603 -- our own programs and paths, not text for a shell
            ["/bin/sh", "-c", '{ exec "$@" </dev/null >&2; } & echo $!', "sh", *map(str, command)],
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
            text=True,
            **program_options(account),
        ) as shell:
            said, _ = shell.communicate()
        return int(said)
    finally:
        os.close(log)


def _launch_windows(home: Home, binaries: Binaries, log: int) -> int:
    """Untested. pg_ctl gives up an administrator's rights; there are no unix sockets, so TCP on the loopback address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = f"-c listen_addresses=127.0.0.1 -p {port}"
    command = [binaries.program("pg_ctl"), "start", "-W", "-D", home.data, "-o", options]
    words = [str(part) for part in command]
    subprocess.run(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False)  # noqa: S603 -- our own program
    for _ in range(200):
        if (note := read_note(home)) is not None:
            return note.pid
        time.sleep(0.05)
    return 0


def _end_orphans(home: Home, account: Account, say: Callable[[str], None]) -> None:
    """See to it that no process of a dead server is left: PostgreSQL does not start beside one, and rightly so."""
    if not sys.platform.startswith("linux"):
        return  # cannot be found there; the log says so if the start fails
    for sent, patience in ((None, ORPHAN_PATIENCE), (signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0)):
        ticker = Ticker(patience, say, "waiting for the processes of a server that died")
        while orphans := _processes_in(home, account):
            if sent is not None:
                for pid in orphans:
                    _send(pid, sent)
            if not ticker.wait():
                break
        else:
            return


def _processes_in(home: Home, account: Account) -> list[int]:
    """PostgreSQL's processes of this data folder, of the server's user only."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                if process.stat().st_uid != account.uid:
                    continue
            except OSError:  # it has ended meanwhile
                continue
            if _works_in(process, home.data):
                found.append(int(process.name))
    return found


def _send(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def wait_ready(home: Home, pid: int, say: Callable[[str], None], *, log_start: int) -> Note:
    """Wait until the server takes connections, as long as it lives: recovery after a crash may take minutes.

    Raises:
        BackendUnavailable: the process ended (the text has the end of its log), or the time is up.
    """
    ticker = Ticker(START_TIMEOUT, say, "PostgreSQL is starting; after a crash it recovers first")
    while True:
        note = read_note(home)
        if note is not None and note.pid == pid and note.status in {"ready", "standby"} and answering(note):
            return note
        if not _alive(pid):
            said = recent_log(home, log_start)
            raise BackendUnavailable(f"PostgreSQL {home.major} in {home.data} did not start. Its log ends:\n{said}")
        if not ticker.wait():
            raise BackendUnavailable(
                f"PostgreSQL {home.major} in {home.data} was not ready after {START_TIMEOUT:.0f} s and is stopped again. Its log "
                f"ends:\n{recent_log(home, log_start)}"
            )


def _alive(pid: int) -> bool:
    """Whether the process that we launched is there: it may not have entered its data folder yet."""
    if sys.platform.startswith("linux"):
        try:
            # The state follows the name, which is in brackets and may itself hold anything.
            return Path("/proc", str(pid), "stat").read_text(errors="replace").rpartition(")")[2].split()[0] not in "ZX"
        except OSError:
            return False
    if sys.platform == "win32":
        return pid != 0
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def stop(home: Home, binaries: Binaries, account: Account, say: Callable[[str], None]) -> None:
    """Stop the server and wait until it is gone.

    Raises:
        BackendUnavailable: it does not stop.
    """
    note = read_note(home)
    if note is None or not is_running(home, note.pid):
        return
    for mode in ("fast", "immediate"):
        # By pg_ctl as the server's user, so that root never sends a signal to a number that it read in somebody's file.
        command: list[str | Path] = [binaries.program("pg_ctl"), "stop", "-W", "-m", mode, "-D", home.data]
        done = run_program(account, command, timeout=STOP_TIMEOUT)
        if done.returncode != 0 and is_running(home, note.pid):
            raise BackendUnavailable(
                f"could not stop PostgreSQL in {home.data}: {(done.stderr or done.stdout).strip()}"
            )
        ticker = Ticker(STOP_TIMEOUT, say, "PostgreSQL is stopping")
        while is_running(home, note.pid):
            if not ticker.wait():
                break
        else:
            _remove_short_folder(home, note)
            return
    raise BackendUnavailable(f"PostgreSQL in {home.data} (process {note.pid}) does not stop")


def _remove_short_folder(home: Home, note: Note) -> None:
    """Leave nothing in the system's temporary folder."""
    folder = Path(note.host)
    if sys.platform != "win32" and home.root not in folder.parents:
        try:
            folder.rmdir()
        except OSError as exc:
            _log.info("left the socket folder where it is: %s", exc, extra={"directory": note.host})


def recent_log(home: Home, start: int) -> str:
    """The end of the server's log from byte ``start`` on, without anything that looks like a password."""
    try:
        with home.log.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(start if start <= size else 0, size - 4000))
            text = file.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return "(there is no log)"
    return re.sub(r"(?i)(password\s+)'[^']*'|\b[0-9a-f]{64}\b", r"\1***", text).strip() or "(it is empty)"
