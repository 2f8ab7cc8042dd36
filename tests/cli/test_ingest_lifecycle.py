"""``likewise ingest`` over the life of a folder: rehearsed, cut in ways that are remembered, watched, killed and gone on with."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import likewise as package
from likewise.cli.exits import Exit
from likewise.filters import Eq, Metadata

if TYPE_CHECKING:
    from cli.conftest import Likewise


def stored(url: str) -> dict[str, tuple[str | None, Any]]:
    """Every record, and of each document whether its chunks are there."""
    with package.connect(url) as store:
        collection = store.collection("mine")
        documents = collection.documents()
        for document in documents.scan(limit=10_000).documents:
            assert document.chunks == len(documents.chunks(document.id))
        return {r.id: (r.content, r.metadata) for r in collection.scan(limit=10_000)}


def test_a_rehearsal_makes_nothing(likewise: Likewise, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one two three")
    done = likewise("ingest", tmp_path, "-c", "mine", "--dry-run", "--json").json
    assert (done["stored"], done["records"], done["total_records"]) == (1, 1, 0)
    assert done["estimated_seconds"] > 0
    assert likewise("collections", "--json").json == {"collections": []}
    assert "embedding would take about" in likewise("ingest", tmp_path, "-c", "mine", "--dry-run").out


def test_how_texts_are_cut_is_remembered(likewise: Likewise, tmp_path: Path, fresh_database_url: str) -> None:
    (tmp_path / "a.txt").write_text("one two three four five six")
    spec = ("-c", "mine", "--embedder", "hashing:64", "--base", tmp_path, "--json")
    assert likewise("ingest", tmp_path, *spec, "--chunker", "tokens", "--size", 2).json["records"] == 3
    again = likewise("ingest", tmp_path, *spec).json
    assert (again["unchanged"], again["stored"]) == (1, 0)
    whole = '{"kind": "tokens", "size": 4, "overlap": 2}'
    assert likewise("ingest", tmp_path, *spec, "--chunker", whole, "--metadata", '{"team": "a"}').json["records"] == 2
    assert {m["team"] for _, m in stored(fresh_database_url).values()} == {"a"}
    assert likewise("ingest", tmp_path, *spec, "--chunker", "paragraphs").json["records"] == 1
    for options, said in (
        (("--chunker", "nope"), "'kind' is 'nope'"),
        (("--chunker", "{nope"), "--chunker is no JSON"),
        (("--size", 3), "give --chunker too"),
        (("--chunker", whole, "--size", 3), "a size of its own"),
        (("--chunker", "paragraphs", "--size", 3), "measured in characters"),
        (("--metadata", "[1]"), "must be a JSON object"),
        (("--watch", "--dry-run"), "give one of them"),
        (("--workers", 0), "from 1 to 64"),
    ):
        done = likewise("ingest", tmp_path, *spec, *options)
        assert done.code == Exit.INVALID
        assert said in done.error["message"]


def until(condition: Callable[[], bool], process: subprocess.Popen[str], seconds: float = 60) -> None:
    ends = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < ends
        time.sleep(0.05)


def test_a_folder_is_watched(tmp_path: Path, fresh_database_url: str) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "a.txt").write_text("one")
    command = [
        sys.executable, "-m", "likewise.cli.main", "ingest", str(folder), "-c", "mine", "--embedder", "hashing:64", "--base", str(folder), "--watch",
        "--database", fresh_database_url,
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with package.connect(fresh_database_url) as store:

        def has(wanted: dict[str, str]) -> bool:
            try:
                found = {r.id: r.content for r in store.collection("mine").scan()}
            except package.errors.CollectionNotFound:
                return False
            return found == wanted

        try:
            until(lambda: has({"a.txt#0": "one"}), process)
            (folder / "deep").mkdir()
            (folder / "deep" / "b.txt").write_text("two")
            (folder / "a.txt").write_text("three")
            (folder / ".hidden").write_text("not to be seen")
            until(lambda: has({"a.txt#0": "three", "deep/b.txt#0": "two"}), process)
            (folder / "deep").rename(folder / "shallow")
            until(lambda: has({"a.txt#0": "three", "shallow/b.txt#0": "two"}), process)
            (folder / "a.txt").unlink()
            until(lambda: has({"shallow/b.txt#0": "two"}), process)
            process.send_signal(signal.SIGTERM)
            _, said = process.communicate(timeout=30)
        finally:
            process.kill()
            process.wait()
    assert process.returncode == Exit.OK
    assert "1 files stored as 1 records" in said


@pytest.mark.slow
def test_killed_at_any_moment_and_gone_on_with(tmp_path: Path, fresh_database_url: str, likewise: Likewise) -> None:
    folder, draw = tmp_path / "files", random.Random(7)
    words = [f"word{n}" for n in range(300)]
    for n in range(500):
        (folder / f"{n % 20}").mkdir(parents=True, exist_ok=True)
        text = "\n\n".join(" ".join(draw.choices(words, k=40)) for _ in range(draw.randint(1, 8)))
        (folder / f"{n % 20}" / f"{n}.txt").write_text(text if n % 50 else "the same in ten files")
    spec = ("--embedder", "hashing:64", "--base", str(folder), "--chunker", '{"kind": "tokens", "size": 20}')
    whole = likewise("ingest", folder, "-c", "mine", *spec, "--json").json
    assert (whole["stored"], whole["duplicates"]) == (491, 9)
    wanted = stored(fresh_database_url)
    likewise("collections", "drop", "mine", "--yes")
    command = [sys.executable, "-m", "likewise.cli.main", "ingest", str(folder), "-c", "mine", *spec, "--database", fresh_database_url]  # fmt: skip
    started = time.monotonic()  # of a process, which first has to come up
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    took = time.monotonic() - started
    likewise("collections", "drop", "mine", "--yes")
    with package.connect(fresh_database_url) as store:
        store.ensure_collection(package.CollectionSpec("mine", embedder="hashing:64"))
    reached = []
    for kill in range(20):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(draw.uniform(0.3, 1.0) * min(took, 10.0))
        process.kill()
        assert process.wait() in (-signal.SIGKILL, Exit.OK)
        found = stored(fresh_database_url)
        reached.append(len(found))
        for name in {str(metadata["source"]) for _, metadata in found.values()}:
            mine = [m for _, m in found.values() if m["source"] == name]
            assert len(mine) == mine[0]["chunks"], f"{name} is half there after kill {kill}"
        if len(found) == len(wanted):
            # It got through: from here on again.
            with package.connect(fresh_database_url) as store:
                store.collection("mine").documents().forget([f"{n % 20}/{n}.txt" for n in range(0, 500, 2)])
    assert likewise("ingest", folder, "-c", "mine", *spec, "--json").code == Exit.OK
    assert stored(fresh_database_url) == wanted
    assert len(set(reached)) > 3
    with package.connect(fresh_database_url) as store:
        assert store.collection("mine").documents().sync().restored == 0
        assert store.collection("mine").count(Eq(Metadata("source"), "1/1.txt")) > 0
