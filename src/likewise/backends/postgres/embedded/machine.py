"""How much of this machine we may use, and PostgreSQL's settings for it.

Inside a container the machine's own numbers are wrong, so the limits of the control groups are read too. The numbers are for a
guest: the server shares the machine with the program that started it. :func:`settings` is pure.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Machine", "measure", "settings"]

_MB = 1 << 20
_GB = 1 << 30


@dataclass(frozen=True, slots=True)
class Machine:
    """What the server may use: bytes of memory, processors, bytes of free disk, bytes of /dev/shm (None: there is none)."""

    memory: int
    processors: int
    disk: int
    shared: int | None


def measure(folder: Path) -> Machine:
    """The machine as this process may use it; ``folder`` is where the data will lie."""
    return Machine(
        memory=min([_physical_memory(), *_group_memory()]),
        processors=max(1, min([_processors(), *_group_processors()])),
        disk=shutil.disk_usage(folder).free,
        shared=shutil.disk_usage("/dev/shm").total if Path("/dev/shm").is_dir() else None,  # noqa: S108 -- only measured
    )


def settings(machine: Machine, *, major: int) -> dict[str, str]:
    """PostgreSQL's settings for ``machine``, as the text of ``name = value``."""
    maintenance = _clamp(machine.memory // 12, 64 * _MB, 2 * _GB)
    workers = min(machine.processors, 8) if machine.processors > 1 else 0
    chosen = {
        "listen_addresses": "''",
        "unix_socket_permissions": "0700",
        "max_connections": "100",
        "shared_buffers": _size(_clamp(machine.memory // 8, 32 * _MB, 4 * _GB)),
        "effective_cache_size": _size(_clamp(machine.memory // 2, 128 * _MB, 64 * _GB)),
        "maintenance_work_mem": _size(maintenance),
        "work_mem": _size(_clamp(machine.memory // 512, 4 * _MB, 32 * _MB)),
        "max_parallel_maintenance_workers": str(workers),
        "max_parallel_workers_per_gather": str(min(workers, 2)),
        "max_parallel_workers": str(max(workers, 1)),
        "max_worker_processes": str(8 + workers),
        "max_wal_size": _size(_clamp(machine.disk // 20, 256 * _MB, 4 * _GB)),
        "wal_level": "logical",
        "random_page_cost": "1.1",
        "jit": "off",
        "password_encryption": "'scram-sha-256'",
        "cluster_name": "'likewise'",
        "log_line_prefix": "'%m [%p] '",
        # A failed statement may hold people's data or a password: it is reported to who sent it, not written down.
        "log_min_error_statement": "panic",
    }
    if machine.shared is not None and machine.shared < maintenance + 64 * _MB:
        # A parallel build of an HNSW index allocates maintenance_work_mem of shared memory; containers have a /dev/shm of 64 MB.
        chosen["dynamic_shared_memory_type"] = "sysv"
    if major >= 18 and machine.processors == 1:
        chosen["io_workers"] = "1"
    return chosen


def _clamp(value: int, low: int, high: int) -> int:
    return max(low, min(value, high))


def _size(count: int) -> str:
    return f"{count // _MB}MB"


def _physical_memory() -> int:
    if sys.platform == "win32":
        return 4 * _GB
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _processors() -> int:
    if sys.platform.startswith("linux"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _group_folders(controller: str) -> Iterator[Path]:
    """The control groups of this process, innermost first: any of them may hold a limit (versions 1 and 2)."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:  # not Linux, or no /proc: then there is no limit to be seen
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            base = Path("/sys/fs/cgroup")
        elif controller in controllers.split(","):
            base = Path("/sys/fs/cgroup") / controllers
        else:
            continue
        folder = base / path.lstrip("/")
        while True:
            yield folder  # inside a container the path may be the host's; what does not exist is passed over
            if folder == base:
                break
            folder = folder.parent


def _group_memory() -> Iterator[int]:
    for folder in _group_folders("memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):
            words = _words(folder / name)
            if words and words[0].isdigit():  # or "max"
                yield int(words[0])


def _group_processors() -> Iterator[int]:
    for folder in _group_folders("cpu"):
        words = _words(folder / "cpu.max")
        if not words:
            words = [*_words(folder / "cpu.cfs_quota_us"), *_words(folder / "cpu.cfs_period_us")]
        if len(words) == 2 and words[0].isdigit() and int(words[1]) > 0:
            yield max(1, -(-int(words[0]) // int(words[1])))


def _words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:  # absent in this version of control groups, or hidden: no limit to be seen
        return []
