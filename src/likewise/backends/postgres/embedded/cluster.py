"""Making a cluster (PostgreSQL's word for one data folder), its password and its settings; no server runs here.

A cluster appears whole: ``initdb`` works in a folder of another name, which is renamed at the end, so that a kill in between
leaves nothing that could be taken for a database.
"""

from __future__ import annotations

import os
import secrets
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from likewise.backends.postgres.embedded.binaries import Binaries
from likewise.backends.postgres.embedded.machine import measure, settings
from likewise.backends.postgres.embedded.paths import Home, open_private, write_private
from likewise.backends.postgres.embedded.privileges import Account, run_program
from likewise.errors import BackendError, BackendUnavailable

__all__ = ["DATABASE", "ROLE", "ensure_cluster", "read_password", "write_settings"]

ROLE = "likewise"
DATABASE = "likewise"

_SETTINGS_FILE = "likewise.conf"
_INCLUDE = f"""
# Settings sized to this machine, written again at each start; lines below this one, and ALTER SYSTEM, take precedence.
include_if_exists = '{_SETTINGS_FILE}'
"""


def ensure_cluster(home: Home, binaries: Binaries, account: Account, say: Callable[[str], None]) -> None:
    """Create the cluster if ``home`` has none. The caller holds the start lock.

    Raises:
        BackendUnavailable: ``initdb`` failed; the text ends with what it said.
    """
    if (home.data / "PG_VERSION").exists():
        if account.switch and (home.data.stat().st_uid != account.uid):
            raise BackendUnavailable(
                f"{home.data} and {home.root} belong to different users: give both to {account.name!r}"
            )
        return
    for pattern in ("data.*.new", "password.*.new"):
        for leftover in home.root.glob(pattern):  # of a start that was killed
            if leftover.is_dir() and not leftover.is_symlink():
                shutil.rmtree(leftover)
            else:
                leftover.unlink()
    say(f"creating a PostgreSQL {binaries.major} database in {home.root}")
    password = _ensure_password(home, account)
    token = secrets.token_hex(8)
    data = home.root / f"data.{token}.new"
    password_file = home.root / f"password.{token}.new"
    try:
        write_private(password_file, password + "\n", account)
        _initdb(binaries, account, data, password_file)
        _include_settings(data, account)
        data.rename(home.data)
    finally:
        password_file.unlink(missing_ok=True)
        if data.exists():
            shutil.rmtree(data)


def _initdb(binaries: Binaries, account: Account, data: Path, password_file: Path) -> None:
    command: list[str | Path] = [
        binaries.program("initdb"),
        f"--pgdata={data}",
        f"--username={ROLE}",
        "--auth=scram-sha-256",
        f"--pwfile={password_file}",
        "--encoding=UTF8",
        "--data-checksums",
        "--no-instructions",
        "--locale=C",  # order by code point, which no update of the system can change under an index
    ]
    if binaries.major >= 17:
        command += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    # The character type decides what full text search takes for a letter beyond ASCII; not every system has this one.
    done = run_program(account, [*command, "--lc-ctype=C.UTF-8"])
    if done.returncode != 0 and "invalid locale name" in done.stderr:
        done = run_program(account, command)
    if "could not look up effective user ID" in done.stderr:
        raise BackendUnavailable(
            f"initdb refuses to work for user {account.uid}, who has no entry in the system's list of users: add one to /etc/passwd "
            "(in an image: RUN useradd), or connect to a server that is running already with its postgresql:// URL"
        )
    if done.returncode != 0:
        raise BackendUnavailable(
            f"could not create a PostgreSQL cluster in {data.parent} (initdb exited with {done.returncode}): "
            f"{(done.stderr or done.stdout).strip()[-2000:]}"
        )


def _include_settings(data: Path, account: Account) -> None:
    descriptor = open_private(data / "postgresql.conf", account, os.O_WRONLY | os.O_APPEND)
    with os.fdopen(descriptor, "w", encoding="utf-8", newline="\n") as file:
        file.write(_INCLUDE)


def write_settings(home: Home, account: Account) -> None:
    """Write the settings for the machine as it is now. Called before each start."""
    lines = [f"{name} = {value}" for name, value in settings(measure(home.data), major=home.major).items()]
    head = (
        "# Written by Likewise at each start: put settings of your own into postgresql.conf, below its include line.\n"
    )
    write_private(home.data / _SETTINGS_FILE, head + "\n".join(lines) + "\n", account)


def _ensure_password(home: Home, account: Account) -> str:
    if not home.password.exists():
        # 256 bits in hexadecimal digits: nothing that a password file would want escaped.
        write_private(home.password, f"*:*:*:{ROLE}:{secrets.token_hex(32)}\n", account)
    return read_password(home)


def read_password(home: Home) -> str:
    """The role's password, from our password file; its mode is set right, for libpq ignores a file that others may read.

    Raises:
        BackendError: the file is gone or not as we wrote it; the text says how to set a new password.
    """
    cure = (
        f"write a line '*:*:*:{ROLE}:PASSWORD' into it (mode 0600) and set that password with ALTER ROLE in single-user mode "
        f"(postgres --single -D {home.data} postgres)"
    )
    try:
        # By descriptor and never through a link: root does this in a folder of another user's.
        descriptor = os.open(home.password, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
    except FileNotFoundError as exc:
        raise BackendError(f"the password file {home.password} is gone: restore it, or {cure}") from exc
    with os.fdopen(descriptor, encoding="utf-8") as file:
        if sys.platform != "win32" and os.fstat(descriptor).st_mode & 0o077:
            os.fchmod(descriptor, 0o600)
        line = file.read().strip()
    head, _, password = line.rpartition(":")
    if head != f"*:*:*:{ROLE}" or not password:
        raise BackendError(f"the password file {home.password} is damaged: restore it, or {cure}")
    return password
