"""What goes wrong with rows, pictures, models and the database: what fails alone, what is tried again, and what is said of it."""

from __future__ import annotations

import io
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import PIL.Image
import psycopg
import pytest

from likewise.embedding import HashingEmbedder
from likewise.errors import InvalidArgument, ModelUnreachable

from .watch_helpers import Database, assert_embedded, working

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def picture(colour: str) -> bytes:
    buffer = io.BytesIO()
    PIL.Image.new("RGB", (16, 16), colour).save(buffer, "PNG")
    return buffer.getvalue()


class Choosy(HashingEmbedder):
    """Refuses texts with "bad" in them, breaks at "broken" ones, and is away while told so."""

    def __init__(self) -> None:
        super().__init__(32)
        self.away = False
        self.asked = 0

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.asked += len(texts)
        if self.away:
            raise ModelUnreachable("the model's server does not answer", model="choosy", attempts=1)
        for position, text in enumerate(texts):
            if "bad" in text:
                raise InvalidArgument(f"text {position} is bad", position=position)
            if "broken" in text:
                raise RuntimeError("the runtime fell over")
        return super().embed_texts(texts)


def test_rows_that_a_model_refuses_fail_alone_and_are_tried_again(database: Database) -> None:
    model = Choosy()
    database.run("create table things (id int primary key, name text)")
    database.run("insert into things select i, 'thing ' || i from generate_series(1, 100) i")
    database.run("update things set name = 'bad' where id = 40; update things set name = 'broken' where id = 70")
    database.watch("things", content="name")
    with working(database.url, embedders=lambda _: model) as worker:
        database.settled()
        assert database.one("select count(*) from things_embeddings") == 98
        found = database.rows("select key, attempts, error, next_try from likewise.watch_errors order by key")
        assert [(row[0], row[1], row[3]) for row in found] == [("40", 3, None), ("70", 3, None)]
        assert "is bad" in found[0][2]
        assert "RuntimeError: the runtime fell over" in found[1][2]
        assert database.rows("select name, depth, failed from likewise.pending") == [("things", 0, 2)]
        assert worker.failed == 6
        # A change of the row has it tried anew; a failure of what was embedded before takes the old vector away.
        database.run("update things set name = 'mended' where id = 40; update things set name = 'bad too' where id = 1")
        database.settled()
        assert database.rows("select key, attempts from likewise.watch_errors order by key") == [("1", 3), ("70", 3)]
        database.run("alter table things disable trigger user")
        database.run("update things set name = 'well' where id in (1, 70)")
        database.run("alter table things enable trigger user")
        assert database.one("select likewise.retry('things')") == 2
        database.settled()
        assert database.rows("select * from likewise.watch_errors") == []
    texts = dict(database.rows("select id::text, name from things"))
    assert_embedded(database, "things_embeddings", texts)


def test_an_expression_that_fails_for_a_row_is_an_error_of_that_row(database: Database) -> None:
    database.run("create table things (id int primary key, name text, share int)")
    database.run("insert into things select i, 'thing', i % 10 from generate_series(1, 50) i")
    database.watch("things", content="name || ' ' || 100 / share")
    with working(database.url):
        database.settled()
        assert database.one("select count(*) from things_embeddings") == 45
        assert database.rows("select distinct error from likewise.watch_errors") == [("division by zero",)]
        database.run("update things set share = 1 where share = 0")
        database.settled()
    assert database.one("select count(*) from things_embeddings") == 50
    assert database.rows("select * from likewise.watch_errors") == []


def test_an_expression_that_is_never_the_same_is_given_up(database: Database) -> None:
    database.run("create table things (id int primary key, name text); insert into things values (1, 'thing')")
    database.watch("things", content="name || random()")
    with working(database.url):
        database.settled()
    ((error, attempts),) = database.rows("select error, attempts from likewise.watch_errors")
    assert "something else each time" in error
    assert attempts == 3


def test_while_the_model_is_away_nothing_counts_against_rows(database: Database) -> None:
    model = Choosy()
    model.away = True
    database.run("create table things (id int primary key, name text); insert into things values (1, 'one')")
    database.watch("things", content="name")
    with working(database.url, embedders=lambda _: model):
        assert "does not answer" in database.error_of("things")
        database.run("insert into things values (2, 'two')")
        time.sleep(1)
        assert database.rows("select * from likewise.watch_errors") == []
        model.away = False
        database.settled()
    assert database.rows("select state, error from likewise.watches") == [("ready", None)]
    assert_embedded(database, "things_embeddings", {"1": "one", "2": "two"})


def test_a_model_that_is_not_there_is_said(database: Database) -> None:
    database.run("create table things (id int primary key, name text); insert into things values (1, 'one')")
    database.watch("things", content="name", model="no-such-model")
    database.watch("things", content="name", name="good")
    with working(database.url):
        assert "no embedding model is called 'no-such-model'" in database.error_of("things")
        database.settled("good")
    assert_embedded(database, "good_embeddings", {"1": "one"})


def test_the_database_may_go_away_and_come_back(database: Database) -> None:
    database.run("create table things (id int primary key, name text)")
    database.watch("things", content="name")
    ended: list[Any] = []
    with working(database.url) as worker:
        for part in range(5):
            database.run(
                "insert into things select i, 'thing ' || i from generate_series(%s::int, %s) i",
                part * 300,
                part * 300 + 299,
            )
            ended += database.rows(
                "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
            )
            time.sleep(0.4)
        assert len(ended) >= 4
        database.settled()
        assert worker.connected
    assert_embedded(database, "things_embeddings", {str(i): f"thing {i}" for i in range(1500)})


def test_a_first_embedding_goes_on_where_it_was_broken_off(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    from likewise.worker import watching

    monkeypatch.setattr(watching, "WALK_ROWS", 50)

    class Counting(Choosy):
        def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
            time.sleep(0.05)
            return super().embed_texts(texts)

    model = Counting()
    database.run("create table things (id int primary key, name text)")
    database.run("insert into things select i, 'thing ' || i from generate_series(1, 2000) i")
    database.watch("things", content="name")
    with working(database.url, embedders=lambda _: model):
        while (database.one("select done from likewise.watches") or 0) < 300:
            time.sleep(0.01)
    done = database.one("select done from likewise.watches")
    assert 300 <= done < 2000
    assert database.one("select state from likewise.watches") == "loading"
    assert database.one("select count(*) from things_embeddings") == done
    with working(database.url, embedders=lambda _: model):
        database.settled()
    assert_embedded(database, "things_embeddings", {str(i): f"thing {i}" for i in range(1, 2001)})
    assert 2000 <= model.asked <= 2200, "what was done is not done again, but for a page or two that were under way"


def test_pictures_beside_texts(database: Database) -> None:
    database.run("create table things (id int primary key, name text, photo bytea)")
    database.watch("things", content="name", image="photo")
    insert = "insert into things values (%s, %s, %s)"
    database.run(insert, 1, "both", picture("red"))
    database.run(insert, 2, None, picture("blue"))
    database.run(insert, 3, "text alone", None)
    database.run(insert, 4, "a bad picture", b"no picture")
    database.run(insert, 5, " ", None)
    with working(database.url):
        database.settled()
        query = "select id, modality, content_id, content from things_embeddings order by id"
        assert database.rows(query) == [
            ("1", "text", "1", "both"),
            ("1#image", "image", "1", None),
            ("2#image", "image", "2", None),
            ("3", "text", "3", "text alone"),
            ("4", "text", "4", "a bad picture"),
        ]
        ((key, error),) = database.rows("select key, error from likewise.watch_errors")
        assert key == "4"
        assert "not a picture" in error
        database.run("update things set photo = %s where id = 4", picture("green"))
        database.run("update things set photo = null where id = 1")
        database.settled()
        assert [row[0] for row in database.rows(query)] == ["1", "2#image", "3", "4", "4#image"]
        # Other expressions for the same watch: every row is compared, and what is of the old ones goes.
        database.watch("things", content="name", name="things")
        database.settled()
        assert [row[0] for row in database.rows(query)] == ["1", "3", "4"]


def test_a_model_without_pictures_is_refused(database: Database) -> None:
    class Texts(HashingEmbedder):
        @property
        def card(self) -> Any:
            from likewise import ModelCard

            return ModelCard("texts", 32, ("text",))

    database.run("create table things (id int primary key, photo bytea)")
    database.watch("things", image="photo", model="texts")
    with working(database.url, embedders=lambda _: Texts(32)):
        assert "does not support embedding pictures" in database.error_of("things")


def test_pictures_by_path_below_a_folder(database: Database, tmp_path: Path) -> None:
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "red.png").write_bytes(picture("red"))
    (tmp_path / "secret.png").write_bytes(picture("black"))
    (tmp_path / "shop" / "link.png").symlink_to(tmp_path / "secret.png")
    database.run("create table things (id int primary key, photo text)")
    paths = [
        "red.png",
        "../secret.png",
        "link.png",
        str(tmp_path / "secret.png"),
        "none.png",
        "http://example.com/a.png",
        " ",
    ]
    for key, path in enumerate(paths):
        database.run("insert into things values (%s, %s)", key, path)
    database.watch("things", image="photo")
    with working(database.url, image_roots=[tmp_path / "shop"]):
        database.settled()
    assert database.rows("select id from things_embeddings") == [("0#image",)]
    errors = dict(database.rows("select key, error from likewise.watch_errors"))
    assert sorted(errors) == ["1", "2", "3", "4", "5"]
    assert all("there is no picture" in errors[key] for key in "1234")
    assert "is a URL" in errors["5"]


def test_the_locks_of_others_are_not_waited_for_long(database: Database) -> None:
    database.run("create table things (id int primary key, name text); insert into things values (1, 'one')")
    database.watch("things", content="name")
    with working(database.url):
        database.settled()
        with psycopg.connect(database.url) as other:
            other.execute("insert into things values (2, 'two')")
            other.commit()
            other.execute("lock table things in access exclusive mode")
            assert "lock timeout" in database.error_of("things")
        database.settled()
    assert_embedded(database, "things_embeddings", {"1": "one", "2": "two"})


def test_a_worker_stops_at_once_when_there_is_nothing_to_do(database: Database) -> None:
    began = time.monotonic()
    with working(database.url):
        time.sleep(0.3)
        began = time.monotonic()
    assert time.monotonic() - began < 5
