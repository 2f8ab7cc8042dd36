"""``likewise demo``, end to end on a PostgreSQL of its own."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

from likewise.cli.demo import page
from likewise.cli.demo.build import Built
from likewise.cli.demo.tour import Card, Join, Measured, Query, Tour
from likewise.cli.exits import Exit

if TYPE_CHECKING:
    from cli.conftest import Likewise


def well_formed(text: str) -> None:
    """Every element that is opened is closed, in order."""
    void = {"meta", "img", "br"}
    open_elements: list[str] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: object) -> None:
            if tag not in void:
                open_elements.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert open_elements.pop() == tag

    Reader().feed(text)
    assert not open_elements


@pytest.mark.slow
def test_from_beginning_to_end(likewise: Likewise, fresh_database_url: str, tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    first = likewise("demo", "--json", "--html", report)
    assert first.code == Exit.OK, first.err
    told = first.json
    assert told["reused"] is False
    assert told["photographs"] > 100
    assert told["html"] == str(report)
    assert len(told["queries"]) >= 6
    assert all(q["results"] for q in told["queries"])
    assert told["sql"]["rows"]
    assert all(row[2] < 20 and row[3] > 0 for row in told["sql"]["rows"])
    similarities = [row[4] for row in told["sql"]["rows"]]
    assert similarities == sorted(similarities, reverse=True)
    assert told["measured"]["recall"] >= 0.9
    text = report.read_text("utf-8")
    well_formed(text)
    assert text.count("data:image/jpeg;base64,") >= 30
    assert not re.search(r"(?:src|href)=\"(?!data:)", text)
    with psycopg.connect(fresh_database_url) as connection:
        counts = connection.execute("select (select count(*) from products), (select count(*) from demo)").fetchone()
    assert counts == (told["products"], told["photographs"] + told["texts"])

    second = likewise("demo", "--html", report, "--pictures", "none")
    assert second.code == Exit.OK
    assert "found from an earlier run" in second.out
    assert second.out.count(told["notice"]) <= 1
    assert "likewise search" in second.out
    assert "\x1b" not in second.out

    found = likewise("search", "a bird with a long neck", "--json").json
    assert found["collection"] == "demo"
    assert found["count"] == 10

    with psycopg.connect(fresh_database_url) as connection:
        connection.execute("update likewise.registry set spec = jsonb_set(spec, '{model,revision}', '\"0\"')")
    anew = likewise("demo", "--json", "--html", report)
    assert anew.code == Exit.OK, anew.err
    assert anew.json["reused"] is False

    assert likewise("demo", "--reset", "--json", "--html", report).json["reused"] is False


@pytest.mark.slow
def test_an_interrupted_run_leaves_nothing_and_can_be_repeated(
    likewise: Likewise, fresh_database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from likewise.cli.demo import build

    def interrupt(*_arguments: object) -> None:
        raise KeyboardInterrupt

    # After the products are inserted, and before the transaction ends.
    with monkeypatch.context() as patch:
        patch.setattr(build, "_mark", interrupt)
        assert likewise("demo", "--json", "--html", tmp_path / "x.html").code == Exit.INTERRUPTED
    with psycopg.connect(fresh_database_url) as connection:
        assert connection.execute("select to_regclass('products'), count(*) from demo").fetchone() == (None, 0)
    assert likewise("demo", "--json", "--html", tmp_path / "x.html").code == Exit.OK


def test_a_table_of_somebody_else_is_not_touched(likewise: Likewise, fresh_database_url: str) -> None:
    with psycopg.connect(fresh_database_url) as connection:
        connection.execute("create table products (id int)")
        connection.execute("insert into products values (7)")
    for arguments in (["demo"], ["demo", "--reset"]):
        done = likewise(*arguments, "--json")
        assert (done.code, done.error["type"]) == (Exit.INVALID, "InvalidArgument")
    with psycopg.connect(fresh_database_url) as connection:
        assert connection.execute("select id from products").fetchall() == [(7,)]


def test_not_without_sql(run: Likewise) -> None:
    assert run("demo", "--database", "memory://", "--json").error["type"] == "UnsupportedFeature"


def test_the_page_escapes_what_it_is_given() -> None:
    evil = "<script>alert('&\"')</script>"
    card = Card(evil, evil, evil, 2.0, None)
    tour = Tour(
        built=Built(None, False, 1, 2, 3, {evil: 1.0}),  # type: ignore[arg-type]
        server=evil,
        notice=evil,
        queries=[Query(evil, evil, [card], 1.0, evil)],
        join=Join(evil, evil, [evil], [[evil]], [card], 1.0),
        measured=Measured(1, 1, 1, 1, 1, 1, 10),
    )
    text = page.render(tour)
    assert "<script" not in text
    well_formed(text)
