"""What is stored and asked: real lines of text, embedded once with the shipped model, with filters and exact answers.

Lines are embedded in the order they are stored in, in parts that are kept, so that a larger run adds to what a smaller one has made. Where
growth asks for more rows than there are lines, the rest lie between two real rows each.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import importlib.metadata
import json
import platform
import random
import re
import sysconfig
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from likewise.embedding import load_embedder
from peers._serve import TOP_K, Vector

MODEL = "mini"
#: lines at the head of the corpus that are only asked for, never stored
RESERVED = 2000
PART = 4096
#: a made row is this much of one real row, and the rest of another
NEAR = 0.7
BLOCK = 16_384
#: part100 is a number from 0 to 99 by chance, and the filter asks for 0
INDEPENDENT = {
    "part1": 100.0,
    "part2": 50.0,
    "part10": 10.0,
    "part20": 5.0,
    "part50": 2.0,
    "part100": 1.0,
    "part1000": 0.1,
}
#: topic10 says which of 10 centres a row's vector is nearest to
CORRELATED = {"topic10": 10, "topic100": 100}
TIE = 1e-5


class TooFewLines(Exception):
    """The texts do not suffice for the rows asked for."""


@dataclass(frozen=True)
class Condition:
    """A filter: ``field = value``; ``percent`` of the rows match it."""

    field: str
    value: int
    percent: float
    correlated: bool
    matching: NDArray[np.bool_]

    @property
    def name(self) -> str:
        return f"correlated {self.percent:.2g} %" if self.correlated else f"{INDEPENDENT[self.field]:g} %"


@dataclass(frozen=True)
class Data:
    """A folder with ``rows.npy``, ``rows.jsonl`` and ``queries.npy``, of which the first ``count`` rows are used."""

    folder: Path
    count: int
    rows: Vector
    queries: Vector
    fields: list[str]
    about: dict[str, Any]

    def conditions(self) -> list[Condition]:
        with np.load(self.folder / "metadata.npz") as columns:
            values = {field: columns[field][: self.count] for field in self.fields}
        made = []
        for field in INDEPENDENT:
            mask = values[field] == 0
            made.append(Condition(field, 0, 100 * float(mask.mean()), False, mask))
        for field, parts in CORRELATED.items():
            sizes = np.bincount(values[field], minlength=parts)
            value = int(np.argmin(np.abs(sizes - self.count / parts)))
            mask = values[field] == value
            made.append(Condition(field, value, 100 * float(mask.mean()), True, mask))
        return [condition for condition in made if condition.matching.any()]


class Truth:
    """Exact answers to a number of queries among the rows that match; rows as near as the last one count."""

    def __init__(self, data: Data, queries: int, matching: NDArray[np.bool_] | None = None) -> None:
        places = np.arange(data.count) if matching is None else np.flatnonzero(matching)
        self.expected = min(TOP_K, len(places))
        self._data = data
        self._allowed = np.zeros(data.count, dtype=np.bool_)
        self._allowed[places] = True
        stored = data.rows[: data.count] if matching is None else data.rows[places]
        worst = []
        for start in range(0, queries, 64):
            near = data.queries[start : min(start + 64, queries)] @ stored.T
            worst.append(np.partition(near, -self.expected, axis=1)[:, -self.expected])
        self._worst = np.concatenate(worst)

    def recall(self, found: list[list[str]]) -> float:
        """The part of the true answers that were found, over all queries that were answered."""
        hits = 0
        for number, ids in enumerate(found):
            places = np.array(sorted({int(each[1:]) for each in ids}), dtype=np.int64)
            if len(places):
                near = self._data.rows[places] @ self._data.queries[number] >= self._worst[number] - TIE
                hits += min(self.expected, int((near & self._allowed[places]).sum()))
        return hits / (self.expected * len(found))

    def wrong(self, found: list[list[str]]) -> int:
        """How many of the results do not match the filter."""
        return sum(not self._allowed[int(each[1:])] for ids in found for each in ids)


def prepare(work: Path, texts: Path | None, note: str | None, count: int, queries: int, *, grow: bool = False) -> Data:
    """The data for ``count`` rows, made as far as it is not there yet; ``grow`` allows made rows where there are too few lines."""
    lines, source = (_file_lines(texts), texts.name) if texts else (_kept_lines(work), "installed packages")
    real = min(count, len(lines) - RESERVED)
    if queries > RESERVED or real < (2 if grow else count):
        raise TooFewLines(
            f"{source}: {len(lines):,} different lines are enough for {max(0, len(lines) - RESERVED):,} rows and {RESERVED:,} queries: "
            "ask for fewer, or give --texts a longer file"
        )
    digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    base = work / "data" / f"{MODEL}-{digest[:12]}"
    folder = base / f"{count}"
    if not (folder / "done").exists():
        _write(folder, count, lines[RESERVED:], _embedded(base, lines, RESERVED + real))
    rows = np.load(folder / "rows.npy", mmap_mode="r")
    about = {
        "texts": note or f"lines of text from {source}",
        "lines": len(lines),
        "sha256": digest,
        "model": MODEL,
        "dimension": rows.shape[1],
        "real": real,
    }
    return Data(folder, count, rows, np.load(folder / "queries.npy"), [*INDEPENDENT, *CORRELATED], about)


def _embedded(base: Path, lines: list[str], count: int) -> Vector:
    base.mkdir(parents=True, exist_ok=True)
    embedder = load_embedder(MODEL)
    parts = []
    for start in range(0, count, PART):
        file = base / f"vectors-{start:08}.npy"
        if not file.exists():
            print(f"  embedding lines {start:,} to {min(start + PART, len(lines)):,}", flush=True)
            temporary = file.with_suffix(".new.npy")
            np.save(temporary, np.asarray(embedder.embed_texts(lines[start : start + PART]), dtype=np.float32))
            temporary.rename(file)
        parts.append(np.load(file))
    made: Vector = np.concatenate(parts)[:count]
    return made


def _write(folder: Path, count: int, lines: list[str], vectors: Vector) -> None:
    """The rows with their metadata. A row's metadata do not depend on how many rows there are, but for the topics' centres."""
    folder.mkdir(parents=True, exist_ok=True)
    real, dimension = vectors[RESERVED:], vectors.shape[1]
    pairs = np.random.default_rng(0).integers(len(real), size=(max(0, count - len(real)), 2))
    rows = np.lib.format.open_memmap(folder / "rows.npy", mode="w+", dtype=np.float32, shape=(count, dimension))
    rows[: len(real)] = real[:count]
    for start in range(0, len(pairs), BLOCK):
        near, far = pairs[start : start + BLOCK].T
        mixed = np.float32(NEAR) * real[near] + np.float32(1 - NEAR) * real[far]
        first = len(real) + start
        rows[first : first + len(mixed)] = mixed / np.linalg.norm(mixed, axis=1, keepdims=True)
    rows.flush()
    columns: dict[str, NDArray[np.int64]] = {}
    for field in INDEPENDENT:
        parts = int(field.removeprefix("part"))
        columns[field] = np.random.default_rng(parts).integers(parts, size=count)
    for field, parts in CORRELATED.items():
        columns[field] = _nearest_centre(rows, parts)
    np.save(folder / "queries.npy", vectors[:RESERVED])
    np.savez(folder / "metadata.npz", **columns)  # type: ignore[arg-type]
    texts = [*lines[: min(count, len(real))], *(_mixed_text(lines[near], lines[far]) for near, far in pairs)]
    with (folder / "rows.jsonl").open("w", encoding="utf-8") as file:
        for number, text in enumerate(texts):
            metadata = {field: int(column[number]) for field, column in columns.items()}
            print(json.dumps({"id": f"r{number}", "text": text, "metadata": metadata}, ensure_ascii=False), file=file)
    (folder / "done").touch()


def _mixed_text(near: str, far: str) -> str:
    """The beginnings of two lines, joined: as long as a line, for PostgreSQL keeps longer rows in another way."""
    return f"{near[: round(NEAR * len(near))]} {far[: round((1 - NEAR) * len(far))]}"


def _nearest_centre(rows: Vector, parts: int) -> NDArray[np.int64]:
    """k-means: ten rounds on a sample, then every row's nearest centre."""
    rng = np.random.default_rng(parts)
    sample = rows[rng.choice(len(rows), min(len(rows), 20_000), replace=False)]
    centres = sample[:parts]
    for _ in range(10):
        nearest = np.argmax(sample @ centres.T, axis=1)
        sums = np.zeros_like(centres)
        np.add.at(sums, nearest, sample)
        lengths = np.linalg.norm(sums, axis=1, keepdims=True)
        centres = np.where(lengths > 0, sums / np.maximum(lengths, 1e-9), centres).astype(np.float32)
    return np.concatenate([np.argmax(rows[i : i + 8192] @ centres.T, axis=1) for i in range(0, len(rows), 8192)])


def _file_lines(path: Path) -> list[str]:
    """The lines of a file, each once, in an order by chance."""
    return _shuffled(sorted({line.strip() for line in path.read_text("utf-8").splitlines()} - {""}))


def _kept_lines(work: Path) -> list[str]:
    """Our own lines; kept, so that what is installed later does not change them."""
    file = work / "data" / f"lines-{platform.python_version()}.txt"
    if not file.exists():
        print("  gathering lines of text from the installed packages", flush=True)
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary = file.with_suffix(".new")
        temporary.write_text("\n".join(_own_lines()), "utf-8")
        temporary.rename(file)
    return file.read_text("utf-8").split("\n")


def _own_lines() -> list[str]:
    """Paragraphs of the descriptions of the installed packages, and of the docstrings of the standard library and those packages."""
    found: list[str] = []
    for distribution in sorted(importlib.metadata.distributions(), key=lambda each: each.metadata["Name"] or ""):
        description = distribution.metadata.get_payload()  # type: ignore[attr-defined]
        if isinstance(description, str):
            found.extend(_paragraphs(description))
    for name in ("stdlib", "purelib"):
        root = Path(sysconfig.get_path(name))
        for file in sorted(root.rglob("*.py")):
            if name == "stdlib" and "site-packages" in file.parts:
                continue
            for docstring in _docstrings(file):
                found.extend(_paragraphs(docstring))
    return _different(found)


def _docstrings(file: Path) -> Iterator[str]:
    with contextlib.suppress(OSError, SyntaxError, ValueError, RecursionError), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for node in ast.walk(ast.parse(file.read_bytes())):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                docstring = ast.get_docstring(node)
                if docstring:
                    yield docstring


def _paragraphs(text: str) -> Iterator[str]:
    """What reads like prose, a sentence or a few at a time: up to 160 characters, or one longer sentence of up to 400."""
    for paragraph in re.split(r"\n\s*\n", text):
        if re.match(r"\s*([|>#<`*=+~^$%.:\[!-]|\d+\.)", paragraph):
            continue  # tables, markup, code, lists
        kept = ""
        for sentence in re.split(r"(?<=[.!?]) (?=[A-Z])", " ".join(paragraph.split())):
            if kept and len(kept) + len(sentence) > 160:
                yield kept[:400]
                kept = ""
            kept = f"{kept} {sentence}".strip()
        yield kept[:400]


def _different(lines: Iterable[str]) -> list[str]:
    """Each line once, whatever its case and punctuation, in an order by chance that is always the same."""
    seen: dict[str, str] = {}
    for line in lines:
        letters = sum(each.isalpha() or each == " " for each in line)
        if 40 <= len(line) <= 2000 and letters >= 0.8 * len(line) and ">>>" not in line:
            seen.setdefault(re.sub(r"\W+", " ", line.lower()).strip(), line)
    return _shuffled([seen[key] for key in sorted(seen)])


def _shuffled(lines: list[str]) -> list[str]:
    random.Random(0).shuffle(lines)
    return lines
