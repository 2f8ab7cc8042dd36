"""``calibrate``, and searches with a threshold on similarity, against a real PostgreSQL."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import likewise as package
from likewise import Calibration, CollectionSpec, Record
from likewise.cli.exits import Exit

if TYPE_CHECKING:
    from cli.conftest import Likewise

WORDS = [
    "ferry",
    "bread",
    "violin",
    "harbour",
    "pepper",
    "glacier",
    "lantern",
    "meadow",
    "copper",
    "sparrow",
    "orchid",
    "anvil",
]


@pytest.fixture
def things(likewise: Likewise, fresh_database_url: str) -> Likewise:
    """A collection ``things`` with a model, and no calibration yet."""
    with package.connect(fresh_database_url) as store:
        collection = store.ensure_collection(CollectionSpec("things", embedder="hashing:64"))
        collection.upsert(Record(word, content=f"{word} {word} stands here") for word in WORDS)
    return likewise


def stored(url: str) -> Calibration | None:
    with package.connect(url) as store:
        found = store.collection("things").spec.calibration
        assert found is None or isinstance(found, Calibration)
        return found


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_matches_are_fitted_shown_and_taken_away(
    things: Likewise, fresh_database_url: str, tmp_path: Path, kind: str
) -> None:
    if kind == "csv":
        lines = ["id,text", *(f"{word},the {word} here" for word in WORDS)]
    else:
        lines = ["", *(json.dumps({"text": f"the {word} here", "id": word}) for word in WORDS)]
    file = tmp_path / f"matches.{kind}"
    file.write_text("\n".join(lines))
    tried = things("calibrate", "--matches", file, "--dry-run", "--json").json
    assert not tried["stored"]
    assert stored(fresh_database_url) is None
    done = things("calibrate", "--matches", file)
    assert done.code == Exit.OK
    assert "12 matches" in done.out
    kept = stored(fresh_database_url)
    assert kept is not None
    # Records are drawn in another order each time, and sums differ in their last digit.
    assert kept.to_dict()["pairs"]["text-text"] == pytest.approx(tried["calibration"]["pairs"]["text-text"])
    shown = things("calibrate", "--show", "--json").json
    assert shown["calibration"] == kept.to_dict()
    assert shown["scores"]["text-text"]["0.8"] == pytest.approx(kept.score_for(0.8, "text-text"), abs=1e-4)
    found = things("search", "the anvil here", "--min-similarity", "0.5", "--json").json
    assert [result["id"] for result in found["results"]] == ["anvil"]
    again = things("calibrate", "--json").json
    assert again["before"] == kept.to_dict()
    assert again["calibration"]["pairs"]["text-text"]["matched"] == 0
    assert things("calibrate", "--remove", "--json").json["calibration"] is None
    assert stored(fresh_database_url) is None


def test_reset_is_what_the_model_says(likewise: Likewise, fresh_database_url: str) -> None:
    with package.connect(fresh_database_url) as store:
        store.ensure_collection(CollectionSpec("things", embedder="mini", calibration=None))
    assert "no calibration" in likewise("calibrate", "--show").err
    likewise("calibrate", "--reset")
    assert stored(fresh_database_url) == package.embedding.load_embedder("mini").card.calibration


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("a.jsonl", "{", "line 1 is not JSON"),
        ("a.jsonl", '{"text": "a"}', "line 1: a match has an id"),
        ("a.jsonl", '\n["a"]', "line 2: a match has an id"),
        ("a.jsonl", '{"text": "a", "image": "b", "id": "c"}', "a match has an id"),
        ("a.csv", "text,id\na,\n", "line 2: a match has an id"),
        ("a.jsonl", b"\xff\xfe\x00", "cannot be read"),
        ("a.jsonl", '{"text": "a", "id": "nothing"}', "nothing"),
        ("a.jsonl", '{"image": "none.jpg", "id": "ferry"}\n' * 10, "picture 0"),
        ("a.jsonl", '{"text": "a", "id": "ferry"}\n', "10 at least"),
    ],
)
def test_matches_that_cannot_be_used(
    things: Likewise, fresh_database_url: str, tmp_path: Path, name: str, content: str | bytes, complaint: str
) -> None:
    file = tmp_path / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    done = things("calibrate", "--matches", file)
    assert done.code != Exit.OK
    assert complaint in done.err
    assert stored(fresh_database_url) is None


def test_what_does_not_go_together(things: Likewise, tmp_path: Path) -> None:
    assert things("calibrate", "--matches", tmp_path / "absent.jsonl").code == Exit.NOT_FOUND
    assert things("calibrate", "--matches", "a.jsonl", "--remove").code == Exit.INVALID
    assert things("calibrate", "--dry-run", "--remove").code == Exit.USAGE
    assert things("search", "anvil", "--min-similarity", "2").code == Exit.INVALID
