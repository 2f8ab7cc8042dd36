"""Where an embedded server's files lie, and creating them so that nobody else can read, replace or redirect them.

::

    <directory>/18/data/         PGDATA
    <directory>/18/password      a password file of libpq's, mode 0600
    <directory>/18/socket/       the unix socket, mode 0700 (elsewhere where this path is too long for a socket)
    <directory>/18/server.log    what the server says
    <directory>/18/start.lock    held while starting, joining, stopping
    <directory>/18/users.lock    shared by everybody who uses the server

Only files and folders that we created get an owner or a mode from us; what was there before stays as it is, and if it does
not fit, that is an error with a cure in its text. Nothing here starts a process.
"""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import stat
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from likewise.backends.postgres.embedded.privileges import Account, may_use
from likewise.errors import BackendUnavailable, InvalidArgument

__all__ = [
    "PORT",
    "Home",
    "choose_socket_folder",
    "default_directory",
    "existing_majors",
    "open_private",
    "own_folder",
    "prepare_home",
    "write_private",
]

#: The number in the socket's name. No TCP port is opened.
PORT = 5432

#: Bytes that fit into ``sockaddr_un.sun_path``, less the final NUL.
SOCKET_PATH_LIMIT = 107 if sys.platform.startswith("linux") else 103

#: Where root keeps its data: the server's user cannot enter /root.
ROOT_FOLDER = Path("/var/lib/likewise")

#: Short folders for sockets, where the data's own path is too long. Not TMPDIR and not XDG_RUNTIME_DIR: these differ between a
#: login and a cron job of the same user, and the latter vanishes at log-out under a running server.
SHORT_FOLDERS = (Path("/tmp"), Path("/var/tmp"), Path("/dev/shm"))  # noqa: S108 -- each use creates a private folder in it


@dataclass(frozen=True, slots=True)
class Home:
    """The folder of one cluster: one major version below the directory that the user chose."""

    directory: Path
    major: int

    @property
    def root(self) -> Path:
        return self.directory / str(self.major)

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def password(self) -> Path:
        return self.root / "password"

    @property
    def log(self) -> Path:
        return self.root / "server.log"

    @property
    def pid_file(self) -> Path:
        return self.data / "postmaster.pid"

    @property
    def start_lock(self) -> Path:
        return self.root / "start.lock"

    @property
    def users_lock(self) -> Path:
        return self.root / "users.lock"


def default_directory() -> Path:
    """The user's data folder; for root ``/var/lib/likewise/postgres``."""
    if sys.platform != "win32" and os.geteuid() == 0:
        return ROOT_FOLDER / "postgres"
    return platformdirs.user_data_path("likewise", appauthor=False) / "postgres"


def existing_majors(directory: Path) -> list[int]:
    """The major versions that have a cluster in ``directory``, ascending."""
    try:
        names = [entry.name for entry in directory.iterdir()]
    except FileNotFoundError:
        return []
    except NotADirectoryError as exc:
        raise InvalidArgument(f"{directory} is not a folder") from exc
    except PermissionError as exc:
        raise _not_ours(directory, exc) from exc
    if "PG_VERSION" in names:
        raise InvalidArgument(
            f"{directory} is the data folder of another PostgreSQL: name a folder of its own for the embedded server, or start "
            "that server and pass its postgresql:// URL"
        )
    majors = []
    for name in names:
        if name.isascii() and name.isdigit():
            try:
                (directory / name / "data" / "PG_VERSION").stat()
            except FileNotFoundError:
                continue
            except PermissionError as exc:
                raise _not_ours(directory / name, exc) from exc
            majors.append(int(name))
    return sorted(majors)


def _not_ours(path: Path, exc: OSError) -> BackendUnavailable:
    return BackendUnavailable(
        f"{path} belongs to another user ({exc.strerror}): an embedded server serves one user of the system; name another "
        "directory, or let that user serve a postgresql:// URL"
    )


def prepare_home(home: Home, account: Account) -> None:
    """Create the cluster's folder for ``account``, 0700, and check that the server will be able to enter it.

    Raises:
        BackendUnavailable: the folder cannot be created or belongs to someone else, or ``account`` cannot enter it.
    """
    _make_parents(home.directory.parent)
    try:
        own_folder(home.directory, account)
    except FileExistsError:
        pass  # the user's own folder: taken as it is
    except OSError as exc:
        raise BackendUnavailable(f"cannot create {home.directory}: {exc.strerror}") from exc
    try:
        own_folder(home.root, account)
    except FileExistsError:
        pass
    except OSError as exc:
        raise BackendUnavailable(f"cannot create {home.root}: {exc.strerror}") from exc
    if problem := _private_problem(home.root, account):
        raise BackendUnavailable(f"{home.root} {problem}: name another directory for the embedded server")
    if not may_use(account, home.root, write=True):
        raise BackendUnavailable(
            f"PostgreSQL does not run as root, so the server runs as the user {account.name!r}, who cannot enter {home.root}: "
            f"name a directory below folders that everybody may enter, such as {ROOT_FOLDER}, or run as an ordinary user"
        )


def _make_parents(folder: Path) -> None:
    """Create missing parents. Root's get 0755 whatever the umask, so that the server's user can pass through them."""
    if folder.is_dir():
        return
    _make_parents(folder.parent)
    try:
        folder.mkdir()
        if sys.platform != "win32" and os.geteuid() == 0:
            folder.chmod(0o755)  # just created, hence ours
    except FileExistsError:
        return
    except OSError as exc:
        raise BackendUnavailable(f"cannot create {folder}: {exc.strerror}") from exc


def own_folder(path: Path, account: Account) -> None:
    """Create a folder for ``account`` alone; FileExistsError if anything is there."""
    if not account.switch:
        path.mkdir(mode=0o700)
        return
    # Given away before it gets its name, so that nobody who looks meanwhile finds a folder of root's.
    if os.path.lexists(path):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
    made = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        os.chown(made, account.uid, account.gid, follow_symlinks=False)
        made.rename(path)
    except OSError as exc:
        made.rmdir()
        if exc.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise FileExistsError(exc.errno, exc.strerror, str(path)) from exc
        raise


def _private_problem(path: Path, account: Account) -> str:
    """What is wrong with a folder that only ``account`` may use; empty if nothing is."""
    found = path.lstat()
    if stat.S_ISLNK(found.st_mode) or not stat.S_ISDIR(found.st_mode):
        return "is not a folder, or is a symbolic link"
    if sys.platform == "win32":
        return ""
    if found.st_uid != account.uid:
        return f"belongs to user {found.st_uid}, not to {account.uid}"
    if stat.S_IMODE(found.st_mode) & 0o077:
        return f"is open to others (mode {stat.S_IMODE(found.st_mode):04o})"
    return ""


def open_private(path: Path, account: Account, flags: int = os.O_RDWR) -> int:
    """Open a file of ours, creating it 0600 for ``account``; a symbolic link in its place is an error."""
    flags |= getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)
    while True:
        try:
            return os.open(path, flags)
        except FileNotFoundError:
            try:
                descriptor = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o600)
            except FileExistsError:
                continue  # another process created it in between
            if account.switch:
                os.fchown(descriptor, account.uid, account.gid)
            return descriptor


def write_private(path: Path, text: str, account: Account) -> None:
    """Write a file of ours, 0600, whole or not at all."""
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(8)}.new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0), 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="\n") as file:
            if account.switch:
                os.fchown(descriptor, account.uid, account.gid)
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def choose_socket_folder(home: Home, account: Account) -> Path:
    """A folder for the socket that only ``account`` may enter: in ``home``, or a short one where that path does not do.

    A path does not do if it is too long for a socket, or holds a comma (libpq reads that as two hosts).

    Raises:
        BackendUnavailable: no such folder can be had.
    """
    digest = hashlib.sha256(os.fsencode(home.root)).hexdigest()[:16]
    short = [folder / f"likewise-{account.uid}-{digest}" for folder in SHORT_FOLDERS]
    problems = []
    for folder in [home.root / "socket", *short]:
        path = os.fsencode(folder / f".s.PGSQL.{PORT}")
        if len(path) > SOCKET_PATH_LIMIT or b"," in path:
            problems.append(f"{folder} is too long for a socket, or has a comma")
            continue
        try:
            own_folder(folder, account)
        except FileExistsError:
            pass  # from an earlier start, or someone's trap: checked below
        except OSError as exc:
            problems.append(f"{folder}: {exc.strerror}")
            continue
        if problem := _private_problem(folder, account):
            problems.append(f"{folder} {problem}")
            continue
        return folder
    raise BackendUnavailable("there is no safe folder for the server's socket: " + "; ".join(problems))
