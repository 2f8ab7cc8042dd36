"""The demo as one HTML file: no script, nothing loaded from elsewhere, pictures inside it as thumbnails."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from functools import cache
from html import escape
from pathlib import Path
from string import Template

from PIL import Image, ImageOps

from likewise.cli.demo.tour import Card, Query, Tour

__all__ = ["render"]

_THUMBNAIL = 320

_PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Likewise: pictures found by words, in SQL</title>
<style>
:root { --ground: #faf9f6; --card: #fff; --ink: #1c1b19; --soft: #6d6a63; --line: #e4e1da; --accent: #0f6b5c; --bar: #d7ebe6; }
@media (prefers-color-scheme: dark) {
  :root { --ground: #151617; --card: #1f2123; --ink: #ecebe7; --soft: #a09d95; --line: #34373a; --accent: #5fd0b9; --bar: #23443d; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink); font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 56px 24px 72px; }
h1 { font-size: clamp(30px, 5vw, 46px); line-height: 1.1; letter-spacing: -.02em; margin: 0 0 14px; text-wrap: balance; }
h2 { font-size: 21px; letter-spacing: -.01em; margin: 0 0 4px; }
p { margin: 0 0 12px; max-width: 76ch; } .soft { color: var(--soft); }
section { margin-top: 52px; }
code, pre { font: 13px/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
pre { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 16px 18px; overflow-x: auto; margin: 14px 0; }
code.call { color: var(--soft); overflow-wrap: anywhere; }
dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 1px; background: var(--line); border: 1px solid var(--line);
  border-radius: 12px; overflow: hidden; margin: 32px 0 0; }
dl div { background: var(--card); padding: 14px 18px; }
dt { color: var(--soft); font-size: 13px; } dd { margin: 0; font-size: 22px; font-weight: 600; font-variant-numeric: tabular-nums; }
.meta { color: var(--soft); font-size: 14px; }
.head { display: flex; gap: 18px; align-items: center; }
.head img { width: 84px; height: 84px; object-fit: contain; background: #fff; padding: 4px; border-radius: 10px; border: 2px solid var(--accent); }
.cards { list-style: none; margin: 18px 0 0; padding: 0; display: grid; gap: 14px; grid-template-columns: repeat(auto-fill, minmax(190px, 1fr)); }
.cards li { background: var(--card); border: 1px solid var(--line); border-radius: 12px; overflow: hidden; display: flex; flex-direction: column; }
.cards img { width: 100%; aspect-ratio: 4 / 3; object-fit: contain; display: block; background: #fff; padding: 8px; }
.cards .words { padding: 10px 13px 12px; font-size: 14px; line-height: 1.4; } .cards b { display: block; font-weight: 600; }
.meter { height: 4px; background: var(--bar); } .meter i { display: block; height: 100%; background: var(--accent); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 14px; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: 7px 14px 7px 0; border-bottom: 1px solid var(--line); } th { color: var(--soft); font-weight: 500; }
td.n, th.n { text-align: right; }
footer { margin-top: 60px; padding-top: 20px; border-top: 1px solid var(--line); color: var(--soft); font-size: 14px; }
</style>
</head>
<body>
<main>
<header>
<h1>Pictures found by words, and joined with prices in SQL</h1>
<p>$photographs photographs and $texts texts lie as vectors in an ordinary PostgreSQL table, beside a table of $products products. Everything
below was searched there a moment ago, on this machine.</p>
<dl>
$facts
</dl>
</header>
$queries
<section>
<h2>One statement: likeness, price and stock</h2>
<p class="meta">“$join_text” is embedded once and handed over as a parameter; the rest is a join. $join_ms.</p>
<pre><code>$statement</code></pre>
<div class="wide">$table</div>
$join_cards
</section>
<footer>
<p>$notice</p>
<p>Similarity says how sure a match is, from 0 to 1, of words and of pictures alike. This small model is often sure of what is wrong, so
the statement above asks for 0.6, and only the order should be relied on.</p>
<p>$server. Recall@$recall_k was measured against exact search on 100 stored vectors. Reading the photographs in and building the index: $seconds.</p>
</footer>
</main>
</body>
</html>
""")


def render(tour: Tour) -> str:
    """The page."""
    measured, built = tour.measured, tour.built
    facts = {
        "embed a sentence": f"{measured.embed_text:.1f} ms",
        "embed a picture": f"{measured.embed_image:.1f} ms",
        f"search, median of {measured.searches}": f"{measured.search_p50:.1f} ms",
        f"measured recall@{measured.recall_k}": f"{measured.recall:.3f}",
    }
    return _PAGE.substitute(
        photographs=built.photographs,
        texts=built.texts,
        products=built.products,
        facts="\n".join(f"<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>" for k, v in facts.items()),
        queries="\n".join(_query(query) for query in tour.queries),
        join_text=escape(tour.join.text),
        join_ms=f"{tour.join.milliseconds:.1f} ms",
        statement=escape(tour.join.statement),
        table=_table(tour.join.columns, tour.join.rows),
        join_cards=_cards(tour.join.cards),
        notice=escape(tour.notice),
        server=escape(tour.server),
        recall_k=measured.recall_k,
        seconds=escape(_seconds(built.seconds, reused=built.reused)),
    )


def _seconds(seconds: dict[str, float], *, reused: bool) -> str:
    if reused:
        return "done in an earlier run"
    return ", ".join(f"{step} {value:.1f} s" for step, value in seconds.items())


def _query(query: Query) -> str:
    asked = f'<img src="{_thumbnail(query.asked)}" alt="the picture that was searched with">' if query.asked else ""
    with_model = "" if query.asked else " with the embedding of the words"
    plan = f"{query.milliseconds:.0f} ms{with_model}, {query.plan} search"
    return (
        f'<section>\n<div class="head">{asked}<div><h2>{escape(query.title)}</h2>'
        f'<code class="call">{escape(query.code)}</code> <span class="meta">· {escape(plan)}</span></div></div>\n'
        f"{_cards(query.cards)}\n</section>"
    )


def _cards(cards: Sequence[Card]) -> str:
    return '<ul class="cards">\n' + "\n".join(map(_card, cards)) + "\n</ul>"


def _card(card: Card) -> str:
    image = f'<img src="{_thumbnail(card.image)}" alt="{escape(card.title)}">' if card.image else ""
    share = max(0.0, min(1.0, card.similarity)) * 100
    return (
        f'<li>{image}<div class="meter"><i style="width:{share:.0f}%"></i></div>'
        f'<div class="words"><b>{escape(card.title)}</b><span class="soft">{escape(card.detail)}<br>'
        f"similarity {card.similarity:.3f}</span></div></li>"
    )


def _table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    def cell(tag: str, place: int, value: object) -> str:
        numeric = bool(rows) and not isinstance(rows[0][place], str)
        return f"<{tag}{' class=n' if numeric else ''}>{escape(str(value))}</{tag}>"

    head = "".join(cell("th", i, column) for i, column in enumerate(columns))
    body = "\n".join(f"<tr>{''.join(cell('td', i, value) for i, value in enumerate(row))}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table>"


@cache
def _thumbnail(path: Path) -> str:
    """The picture as a data URL, small."""
    with Image.open(path) as image:
        small = ImageOps.exif_transpose(image).convert("RGB")
    small.thumbnail((_THUMBNAIL, _THUMBNAIL), Image.Resampling.LANCZOS)
    data = io.BytesIO()
    small.save(data, "JPEG", quality=80, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(data.getvalue()).decode("ascii")
