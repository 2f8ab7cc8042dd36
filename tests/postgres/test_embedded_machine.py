"""What the embedded server finds on the machine: programs that fit it, memory and processors. No server runs here."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from likewise.backends.postgres.embedded import EmbeddedServer, binaries, machine
from likewise.errors import BackendUnavailable

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the Windows code path is untested")


def test_without_any_binary_the_error_says_what_was_looked_for_and_the_cure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    monkeypatch.setattr(binaries, "WHEELS", {"no-such-wheel": ("no_such_wheel", ("pginstall",))})
    monkeypatch.setattr(binaries, "SYSTEM_PATTERNS", (f"{tmp_path}/bin",))
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(BackendUnavailable) as caught:
        EmbeddedServer(tmp_path / "db").start()
    for part in ("no-such-wheel: not installed", f"{tmp_path}/bin: has no postgres", "pip install", "postgresql://"):
        assert part in str(caught.value)
    assert not (tmp_path / "db").exists()


def test_a_program_that_does_not_run_here_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("postgres", "initdb", "pg_ctl"):
        (tmp_path / name).write_bytes(b"\x7fELF of another machine")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setattr(binaries, "WHEELS", {})
    monkeypatch.setattr(binaries, "SYSTEM_PATTERNS", (str(tmp_path),))
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(BackendUnavailable, match="does not run on this machine"):
        binaries.find_binaries()


def test_settings_follow_the_machine_and_a_small_shared_memory_folder_is_avoided() -> None:
    gb = 1 << 30
    big = machine.settings(machine.Machine(64 * gb, 16, 500 * gb, 32 * gb), major=18)
    small = machine.settings(machine.Machine(gb // 2, 1, 4 * gb, 64 << 20), major=18)
    assert big["shared_buffers"] == "4096MB"
    assert big["maintenance_work_mem"] == "2048MB"
    assert big["max_parallel_maintenance_workers"] == "8"
    assert "dynamic_shared_memory_type" not in big
    assert small["shared_buffers"] == "64MB"
    assert small["max_parallel_maintenance_workers"] == "0"
    assert small["dynamic_shared_memory_type"] == "sysv"
    assert big["wal_level"] == small["wal_level"] == "logical"


def test_control_groups_limit_what_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "memory.max").write_text("268435456\n")
    (tmp_path / "cpu.max").write_text("150000 100000\n")
    monkeypatch.setattr(machine, "_group_folders", lambda _: iter([tmp_path]))
    measured = machine.measure(tmp_path)
    assert measured.memory == 256 << 20
    assert measured.processors == min(2, len(os.sched_getaffinity(0)) if sys.platform == "linux" else 2)
