"""The embedded server as its users see it: start or join, a URL, leave.

The users' lock is the reference count: each :class:`EmbeddedServer` that has started holds it shared, the system drops it when
a process dies, and whoever can get it alone is the last and stops the server. Joining and leaving happen under the start lock,
one at a time. How things are done is in the other rooms; only the order is here.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

import psycopg
from psycopg import sql

from likewise.backends.postgres.embedded import cluster, postmaster
from likewise.backends.postgres.embedded.binaries import Binaries, find_binaries, reachable_binaries
from likewise.backends.postgres.embedded.locks import FileLock, close_inherited
from likewise.backends.postgres.embedded.paths import PORT, Home, default_directory, existing_majors, prepare_home
from likewise.backends.postgres.embedded.privileges import Account, choose_account
from likewise.errors import BackendError, BackendUnavailable, InvalidArgument

__all__ = ["EmbeddedServer"]

_log = logging.getLogger("likewise.backends.postgres.embedded")

#: Left at the interpreter's exit: strong references, for a forgotten object must not take its server along unseen.
_started: set[EmbeddedServer] = set()
_all: weakref.WeakSet[EmbeddedServer] = weakref.WeakSet()

EMPTY_NOTE_PATIENCE = 1.0
RETRIES = 3


class EmbeddedServer:
    """A PostgreSQL with pgvector of one's own, in a folder, shared by all processes of one user that name the same folder.

    Args:
        directory: the folder; None: the user's data folder. Each major version has a folder of its own in it.
        keep_running: leave the server running although the last user leaves. The last one decides; a user without it that
            comes later and leaves last stops the server.
        version: the major version, such as 16; None: that of the newest data in ``directory``, else the newest to be had.
        progress: called with a line of text when something takes long: creating the database, recovering.

    The constructor does no I/O. A server that is never closed is left at the interpreter's exit. A forked child has not started:
    it does not stop its parent's server, and calls ``start`` if it wants to be counted as a user.
    """

    def __init__(
        self,
        directory: Path | None = None,
        *,
        keep_running: bool = False,
        version: int | None = None,
        progress: Callable[[str], None] | None = None,
    ) -> None:
        if directory is not None and "\n" in str(directory):
            raise InvalidArgument("the directory of an embedded server must not contain a line break")
        self._directory = directory
        self._keep_running = keep_running
        self._requested = version
        self._progress = progress
        self._mutex = threading.RLock()
        self._users: FileLock | None = None
        self._home: Home | None = None
        self._note: postmaster.Note | None = None
        self._binaries: Binaries | None = None
        self._account: Account | None = None
        _all.add(self)

    @property
    def directory(self) -> Path:
        """The folder that holds the data of each major version."""
        # Resolved, so that two ways of writing one folder meet at one socket.
        return (self._directory if self._directory is not None else default_directory()).resolve()

    @property
    def version(self) -> int:
        """The server's major version: of the running server, else the one that ``start`` would choose."""
        return self._home.major if self._home is not None else self._choose()[0].major

    @property
    def is_running(self) -> bool:
        """Whether a server answers in the folder, whoever started it."""
        home = self._home
        if home is None:
            majors = existing_majors(self.directory)
            major = self._requested if self._requested is not None else max(majors, default=None)
            if major not in majors or major is None:
                return False
            home = Home(self.directory, major)
        note = postmaster.read_note(home)
        return note is not None and postmaster.answering(note)

    def start(self) -> None:
        """Start the server or join the one that runs, and count as its user until :meth:`close`.

        Called again it does nothing, unless the server has died meanwhile: then it is started again.

        Raises:
            BackendUnavailable: no PostgreSQL fits this machine, the folder cannot be used, or the server does not start.
        """
        with self._mutex:
            if self._users is not None and self._note is not None and postmaster.answering(self._note):
                return
            try:
                self._start()
            except OSError as exc:
                raise BackendUnavailable(f"cannot start PostgreSQL in {self.directory}: {exc}") from exc

    def _start(self) -> None:
        home, found = self._choose()
        account = choose_account([home.data, home.root, home.directory])
        prepare_home(home, account)
        binaries = reachable_binaries(found, account)
        with self._alone(home, account):
            users = self._users or FileLock(home.users_lock, account)
            try:
                self._join(users)
                note = self._ensure_running(home, binaries, account)
            except BaseException:
                if users is not self._users:
                    self._leave(users, home, binaries, account)
                raise
            self._users, self._home, self._note, self._binaries, self._account = users, home, note, binaries, account
            _started.add(self)

    def _choose(self) -> tuple[Home, Binaries]:
        """The cluster to use and the programs for it: data that is there decides, then the newest programs."""
        directory = self.directory
        major = self._requested
        if major is None:
            major = max(existing_majors(directory), default=None)
        try:
            binaries = find_binaries(major)
        except BackendUnavailable as exc:
            if major is None or self._requested is not None:
                raise
            raise BackendUnavailable(
                f"the data in {directory / str(major)} needs PostgreSQL {major}, but {exc}"
            ) from exc
        return Home(directory, binaries.major), binaries

    @contextlib.contextmanager
    def _alone(self, home: Home, account: Account) -> Iterator[None]:
        """Hold the start lock, waiting for whoever has it."""
        lock = FileLock(home.start_lock, account)
        try:
            ticker = postmaster.Ticker(
                2 * postmaster.START_TIMEOUT, self._say, "another process starts or stops PostgreSQL"
            )
            while not lock.try_exclusive():
                if not ticker.wait():
                    raise BackendUnavailable(f"another process has held {home.start_lock} for too long")
            yield
        finally:
            lock.close()

    @staticmethod
    def _join(users: FileLock) -> None:
        # Only a process that holds the start lock takes this lock alone, and here that is us.
        if not users.try_shared():
            raise BackendUnavailable("the users' lock of the embedded server is held by a program that is not Likewise")

    def _ensure_running(self, home: Home, binaries: Binaries, account: Account) -> postmaster.Note:
        cluster.ensure_cluster(home, binaries, account, self._say)
        for _ in range(RETRIES):
            note = self._find_or_launch(home, binaries, account)
            try:
                self._ensure_database(home, note)
            except BackendUnavailable:
                time.sleep(0.1)  # a dying process loses its sockets a moment before it is seen to be dead
                if postmaster.is_running(home, note.pid):
                    raise
                self._say("the server died while it was being joined; it is started again")
                continue
            return note
        raise BackendUnavailable(f"PostgreSQL in {home.data} dies again and again; see {home.log}")

    def _find_or_launch(self, home: Home, binaries: Binaries, account: Account) -> postmaster.Note:
        ticker = postmaster.Ticker(postmaster.START_TIMEOUT, self._say, "waiting for a server that starts or stops")
        began = time.monotonic()
        while (note := postmaster.read_note(home)) is not None or home.pid_file.exists():
            if note is None:  # being written this moment; or left empty by a crash of the machine
                if time.monotonic() - began > EMPTY_NOTE_PATIENCE:
                    break
                ticker.wait()
                continue
            if note.status in {"ready", "standby"} and postmaster.answering(note):
                break
            if not postmaster.is_running(home, note.pid):
                note = None
                break
            if not ticker.wait():
                raise BackendUnavailable(f"PostgreSQL in {home.data} (process {note.pid}) neither answers nor ends")
        if note is None:
            cluster.write_settings(home, account)
            log_start = home.log.stat().st_size if home.log.exists() else 0
            pid = postmaster.launch(home, binaries, account, self._say)
            note = postmaster.wait_ready(home, pid, self._say, log_start=log_start)
        return note

    @staticmethod
    def _ensure_database(home: Home, note: postmaster.Note) -> None:
        """Create the database with the extension if it is not there. Also the proof that our password opens this server."""
        password = cluster.read_password(home)

        def connect(database: str) -> psycopg.Connection:
            return psycopg.connect(
                dbname=database,
                host=note.host,
                port=note.port,
                user=cluster.ROLE,
                password=password,
                # Empty, so that PGHOSTADDR and PGOPTIONS of the environment, meant for another server, do not come in.
                hostaddr="",
                options="",
                connect_timeout=60,
                autocommit=True,
            )

        try:
            with connect("postgres") as connection:
                query = "select 1 from pg_database where datname = %s"
                if connection.execute(query, [cluster.DATABASE]).fetchone() is None:
                    # First into the template, so that the database is born with it: no kill can leave one without.
                    with connect("template1") as template:
                        template.execute("create extension if not exists vector")
                    # The role is named as the schema of Likewise's functions, which "$user" would make the first of the
                    # search_path: what people create without a schema belongs in public, and the functions come after it.
                    connection.execute(
                        sql.SQL("alter role {} set search_path to public, likewise").format(
                            sql.Identifier(cluster.ROLE)
                        )
                    )
                    connection.execute(sql.SQL("create database {}").format(sql.Identifier(cluster.DATABASE)))
        except psycopg.Error as exc:
            raise BackendUnavailable(
                f"PostgreSQL in {home.data} runs, but its database {cluster.DATABASE!r} cannot be opened: {exc}",
                sqlstate=exc.sqlstate,
            ) from exc

    def url(self, database: str = cluster.DATABASE) -> str:
        """The address of a database of the started server, for psycopg, psql and every other program that uses libpq.

        It holds no password but names the password file, which only the server's user and root can read.
        """
        home, note = self._home, self._note
        if home is None or note is None:
            raise BackendUnavailable(
                "the embedded server has not been started: call start(), or use it in a with statement"
            )
        if sys.platform == "win32":
            where = f"{note.host}:{note.port}/{quote(database, safe='')}?"
        else:
            where = f"/{quote(database, safe='')}?host={quote(note.host, safe='')}&port={PORT}&"
        # The empty password keeps PGPASSWORD, meant for another server, from coming before the password file.
        return f"postgresql://{cluster.ROLE}@{where}passfile={quote(str(home.password), safe='')}&password="

    def close(self) -> None:
        """Leave; the last user stops the server, unless it is to be kept running. Does nothing the second time.

        Raises:
            BackendUnavailable: the server does not stop.
        """
        with self._mutex:
            users, home, binaries, account = self._users, self._home, self._binaries, self._account
            if users is None or home is None or binaries is None or account is None:
                return
            self._users = None
            _started.discard(self)
            try:
                with self._alone(home, account):
                    self._leave(users, home, binaries, account)
            except FileNotFoundError:
                # The folder was deleted under the server, which notices by itself and ends within a minute.
                _log.warning("the folder of the embedded server is gone", extra={"directory": str(home.root)})
            finally:
                users.close()

    def _leave(self, users: FileLock, home: Home, binaries: Binaries, account: Account) -> None:
        try:
            if users.try_exclusive() and not self._keep_running:
                postmaster.stop(home, binaries, account, self._say)
        finally:
            users.close()

    def _say(self, text: str) -> None:
        _log.info(text, extra={"directory": str(self.directory)})
        if self._progress is not None:
            self._progress(text)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._directory!r}, started={self._users is not None})"


def _close_all() -> None:
    """At the interpreter's exit: leave every server that somebody forgot to close."""
    for server in list(_started):
        try:
            server.close()
        except (BackendError, OSError):
            _log.exception("could not leave the embedded server", extra={"directory": str(server.directory)})


def _forget_parents() -> None:
    """In a forked child: the parent's servers are not ours to count or stop."""
    close_inherited()
    for server in _all:
        server._users = None
        server._mutex = threading.RLock()  # another thread of the parent may have held it
    _started.clear()


atexit.register(_close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_parents)
