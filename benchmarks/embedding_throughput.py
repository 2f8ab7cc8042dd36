"""How many texts a second does Likewise embed, beside what a careful user would write, sentence-transformers and fastembed?

    python benchmarks/embedding_throughput.py [--data DATA | --texts lines.txt] [--rounds 7] [--out benchmarks/results]

One model for all: all-MiniLM-L6-v2's architecture with random weights, in float32; only the shipped ``mini`` is another, in int8. Each
contestant is a process in an environment of its own (``peers/embedding_*.txt``; ``--python torch=/path/to/python`` takes one that is there).
They take turns, with other texts in each round, and their vectors are compared. A ratio is the median of the rounds' ratios, so that what
slows a whole round changes none. Beside it stands the ratio of the processor's time, which other programs hardly change.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import csv
import datetime
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import plots
from numpy.typing import NDArray
from peers._harness import environment, machine, repin, revision
from tokenizers import Tokenizer

from likewise.embedding import mini

HERE = Path(__file__).parent
MODEL_FILES = Path(mini.__file__).parent / "models" / "mini"
#: Which environment a contestant runs in, and its name in the tables.
WHERE = {
    "likewise": ("likewise", "Likewise, ONNX"),
    "hand_written": ("likewise", "ONNX Runtime by hand"),
    "sentence_transformers": ("torch", "sentence-transformers"),
    "fastembed": ("fastembed", "fastembed"),
    "likewise_bf16": ("torch", "Likewise, torch bf16"),
    "likewise_fastembed": ("fastembed", "Likewise, fastembed"),
    "likewise_mini": ("likewise", "Likewise, mini (int8)"),
}
#: (what, beside what, the least ratio that is aimed at)
TARGETS = (
    ("likewise", "hand_written", 0.95),
    ("likewise", "sentence_transformers", 1.5),
    ("likewise", "fastembed", 3.0),
    ("likewise_bf16", "likewise", 1.8),
    ("likewise_fastembed", "fastembed", None),
    ("likewise_mini", "likewise", None),
)
#: Tokens, special ones included, of the longest text: shorter than where any contestant cuts.
LONGEST = 126


@dataclass
class Contestant:
    """A running process and what it took: seconds a text, by the clock and by the processor, of each round."""

    process: subprocess.Popen[str]
    about: str
    seconds: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)
    rows: list[NDArray[np.float32]] = field(default_factory=list)

    def embed(self, texts: Sequence[str]) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"texts": list(texts)}) + "\n")
        self.process.stdin.flush()
        answer = _answer(self.process)
        self.seconds.append(answer["seconds"] / len(texts))
        self.processor.append(answer["processor"] / len(texts))
        rows = np.frombuffer(base64.b64decode(answer["rows"]), "<f4")
        self.rows.append(rows.reshape(-1, 384).astype(np.float32))


def _answer(process: subprocess.Popen[str]) -> Any:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise SystemExit(f"{' '.join(map(str, process.args))}: ended with {process.wait()}")  # type: ignore[arg-type]
    return json.loads(line)


@contextlib.contextmanager
def running(pythons: dict[str, Path], model: Path, threads: int) -> Iterator[dict[str, Contestant]]:
    """All contestants, each in its own process, ready."""
    variables = os.environ | {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": str(threads)}
    variables |= {"RAYON_NUM_THREADS": str(threads)}
    started: dict[str, Contestant] = {}
    with contextlib.ExitStack() as stack:
        for name, (place, _) in WHERE.items():
            command = [str(pythons[place]), str(HERE / "_embedders.py"), name, str(model), "--threads", str(threads)]
            errors = stack.enter_context(tempfile.TemporaryFile())
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, env=variables
            )
            stack.callback(_end, process)
            try:
                started[name] = Contestant(process, _answer(process)["about"])
            except SystemExit as error:
                errors.seek(0)
                raise SystemExit(f"{error}\n{errors.read().decode(errors='replace')[-2_000:]}") from None
        yield started


def _end(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.close()
    try:
        process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    process.stdout.close()


# The texts.


def texts_of(options: argparse.Namespace, count: int) -> tuple[list[str], str]:
    """So many texts, none longer than the models take, in an order by chance; and what they are."""
    if options.texts:
        found, what = options.texts.read_text("utf-8").splitlines(), f"lines of {options.texts.name}"
    elif options.data:
        found, what = (
            _mixed(options.data),
            "titles, first sentences of abstracts (SciFact), questions (BANKING77), captions",
        )
    else:
        catalogue = json.loads(
            (Path(mini.__file__).parents[2] / "likewise_demo_data" / "catalog.json").read_text("utf-8")
        )
        captions = [entry["caption"] for entry in catalogue]
        found = [" ".join(captions[place : place + 1 + place % 8]) for place in range(len(captions))]
        what = "captions of the demo, one to eight together"
    words = Tokenizer.from_file(str(MODEL_FILES / "tokenizer.json"))
    words.no_padding()
    words.enable_truncation(LONGEST)
    short: list[str] = []
    for encoding, text in zip(words.encode_batch([text for text in found if text.strip()]), found, strict=False):
        # As much of it as fits.
        end = encoding.offsets[-2][1] if len(encoding.ids) > 2 else 0
        if end:
            short.append(text[:end])
    rng = np.random.default_rng(1)
    chosen = [short[place % len(short)] for place in rng.permutation(max(count, len(short)))[:count]]
    tokens = [len(encoding.ids) for encoding in words.encode_batch(chosen)]
    low, middle, high = np.quantile(tokens, (0.05, 0.5, 0.95))
    return (
        chosen,
        f"{what}; {np.mean(tokens):.0f} tokens on average (5 % {low:.0f}, median {middle:.0f}, 95 % {high:.0f})",
    )


def _mixed(data: Path) -> list[str]:
    found: list[str] = []
    for line in (data / "ir" / "scifact" / "corpus.jsonl").read_text("utf-8").splitlines():
        row = json.loads(line)
        sentences = re.split(r"(?<=[.?!])\s+", row["text"])
        found += [row["title"], " ".join(sentences[: 1 + len(found) // 2 % 5])]
    with (data / "support" / "banking77_test.csv").open(encoding="utf-8", newline="") as file:
        found += [row[0] for row in csv.reader(file)][1:]
    with (data / "flickr8k-test" / "captions.csv").open(encoding="utf-8", newline="") as file:
        found += [row["caption"] for row in csv.DictReader(file)][:2_000]
    return [text for text in found if text.strip()]


# The tables.


def ratio(over: Sequence[float], under: Sequence[float]) -> float:
    """How many times as fast the second is as the first, by the median of the rounds."""
    return statistics.median(a / b for a, b in zip(over, under, strict=True))


def three(values: Sequence[float]) -> tuple[float, float, float]:
    return statistics.median(values), min(values), max(values)


def shown(values: Sequence[float]) -> str:
    middle, least, most = (f"{value:.3g}" for value in three(values))
    return f"{middle} ({least}-{most})"


def nearest(a: Contestant, b: Contestant) -> float:
    """The smallest cosine of two contestants' vectors of the same texts."""
    return float(min((x * y).sum(axis=1).min() for x, y in zip(a.rows, b.rows, strict=True)))


def report(results: dict[int, dict[str, Contestant]], about: Sequence[str], drawn: str | None) -> str:
    lines = [f"# Embedding throughput, {datetime.datetime.now().astimezone():%Y-%m-%d}", "", *about, ""]
    if drawn:
        lines += [f"![{drawn}]({drawn})", ""]
    for threads, found in results.items():
        lines += [f"## {threads} thread{'s' if threads > 1 else ''}", ""]
        lines += [
            "| | texts/s | processor ms a text | least cosine with Likewise's | versions |",
            "| --- | ---: | ---: | ---: | --- |",
        ]
        for name, each in found.items():
            cosine = "other weights" if name == "likewise_mini" else f"{nearest(each, found['likewise']):.5f}"
            rates, used = [1 / value for value in each.seconds], [1e3 * value for value in each.processor]
            lines.append(f"| {WHERE[name][1]} | {shown(rates)} | {shown(used)} | {cosine} | {each.about} |")
        lines += [
            "",
            "| | beside | ratio by the clock | by the processor | aimed at |",
            "| --- | --- | ---: | ---: | ---: |",
        ]
        for what, beside, least in TARGETS:
            clock = ratio(found[beside].seconds, found[what].seconds)
            used_ratio = ratio(found[beside].processor, found[what].processor)
            aim = "" if least is None else f"{least}"
            lines.append(f"| {WHERE[what][1]} | {WHERE[beside][1]} | {clock:.2f} | {used_ratio:.2f} | {aim} |")
        lines.append("")
    return "\n".join(lines)


def draw(results: dict[int, dict[str, Contestant]], path: Path) -> str | None:
    legend = "|".join(f"{threads} thread{'s' if threads > 1 else ''}" for threads in results)
    groups: list[tuple[str, str, plots.Series]] = []
    for name, (_, title) in WHERE.items():
        values: list[tuple[float, float, float] | None] = [
            three([1 / value for value in found[name].seconds]) for found in results.values()
        ]
        groups.append((name, title, (legend, values)))
    return plots.bars(path, "Texts embedded a second (longer is better)", groups, "texts/s")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--data", type=Path, help="a folder with ir/scifact, support and flickr8k-test")
    source.add_argument("--texts", type=Path, help="a file of lines to embed")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--size", type=int, default=256, help="texts in a round")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--work", type=Path, default=Path.home() / ".cache" / "likewise-bench")
    parser.add_argument(
        "--python", action="append", default=[], metavar="PLACE=PATH", help="likewise, torch or fastembed"
    )
    parser.add_argument("--repin", help="write the requirements of these places anew, and end")
    parser.add_argument("--note", help="a sentence for the head of the results")
    parser.add_argument(
        "--out", type=Path, help="a folder for embedding.md and embedding.svg; printed only if left out"
    )
    options = parser.parse_args()
    if options.repin:
        for place in options.repin.split(","):
            repin(f"embedding_{place}", options.work)
        return 0
    given = dict(each.split("=", 1) for each in options.python)
    pythons = {
        place: Path(given[place]) if place in given else environment(f"embedding_{place}", options.work)
        for place in dict.fromkeys(place for place, _ in WHERE.values())
    }
    model = options.work / "embedding-model"
    if not (model / "done").exists():
        shutil.rmtree(model, ignore_errors=True)
        subprocess.run([str(pythons["torch"]), str(HERE / "_embedders.py"), "make", str(model)], check=True)
        (model / "done").touch()
    texts, what = texts_of(options, options.size * options.rounds)
    began = os.getloadavg()[0]
    results: dict[int, dict[str, Contestant]] = {}
    for threads in map(int, options.threads.split(",")):
        with running(pythons, model, threads) as contestants:
            for number in range(options.rounds):
                mine = texts[number * options.size : (number + 1) * options.size]
                names = list(contestants)
                # Another one begins each time, and the order is turned round every other time.
                turned = names[number % len(names) :] + names[: number % len(names)]
                for name in turned[:: 1 if number % 2 else -1]:
                    contestants[name].embed(mine)
                print(f"{threads} threads, round {number + 1}", file=sys.stderr, flush=True)
            results[threads] = contestants
    here = machine()
    where = (
        f"{here['cpu']}, {here['cores']} cores, {here['system']}, Python {here['python']}; load average {began:.1f} at the start, "
        f"{os.getloadavg()[0]:.1f} at the end. Likewise is at {revision()}."
    )
    about = [
        *([options.note, ""] if options.note else []),
        f"{options.rounds} rounds of {options.size} texts: {what}. Medians of the rounds, in brackets the least and the most. Ratios are what to read.",
        "",
        where,
    ]
    drawn = draw(results, options.out / "embedding.svg") if options.out else None
    text = report(results, about, drawn)
    print(text)
    if options.out:
        (options.out / "embedding.md").write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
