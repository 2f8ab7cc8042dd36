"""The operating system's user that the server runs as, and starting programs as that user.

PostgreSQL refuses to run as root. When we are root, every program of PostgreSQL runs as an unprivileged user, chosen here;
otherwise the user is simply ourselves. Nothing here changes the owner or the mode of a file.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from likewise.errors import BackendUnavailable

__all__ = ["Account", "choose_account", "may_use", "program_options", "run_program"]


@dataclass(frozen=True, slots=True)
class Account:
    """The user that owns the data and runs the server.

    ``switch`` is true when we are root and have to become that user first.
    """

    uid: int
    gid: int
    name: str
    groups: tuple[int, ...] = ()
    switch: bool = False


def choose_account(owners: Sequence[Path]) -> Account:
    """The user for the server: ourselves; or, for root, the owner of the first existing path of ``owners`` that is not
    root's, then the user ``postgres``, then ``nobody``.

    Raises:
        BackendUnavailable: we are root, and there is no such user.
    """
    if sys.platform == "win32":
        return Account(uid=0, gid=0, name="")
    if os.geteuid() != 0:
        return Account(uid=os.geteuid(), gid=os.getegid(), name=str(os.geteuid()))
    for path in owners:
        try:
            uid = path.stat().st_uid
        except FileNotFoundError:
            continue
        if uid != 0:
            return _account(uid)
    import pwd

    for name in ("postgres", "nobody"):
        try:
            return _account(pwd.getpwnam(name).pw_uid)
        except KeyError:
            continue
    raise BackendUnavailable(
        "PostgreSQL refuses to run as root, and this machine has neither a user 'postgres' nor a user 'nobody' to run it as: "
        "create one (useradd --system postgres), or run as an ordinary user"
    )


def _account(uid: int) -> Account:
    import pwd

    try:
        entry = pwd.getpwuid(uid)
    except KeyError:  # a user that exists only as a number, as in many containers
        return Account(uid=uid, gid=uid, name=str(uid), switch=True)
    groups = tuple(os.getgrouplist(entry.pw_name, entry.pw_gid))
    return Account(uid=uid, gid=entry.pw_gid, name=entry.pw_name, groups=groups, switch=True)


def program_options(account: Account) -> dict[str, Any]:
    """Keyword arguments for :class:`subprocess.Popen`: the user, a clean environment, a folder that anybody may enter.

    The environment is clean because ``PGOPTIONS``, ``PGDATA`` and their like would otherwise change what the programs do.
    """
    if sys.platform == "win32":
        return {"stdin": subprocess.DEVNULL}
    options: dict[str, Any] = {
        "stdin": subprocess.DEVNULL,
        "cwd": "/",
        "env": {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C"},
        "umask": 0o077,
    }
    if account.switch:
        options |= {"user": account.uid, "group": account.gid, "extra_groups": account.groups}
    return options


def run_program(
    account: Account, command: Sequence[str | Path], *, timeout: float | None = None
) -> subprocess.CompletedProcess[str]:
    """Run one of PostgreSQL's programs to its end as ``account``; the caller judges the exit status."""
    return subprocess.run(  # noqa: S603 -- programs that we found, with arguments that we made
        [str(part) for part in command],
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="replace",
        timeout=timeout,
        check=False,
        **program_options(account),
    )


def may_use(account: Account, path: Path, *, write: bool = False) -> bool:
    """Whether ``account`` can reach and read ``path`` (a folder: enter it; ``write``: also create files in it).

    Asked of the system as that user, because mode bits alone do not tell (access lists, mounts, user namespaces).
    """
    if not account.switch:
        mode = os.R_OK | (os.X_OK if path.is_dir() else 0) | (os.W_OK if write else 0)
        return os.access(path, mode)
    test = 'test -r "$1" && { test ! -d "$1" || test -x "$1"; }' + (' && test -w "$1"' if write else "")
    return run_program(account, ["/bin/sh", "-c", test, "sh", path]).returncode == 0
