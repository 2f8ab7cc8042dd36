"""What a faiss+ URL says, and where a replica's files lie."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from likewise import InvalidArgument
from likewise.abc.feeds import Position
from likewise.backends.faiss import ReplicaOptions, split_url
from likewise.backends.faiss._folder import Place
from likewise.errors import BackendError

DATABASE = "postgresql://app:p%3Fw@[::1]:5432/shop"


@pytest.mark.parametrize(
    ("url", "rest", "options"),
    [
        (f"faiss+{DATABASE}", DATABASE, ReplicaOptions()),
        (f"faiss+{DATABASE}?sslmode=require", f"{DATABASE}?sslmode=require", ReplicaOptions()),
        (
            f"faiss+{DATABASE}?replica_path=%2Fvar%2Fa%20b&sslmode=require&replica_patience=0.25&options=-c%20a%3Db",
            f"{DATABASE}?sslmode=require&options=-c%20a%3Db",
            ReplicaOptions(path=Path("/var/a b"), patience=0.25),
        ),
        (
            "faiss+postgres:///shop?host=/run/a,/run/b&replica_hold=metadata,content",
            "postgres:///shop?host=/run/a,/run/b",
            ReplicaOptions(hold=frozenset({"metadata", "content"})),
        ),
        ("faiss+embedded:///a?replica_hold=none", "embedded:///a", ReplicaOptions(hold=frozenset())),
        (
            "faiss+embedded://?version=16&replica_follow=triggers",
            "embedded://?version=16",
            ReplicaOptions(follow="triggers"),
        ),
        ("faiss+embedded:///a?replica_patience=0", "embedded:///a", ReplicaOptions(patience=0.0)),
    ],
)
def test_the_options_are_taken_out_and_the_rest_is_left_as_it_is(url: str, rest: str, options: ReplicaOptions) -> None:
    assert split_url(url) == (rest, options)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("faiss+memory://", "database of record"),
        ("faiss+faiss+postgresql:///a", "database of record"),
        ("faiss+", "database of record"),
        (f"faiss+{DATABASE}?replica_hold=vectors", "replica_hold names 'vectors'"),
        (f"faiss+{DATABASE}?replica_hold=metadata,", "replica_hold names ''"),
        (f"faiss+{DATABASE}?replica_follow=mail", "one of: log, triggers"),
        (f"faiss+{DATABASE}?replica_patience=soon", "replica_patience is 'soon'"),
        (f"faiss+{DATABASE}?replica_patience=nan", "replica_patience is 'nan'"),
        (f"faiss+{DATABASE}?replica_patience=-1", "from 0 to"),
        (f"faiss+{DATABASE}?replica_patience=inf", "from 0 to"),
        (f"faiss+{DATABASE}?replica_path=", "replica_path is empty"),
        (f"faiss+{DATABASE}?replica_path=a%00b", "replica_path"),
        (f"faiss+{DATABASE}?replica_paht=/a", "knows no 'replica_paht'"),
    ],
)
def test_what_cannot_be_is_refused(url: str, says: str) -> None:
    with pytest.raises(InvalidArgument, match=says) as refused:
        split_url(url)
    assert "p%3Fw" not in str(refused.value)


@pytest.mark.parametrize("name", ["articles", "../../etc/passwd", "a/b", "Ärger", "", "x" * 300, ".", "a\nb"])
def test_a_file_lies_in_its_folder_whatever_the_name(name: str, tmp_path: Path) -> None:
    place = Place(tmp_path / "here", "shop", "public", name)
    assert place.claim()
    place.slot()
    place.kept(Position("0/1"), Position("0/2"))
    place.release()
    assert place.image.parent == tmp_path / "here"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["here"]
    assert all(p.stat().st_mode & 0o777 == 0o600 for p in (tmp_path / "here").iterdir())
    assert (tmp_path / "here").stat().st_mode & 0o777 == 0o700


def test_names_that_look_alike_have_files_of_their_own(tmp_path: Path) -> None:
    names = ["a b", "a-b", "A-B", "a--b"]
    assert len({Place(tmp_path, "shop", "public", name).image for name in names}) == len(names)
    assert Place(tmp_path, "shop", "public", "a").image != Place(tmp_path, "shop", "other", "a").image


def test_one_at_a_time_has_the_files(tmp_path: Path) -> None:
    mine, other = Place(tmp_path, "a"), Place(tmp_path, "a")
    assert mine.claim()
    assert mine.claim()
    assert not other.claim()
    assert other.owner() == os.getpid()
    mine.release()
    mine.release()
    assert other.claim()
    other.release()


def test_the_name_of_the_slot_stays_and_the_position_is_that_of_its_image(tmp_path: Path) -> None:
    place = Place(tmp_path, "a")
    assert place.claim()
    assert not place.exists()
    slot = place.slot()
    assert place.exists()
    assert place.later(Position("0/1")) == "0/1"
    place.kept(Position("0/1"), Position("0/7"))
    assert Place(tmp_path, "a").slot() == slot
    assert Place(tmp_path, "a").later(Position("0/1")) == "0/7"
    assert Place(tmp_path, "a").later(Position("0/2")) == "0/2"
    (damaged,) = tmp_path.glob("*.json")
    damaged.write_text("{")
    assert place.later(Position("0/1")) == "0/1"
    assert place.slot() != slot
    place.remove()
    assert not place.exists()
    place.release()


def test_a_folder_that_cannot_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BackendError, match="cannot be kept in"):
        Place(tmp_path / "file" / "folder", "a").claim()
