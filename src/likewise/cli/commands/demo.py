"""``likewise demo``: a database full of pictures in a minute, and what can be asked of it."""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
import tempfile
import webbrowser
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from likewise.cli.context import Context
from likewise.cli.demo.build import build, remove
from likewise.cli.demo.catalog import load_catalog
from likewise.cli.demo.tour import Card, Query, Tour, tour
from likewise.cli.exits import Exit

HELP = "fill an embedded PostgreSQL with photographs and search them by words, by pictures and in SQL"

_REPORT = "likewise-demo.html"
_PICTURES = ("auto", "kitty", "iterm", "blocks", "none")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--keep", action="store_true", help="use what an earlier run has stored (the default)")
    which.add_argument("--reset", action="store_true", help="delete what an earlier run has stored, and start again")
    parser.add_argument("--html", metavar="FILE", help=f"where to write the report (default: {_REPORT} in this folder)")
    parser.add_argument("--no-open", action="store_true", help="do not open the report in a browser")
    parser.add_argument(
        "--pictures",
        choices=_PICTURES,
        default="auto",
        help="how to show pictures in the terminal (default: by the terminal)",
    )


def run(context: Context) -> int:
    """Build, search, show, report."""
    # Drawing takes Pillow, which the help does without.
    from likewise.cli.demo import page

    options, output = context.options, context.output
    catalog = load_catalog()
    with context.store() as store:
        if options.reset:
            remove(store)
        built = build(store, catalog, output.progress)
        with output.progress("searching and measuring"):
            shown = tour(store, built, catalog)
        url = store.url
    report = _write(options.html, page.render(shown))
    output.document(_document(shown, report, url))
    if not output.as_json:
        _show(context, shown, report)
        _open(context, report)
    return Exit.OK


def _show(context: Context, shown: Tour, report: Path) -> None:
    output, built, measured = context.output, shown.built, shown.measured
    how = "found from an earlier run" if built.reused else f"embedded in {built.seconds['embed']:.1f} s"
    output.line(
        f"{built.photographs} photographs and {built.texts} texts {how}, beside {built.products} products. {shown.server}.",
        style="bold",
    )
    output.line(shown.notice, style="dim")
    for query in shown.queries:
        _query(context, query)
    output.line()
    output.line("One statement: likeness, price and stock", style="bold cyan")
    output.line(f"%(query)s is the vector of “{shown.join.text}”. {shown.join.milliseconds:.1f} ms.", style="dim")
    output.line(shown.join.statement)
    output.line()
    output.table(shown.join.columns, shown.join.rows[:10])
    _pictures(context, shown.join.cards)
    output.line()
    output.line("Measured here, just now", style="bold cyan")
    output.table(
        ["what", "value"],
        [
            ["embed a sentence", f"{measured.embed_text:.1f} ms"],
            ["embed a picture", f"{measured.embed_image:.1f} ms"],
            [
                f"search, median of {measured.searches} (95th percentile)",
                f"{measured.search_p50:.1f} ms ({measured.search_p95:.1f} ms)",
            ],
            [f"recall@{measured.recall_k} of the HNSW index against exact search", f"{measured.recall:.3f}"],
        ],
    )
    output.line(
        "A similarity says how sure a match is, from 0 to 1, of words and of pictures alike. This small model is often sure of what is wrong: "
        "the statement asks for 0.6, and the order is what counts.",
        style="dim",
    )
    output.line()
    output.line(f"The same with all pictures: {report}", style="bold")
    output.line()
    output.line("Try next", style="bold cyan")
    for command in _next_commands(context):
        output.line(f"  {command}")


def _next_commands(context: Context) -> Sequence[str]:
    given = context.options.database
    # The URL is not repeated: it may hold a password, and the environment has it or the user knows it.
    database = " --database …" if given and not os.environ.get("LIKEWISE_DATABASE_URL") else ""
    statement = "select category, count(*), avg(price) from products group by 1 order by 2 desc"
    return (
        f'likewise search "a big wild cat" -c demo{database}',
        f"""likewise search "something sweet" -c demo --where '{{"price": {{"$lt": 10}}}}'{database}""",
        f'likewise sql "{statement}"{database}',
        f"likewise ingest ~/Pictures -c mine{database}",
    )


def _query(context: Context, query: Query) -> None:
    output = context.output
    output.line()
    output.line(query.title, style="bold cyan")
    output.line(f"{query.code}   ({query.milliseconds:.0f} ms, {query.plan})", style="dim")
    protocol = _pictures(context, query.cards, asked=query.asked)
    if protocol == "none":
        output.table(
            ["similarity", "id", "what", "category and price"],
            [[f"{c.similarity:.3f}", c.id, c.title, c.detail] for c in query.cards],
        )


def _pictures(context: Context, cards: Sequence[Card], *, asked: Path | None = None) -> str:
    from likewise.cli.pictures import choose_protocol, show_row

    console = context.output.console
    protocol = choose_protocol(context.options.pictures, console)
    if protocol != "none":
        row: list[tuple[Path | None, Sequence[str]]] = [
            (card.image, (card.title, card.detail, f"{card.similarity:.3f}")) for card in cards
        ]
        if asked is not None:
            row.insert(0, (asked, ("searched with", "", "")))
        show_row(console, protocol, row)
    return protocol


def _write(wanted: str | None, text: str) -> Path:
    path = Path(wanted) if wanted else Path.cwd() / _REPORT
    try:
        path.write_text(text, encoding="utf-8")
    except OSError:
        if wanted:
            raise
        # Nobody named this folder: where it cannot be written to, another will do.
        path = Path(tempfile.mkdtemp(prefix="likewise-")) / _REPORT
        path.write_text(text, encoding="utf-8")
    return path.resolve()


def _open(context: Context, report: Path) -> None:
    graphical = sys.platform in ("win32", "darwin") or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if not context.options.no_open and context.output.is_terminal and graphical:
        webbrowser.open(report.as_uri())


def _document(shown: Tour, report: Path, url: str) -> dict[str, Any]:
    built = shown.built
    return {
        "collection": built.collection.name,
        "database": url,
        "server": shown.server,
        "reused": built.reused,
        "photographs": built.photographs,
        "texts": built.texts,
        "products": built.products,
        "seconds": built.seconds,
        "queries": [
            {
                "title": q.title,
                "command": q.code,
                "milliseconds": q.milliseconds,
                "plan": q.plan,
                "results": [{"id": c.id, "title": c.title, "similarity": c.similarity} for c in q.cards],
            }
            for q in shown.queries
        ],
        "sql": {
            "text": shown.join.text,
            "statement": shown.join.statement,
            "columns": shown.join.columns,
            "rows": shown.join.rows,
            "milliseconds": shown.join.milliseconds,
        },
        "measured": dataclasses.asdict(shown.measured),
        "notice": shown.notice,
        "html": str(report),
    }
