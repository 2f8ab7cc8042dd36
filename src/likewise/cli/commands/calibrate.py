"""``likewise calibrate``: what a similarity means in one collection, fitted to its own records."""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from likewise.abc.stores import Collection
from likewise.calibration import PRIOR, Calibration, Pair
from likewise.cli.context import Context
from likewise.cli.exits import Exit
from likewise.errors import InvalidArgument, NotFound

HELP = "fit what a similarity means to a collection's own records"

#: The similarities whose scores are shown.
_SHOWN = (0.5, 0.8)
#: What a line of a file with matches has.
_KEYS = frozenset({"text", "image", "id"})


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "-c", "--collection", metavar="NAME", help="the collection; by default 'demo', or the only one there is"
    )
    parser.add_argument(
        "--matches",
        metavar="FILE",
        help="queries and the records that they should find: JSON lines such as "
        '{"text": "red dress", "id": "p17"}, or CSV with these columns; "image" is the path of a picture',
    )
    parser.add_argument(
        "--sample",
        metavar="N",
        type=int,
        default=1_000,
        help="how many records to draw of each modality (default: 1000)",
    )
    parser.add_argument(
        "--prior",
        metavar="P",
        type=float,
        default=PRIOR,
        help=f"the share of matches that a similarity is a probability for (default: {PRIOR})",
    )
    ending = parser.add_mutually_exclusive_group()
    ending.add_argument("--dry-run", action="store_true", help="show what would be stored, and store nothing")
    ending.add_argument("--show", action="store_true", help="show what is stored")
    ending.add_argument("--reset", action="store_true", help="go back to what the model's card has")
    ending.add_argument("--remove", action="store_true", help="do without: a similarity is then the score held to 0..1")


def run(context: Context) -> int:
    """Fit, show and store."""
    options = context.options
    if options.matches is not None and (options.show or options.reset or options.remove):
        raise InvalidArgument("--matches is for fitting; leave it out")
    matches = [] if options.matches is None else list(_matches(Path(options.matches)))
    with context.store() as store:
        collection = context.collection(store, options.collection)
        before = _stored(collection)
        if options.show:
            after = before
        elif options.reset or options.remove:
            after = None
            if options.reset and collection.embedder is not None:
                after = collection.embedder.card.calibration
            collection.set_calibration(after)
        else:
            with context.output.progress("calibrating"):
                after = collection.calibrate(
                    matches, sample=options.sample, prior=options.prior, save=not options.dry_run
                )
    stored = not (options.show or options.dry_run)
    context.output.document(
        {
            "collection": collection.name,
            "stored": stored,
            "before": None if before is None else before.to_dict(),
            "calibration": None if after is None else after.to_dict(),
            "scores": _scores(after),
        }
    )
    if after is None:
        context.output.note(f"{collection.name} has no calibration: a similarity is the score held to 0..1")
        return Exit.OK
    context.output.table(
        ["pair", *(f"{s} is a score of" for s in _SHOWN), *(f"{s} was" for s in _SHOWN), "fitted to"],
        [_row(pair, after, before if stored or options.dry_run else None) for pair in after.pairs],
    )
    context.output.note(after.source if options.show else f"{'stored' if stored else 'not stored'}; {after.source}")
    return Exit.OK


def _stored(collection: Collection) -> Calibration | None:
    found = collection.spec.calibration
    return found if isinstance(found, Calibration) else None


def _row(pair: Pair, calibration: Calibration, before: Calibration | None) -> list[object]:
    curve = calibration.curve(pair)
    was = before if before is not None and pair in before.pairs else None
    matched = f"{curve.matched:,} matches, " if curve.matched else ""
    return [
        pair,
        *(f"{curve.score_for(s):.3f}" for s in _SHOWN),
        *("" if was is None else f"{was.score_for(s, pair):.3f}" for s in _SHOWN),
        f"{matched}{curve.unmatched:,} random pairs",
    ]


def _scores(calibration: Calibration | None) -> dict[str, dict[str, float]]:
    """For each pair the score that has each of the similarities shown."""
    if calibration is None:
        return {}
    return {pair: {str(s): round(calibration.score_for(s, pair), 4) for s in _SHOWN} for pair in calibration.pairs}


def _matches(path: Path) -> Iterator[tuple[str | Path, str]]:
    """The matches in a file; paths of pictures are relative to it."""
    try:
        text = path.read_text("utf-8-sig")
    except FileNotFoundError as error:
        raise NotFound(f"there is no file {str(path)!r}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidArgument(f"{path} cannot be read: {error}") from error
    for number, line in _lines(path, text):
        given = {key: value for key, value in line.items() if key in _KEYS and value not in (None, "")}
        if not ("id" in given and len(given) == 2 and all(isinstance(value, str) for value in given.values())):
            raise InvalidArgument(
                f"{path}, line {number}: a match has an id, and a text or the path of an image: "
                '{"text": "red dress", "id": "p17"}'
            )
        yield (given["text"] if "text" in given else path.parent / given["image"]), given["id"]


def _lines(path: Path, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    if path.suffix.lower() == ".csv":
        reader = csv.DictReader(text.splitlines())
        yield from ((reader.line_num, row) for row in reader)
        return
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InvalidArgument(f"{path}, line {number} is not JSON: {error}") from error
        yield number, value if isinstance(value, dict) else {}
