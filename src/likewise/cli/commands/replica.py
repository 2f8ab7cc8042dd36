"""``likewise replica``: look at the replica of a collection, compare it with the database, build it anew, or remove it."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from likewise.cli.context import Context
from likewise.cli.exits import Exit
from likewise.errors import InvalidArgument

if TYPE_CHECKING:
    from likewise.backends.faiss import FaissCollection, ReplicaStatus, VerifyReport

HELP = "look at, verify, repair or drop the replica of a collection"

_ACTIONS = {
    "status": ("say how the replica is", "Read the replica's file, or build it in memory, and say how it is."),
    "verify": (
        "compare every row with the database",
        "Bring the replica to where the database is, and compare every row, while both go on.",
    ),
    "repair": (
        "build it anew, and compare it",
        "Throw the replica and its file away, build it anew, and compare every row.",
    ),
    "drop": (
        "remove it, its file and its slot",
        "Remove the replica with its file, and what the database keeps for it; the collection stays as it is.",
    ),
}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", title="actions", required=True)
    for name, (short, long) in _ACTIONS.items():
        action = actions.add_parser(name, help=short, description=long, allow_abbrev=False)
        action.add_argument(
            "-c", "--collection", metavar="NAME", help="the collection; by default 'demo', or the only one there is"
        )
        action.add_argument(
            "--path", metavar="FOLDER", help="where its file is; without it the replica is in memory only"
        )
        action.add_argument(
            "--hold",
            metavar="WHAT",
            help="what it holds beside ids and vectors: metadata, content, metadata,content or none (default: metadata)",
        )
        action.add_argument(
            "--seconds", metavar="N", type=float, default=600.0, help="how long to wait for it (default: 600)"
        )


def run(context: Context) -> int:
    """Do what the action says."""
    from likewise.backends.faiss import FaissCollection
    from likewise.backends.faiss._options import split_url

    options = context.options
    if not options.seconds > 0:
        raise InvalidArgument(f"--seconds is {options.seconds:g}; it must be above 0")
    url = _url(context)
    if options.action == "drop" and split_url(url)[1].path is None:
        raise InvalidArgument(
            "nothing can be dropped without the folder where the replica is kept: give --path, the replica_path of the program whose it is"
        )
    with context.store(url) as store:
        collection = context.collection(store, options.collection)
        assert isinstance(collection, FaissCollection)
        with context.output.progress(f"{options.action} {collection.name}"):
            if options.action == "drop":
                collection.drop_replica()
                context.output.document({"collection": collection.name, "dropped": True})
                context.output.line(f"the replica of {collection.name} is gone")
                return Exit.OK
            if options.action == "repair":
                collection.rebuild_replica()
            status = collection.replica_wait(options.seconds)
            report = None
            if options.action != "status":
                report = collection.verify_replica(seconds=options.seconds)
                status = collection.replica_status()
    _show(context, collection, status, report)
    return Exit.OK if report is None or report.sound else Exit.FAILURE


def _url(context: Context) -> str:
    """The database's URL, with what the options say of the replica."""
    from likewise.backends.faiss import PREFIX

    url = context.database or "embedded://"
    if "://" not in url:
        raise InvalidArgument(
            "a replica needs the database as a URL: postgresql://user@host/database or embedded:///path"
        )
    if not url.lower().startswith(PREFIX):
        url = PREFIX + url
    for name in ("path", "hold"):
        value = getattr(context.options, name)
        if value is not None:
            url += f"{'&' if '?' in url else '?'}replica_{name}={quote(value, safe='')}"
    return url


def _show(context: Context, collection: FaissCollection, status: ReplicaStatus, report: VerifyReport | None) -> None:
    document: dict[str, Any] = {"collection": collection.name, **asdict(status), "holds": sorted(status.holds)}
    if report is not None:
        document["verified"] = {**asdict(report), "sound": report.sound}
    context.output.document(document)
    came = "built now" if status.built else "read from its file"
    megabytes = sum(status.memory.values()) / 1e6
    context.output.line(
        f"{collection.name}: {status.state}, {status.rows:,} rows, {megabytes:,.1f} MB, {came}, at {status.position}"
    )
    for note in status.notes:
        context.output.note(f"note: {note}", style="yellow")
    if report is None:
        return
    if report.sound:
        context.output.line(f"{report.rows:,} rows compared: all are the same")
    else:
        context.output.line(
            f"{report.rows:,} rows compared: {report.missing:,} are missing, {report.extra:,} are too many, {report.different:,} differ"
        )
        context.output.line(f"among them: {', '.join(report.ids)}")
    if report.undecided:
        context.output.note(
            f"note: {report.undecided:,} rows changed so often that it could not be told", style="yellow"
        )
