"""``likewise models``: list, show, pull and bench embedding models."""

from __future__ import annotations

import argparse
import builtins
import inspect
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from likewise.cli.context import Context
from likewise.cli.exits import Exit
from likewise.errors import LikewiseError

if TYPE_CHECKING:
    from likewise.embedding import ModelFiles

HELP = "list, show, fetch or measure embedding models"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", title="actions")
    actions.add_parser(
        "list", help="list the models (the default)", description="List the families of models that can be named."
    )
    show = actions.add_parser("show", help="show a model's card", description="Show what is known of a model.")
    show.add_argument("name", metavar="MODEL", help="its name, such as mini or hashing:128")
    show.add_argument("--load", action="store_true", help="load it, and say how long that takes and how much memory")
    pull = actions.add_parser(
        "pull",
        help="fetch the files of models",
        description="Fetch the files of models into the cache, those that are not there or are damaged, and check all of them.",
    )
    pull.add_argument("names", metavar="MODEL", nargs="+", help="its name, such as minilm or bge-m3")
    bench = actions.add_parser(
        "bench",
        help="measure how fast a model is here",
        description="Measure how many texts of mixed lengths, and pictures, a model embeds in a second on this machine.",
    )
    bench.add_argument("name", metavar="MODEL", help="its name")
    bench.add_argument("--texts", metavar="N", type=int, default=200, help="texts in a round (default: 200)")
    bench.add_argument("--images", metavar="N", type=int, default=32, help="pictures in a round (default: 32)")
    bench.add_argument("--rounds", metavar="N", type=int, default=3, help="rounds, whose median counts (default: 3)")


def run(context: Context) -> int:
    """Do what the action says."""
    return {"list": _list, "show": _show, "pull": _pull, "bench": _bench}[context.options.action or "list"](context)


def _list(context: Context) -> int:
    from likewise.embedding import available_models, load_embedder
    from likewise.embedding.registry import OPEN_FAMILIES

    documents: list[dict[str, Any]] = []
    for name in available_models():
        if name in OPEN_FAMILIES:
            documents.append({"name": f"{name}:NAME", "description": OPEN_FAMILIES[name]})
            continue
        try:
            documents.append(asdict(load_embedder(name).card))
        except LikewiseError as error:
            documents.append({"name": name, "problem": str(error)})
    context.output.document({"models": documents})
    context.output.table(
        ["name", "dimension", "embeds", "longest text", "licence", "what"],
        [
            [
                d["name"],
                d.get("dimension"),
                " and ".join(d.get("modalities", ())),
                None if d.get("max_tokens") is None else f"{d['max_tokens']:,} tokens",
                d.get("licence"),
                d.get("description", d.get("problem")),
            ]
            for d in documents
        ],
    )
    return Exit.OK


def _show(context: Context) -> int:
    from likewise.embedding import load_embedder, model_files

    embedder = load_embedder(context.options.name)
    document: dict[str, Any] = asdict(embedder.card)
    files = model_files(context.options.name)
    if files is not None:
        document["files"] = _files(files)
    if context.options.load:
        before, started = _memory(), time.perf_counter()
        embedder.warm_up()
        document["loaded_seconds"] = round(time.perf_counter() - started, 3)
        after = _memory()
        document["loaded_bytes"] = None if before is None or after is None else max(0, after - before)
    context.output.document(document)
    rows = {k: v for k, v in document.items() if k != "files"} | {
        f"files {k}": v for k, v in document.get("files", {}).items()
    }
    context.output.table(["property", "value"], [[key.replace("_", " "), _shown(value)] for key, value in rows.items()])
    return Exit.OK


def _pull(context: Context) -> int:
    from likewise.embedding import pull_model

    documents: list[dict[str, Any]] = []
    for name in context.options.names:
        with context.output.downloading() as progress:
            files = pull_model(name, progress=progress)
        documents.append({"name": name, **_files(files)})
        context.output.line(f"{name} is here and whole: {files.size:,} bytes in {files.folder}")
    context.output.document({"models": documents})
    return Exit.OK


def _files(files: ModelFiles) -> dict[str, Any]:
    return {
        "here": files.here,
        "missing": list(files.missing),
        "bytes": files.size,
        "folder": str(files.folder),
        "repository": files.repository,
        "revision": files.revision,
    }


def _shown(value: object) -> object:
    if isinstance(value, dict):
        return ", ".join(name.replace("_", "-") for name, curve in value.items() if isinstance(curve, dict))
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else value


def _bench(context: Context) -> int:
    from likewise.embedding import load_embedder

    options = context.options
    embedder = load_embedder(options.name)
    embedder.warm_up()
    document: dict[str, Any] = {"name": embedder.card.name}
    with context.output.progress("measuring"):
        if "text" in embedder.card.modalities:
            texts = _texts(options.texts)
            document["texts_per_second"] = _rate(lambda: embedder.embed_texts(texts), len(texts), options.rounds)
            document["seconds_for_one_text"] = 1 / _rate(lambda: embedder.embed_texts(texts[:1]), 1, options.rounds)
        if "image" in embedder.card.modalities:
            images = _images(options.images)
            document["images_per_second"] = _rate(lambda: embedder.embed_images(images), len(images), options.rounds)
    context.output.document(document)
    context.output.table(["measure", "value"], [[key.replace("_", " "), value] for key, value in document.items()])
    return Exit.OK


def _rate(embed: Callable[[], object], count: int, rounds: int) -> float:
    """How many a second: the median of the rounds, after one that warms up."""
    embed()
    taken = []
    for _ in range(max(1, rounds)):
        started = time.perf_counter()
        embed()
        taken.append(time.perf_counter() - started)
    return round(count / max(statistics.median(taken), 1e-9), 4)


def _texts(count: int) -> list[str]:
    """Real texts of mixed lengths: what Python says of itself, as it is and in paragraphs."""
    found: list[str] = []
    for module in (builtins, argparse, inspect, statistics):
        for value in vars(module).values():
            text = inspect.getdoc(value) or ""
            found.extend([text, *text.split("\n\n")])
    texts = [" ".join(text.split()) for text in dict.fromkeys(found) if len(text.split()) > 3]
    return [texts[i % len(texts)] for i in range(max(1, count))]


def _images(count: int) -> list[Any]:
    """Made pictures of a usual size."""
    from PIL import Image

    gradient = Image.linear_gradient("L").resize((640, 480))
    turned = [gradient.rotate(90 * i) for i in range(4)]
    return [
        Image.merge("RGB", [turned[i % 4], turned[(i // 4) % 4], turned[(i + 1) % 4]]) for i in range(max(1, count))
    ]


def _memory() -> int | None:
    """Bytes of memory that this process has, None where that cannot be seen."""
    if sys.platform != "linux":
        return None
    try:
        import resource

        return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * resource.getpagesize()
    except (OSError, ValueError, IndexError):
        return None
