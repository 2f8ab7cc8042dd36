"""``likewise replica``: status, verify, repair and drop."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

import likewise as package
from likewise import CollectionSpec, Record
from likewise.backends.faiss.image import Image
from likewise.cli.exits import Exit

if TYPE_CHECKING:
    from cli.conftest import Likewise


@pytest.fixture
def things(likewise: Likewise, fresh_database_url: str) -> Likewise:
    with package.connect(fresh_database_url) as store:
        collection = store.ensure_collection(CollectionSpec("things", dimension=2))
        collection.insert([Record(f"r{n}", [1, n], {"n": n}, content=f"text {n}") for n in range(30)])
    return likewise


def test_the_doctor_tells_of_slots(things: Likewise, fresh_database_url: str, tmp_path: Path) -> None:
    def slots() -> list[dict[str, str]]:
        found = things("doctor", "--json").json["findings"]
        return [finding for finding in found if finding["check"].startswith("replication slot")]

    assert slots() == []
    assert things("replica", "status", "-c", "things", "--path", tmp_path).code == Exit.OK
    (left,) = slots()
    assert left["status"] == "note"
    assert left["detail"].startswith("of a replica of things that does not run; keeps ")
    with package.connect(f"faiss+{fresh_database_url}&replica_path={tmp_path}") as store:
        store.collection("things").replica_wait()  # type: ignore[attr-defined]
        (used,) = slots()
        assert (used["check"], used["status"]) == (left["check"], "ok")
    with psycopg.connect(fresh_database_url, autocommit=True) as connection:
        connection.execute("drop table things cascade")
        (stale,) = slots()
        assert stale["status"] == "warning"
        cure = stale["detail"].partition("SELECT ")[2]
        assert left["detail"].endswith(f"if its files are gone: SELECT {cure}")
        connection.execute(f"select {cure}")
    assert slots() == []


def test_a_life(things: Likewise, fresh_database_url: str, tmp_path: Path) -> None:
    first = things("replica", "status", "-c", "things", "--path", tmp_path, "--json").json
    assert (first["collection"], first["state"], first["rows"], first["built"]) == ("things", "following", 30, 1)
    assert first["holds"] == ["metadata"]
    assert "verified" not in first
    again = things("replica", "verify", "--path", tmp_path, "--json")
    assert again.code == Exit.OK
    assert (again.json["built"], again.json["resumed"]) == (0, 1)
    assert again.json["verified"]["sound"] is True
    assert again.json["verified"]["rows"] == again.json["verified"]["replica_rows"] == 30
    said = things("replica", "repair", "--path", tmp_path, "--hold", "metadata,content")
    assert said.code == Exit.OK
    assert "30 rows, " in said.out
    assert "built now" in said.out
    assert "30 rows compared: all are the same" in said.out
    # Without the folder nothing could be dropped, and that is not to be said.
    nothing = things("replica", "drop")
    assert nothing.code == Exit.INVALID
    assert "--path" in nothing.err
    assert things("replica", "drop", "--path", tmp_path, "--json").json == {"collection": "things", "dropped": True}
    assert not list(tmp_path.glob("*.replica"))
    with psycopg.connect(fresh_database_url) as connection:
        assert not connection.execute(
            "select 1 from pg_replication_slots where database = current_database()"
        ).fetchall()


def test_rows_that_differ_are_told_and_repaired(
    things: Likewise, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert things("replica", "status", "--path", tmp_path).code == Exit.OK
    with monkeypatch.context() as patch:
        # A fault of the image's: rows are there that it does not find.
        every = Image.find
        patch.setattr(Image, "find", lambda self, ids: every(self, [i for i in ids if i not in ("r3", "r4")]))
        done = things("replica", "verify", "--path", tmp_path, "--json")
        assert done.code == Exit.FAILURE
        assert done.json["verified"]["missing"] == 2
        assert done.json["verified"]["ids"] == ["r3", "r4"]
        said = things("replica", "verify", "--path", tmp_path)
        assert said.code == Exit.FAILURE
        assert "2 are missing" in said.out
        assert "r3, r4" in said.out
    assert things("replica", "repair", "--path", tmp_path).code == Exit.OK


def test_a_file_that_somebody_has_is_said(things: Likewise, fresh_database_url: str, tmp_path: Path) -> None:
    url = f"faiss+{fresh_database_url}&replica_path={tmp_path}"
    with package.connect(url) as store:
        store.collection("things").search_by_vector([1, 0])
        done = things("replica", "verify", "--path", tmp_path)
    assert done.code == Exit.OK
    assert "belongs to process" in done.err


def test_urls_that_say_it_already(things: Likewise, fresh_database_url: str) -> None:
    url = f"faiss+{fresh_database_url}&replica_hold=none"
    assert things("--database", url, "replica", "status", "--json").json["holds"] == []
    refused = things("--database", "dbname=nothing", "replica", "status", "--json")
    assert (refused.code, refused.error["type"]) == (Exit.INVALID, "InvalidArgument")
    assert things("--database", "memory://", "replica", "status").code == Exit.INVALID


@pytest.mark.parametrize("arguments", [["--hold", "vectors"], ["--seconds", "0"], ["-c", "nothing"]])
def test_what_cannot_be(things: Likewise, arguments: list[str]) -> None:
    done = things("replica", "status", "--json", *arguments)
    assert done.code in (Exit.INVALID, Exit.NOT_FOUND)
    assert done.error["message"]


def test_an_action_is_needed(things: Likewise) -> None:
    assert things("replica").code == Exit.USAGE
