"""Which record is to blame when a model refuses a batch, and at what price it is found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import likewise
from likewise import CollectionSpec, InvalidArgument, InvalidRecord, ModelCard, Record
from likewise.abc.digests import wanted_of
from likewise.abc.models import model_key
from likewise.abc.runs import refusal, runs, split
from likewise.embedding import HashingEmbedder, register_embedder

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Refusing(HashingEmbedder):
    """Refuses certain texts, saying where, or where not; what it was asked is in ``calls``."""

    def __init__(self, bad: set[str], *, says: str) -> None:
        super().__init__(8)
        self.bad = bad
        self.says = says
        self.calls: list[int] = []

    @property
    def card(self) -> ModelCard:
        return ModelCard("refusing", 8, ("text",))

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.calls.append(len(texts))
        for place, text in enumerate(texts):
            if text in self.bad:
                if self.says == "nothing":
                    raise InvalidArgument("no")
                raise InvalidArgument(f"text {place} is bad", position=place if self.says == "place" else place + 3)
        return super().embed_texts(texts)


def records(count: int) -> list[Record]:
    return [Record(f"r{i}", content=f"text {i}") for i in range(count)]


@pytest.mark.parametrize("says", ["place", "nothing", "wrong place"])
def test_the_one_to_blame_is_named_and_the_others_are_stored(says: str) -> None:
    bad = {"text 3", "text 4", "text 99"}
    model = Refusing(bad, says=says)
    register_embedder("refusing", lambda _: model)
    with likewise.connect("memory://") as store:
        things = store.ensure_collection(CollectionSpec("things", embedder="refusing"))
        if says != "wrong place":
            with pytest.raises(InvalidRecord) as caught:
                things.upsert(records(100))
            assert (caught.value.position, caught.value.record_id) == (3, "r3")
            assert isinstance(caught.value.__cause__, InvalidArgument)
            assert things.count() == 0
            if says == "place":
                assert model.calls == [100]
                assert str(caught.value) == "record 'r3' (number 3): its text is bad"
            else:
                assert str(caught.value) == "record 'r3' (number 3): its text cannot be embedded: no"
                assert sum(model.calls) < 350
        report = things.load(records(100), skip_invalid=True)
        assert [(r.position, r.id) for r in report.rejected] == [(3, "r3"), (4, "r4"), (99, "r99")]
        assert things.count() == 97


def test_equal_texts_are_each_a_record_s_fault() -> None:
    model = Refusing({"same"}, says="place")
    register_embedder("refusing", lambda _: model)
    with likewise.connect("memory://") as store:
        things = store.ensure_collection(CollectionSpec("things", embedder="refusing"))
        rows = [Record("a", content="same"), Record("b", content="fine"), Record("c", content="same")]
        report = things.load(rows, skip_invalid=True)
        assert [(r.position, r.id) for r in report.rejected] == [(0, "a"), (2, "c")]
        assert report.written == 1


def test_parts_to_try_hold_everything_once() -> None:
    whole = list(range(9))
    for position in (None, -1, 0, 4, 8, 9):
        parts = split(whole, position)
        assert sorted(n for part in parts for n in part) == whole
        assert all(0 < len(part) < 9 for part in parts)
        if position in (0, 4, 8):
            assert parts[-1] == [position]


def test_runs_leave_out_and_keep_places() -> None:
    rows = records(6)
    digests: list[bytes | None] = [bytes([i]) for i in range(6)]
    found = list(runs(rows, digests, 100, {0, 3, 5}))
    assert [(run.position, [r.id for r in run.piece], run.digests) for run in found] == [  # type: ignore[union-attr]
        (101, ["r1", "r2"], [b"\x01", b"\x02"]),
        (104, ["r4"], [b"\x04"]),
    ]
    assert list(runs(rows, digests, 0, range(6))) == []
    assert list(runs([], [], 0, ())) == []


def test_an_id_that_cannot_be_stored_is_not_in_an_error() -> None:
    wrong: Any
    for wrong in (5, "", "x" * 451, "\x00"):
        error = refusal(Record(wrong, content="x"), 7, "text", InvalidArgument("text 0 is odd"))
        assert (error.record_id, error.position, str(error)) == (None, 7, "record 7: its text is odd")
    told = refusal(Record("a", image="x.png"), 7, "image", InvalidArgument("picture 12 (x.png) is damaged"))
    assert str(told) == "record 'a' (number 7): its picture (x.png) is damaged"


def test_what_is_wanted_of_a_batch() -> None:
    rows: list[Any] = [
        Record("a", content="x"),
        Record("b", [1.0], content="x"),
        Record("c"),
        Record("d", image=b"x", content="y"),
        Record("e", content=5),  # type: ignore[arg-type]
        "no record",
    ]
    assert [(w.place, w.kind) for w in wanted_of(rows)] == [(0, "text"), (3, "image")]


def test_a_key_is_another_one_for_each_model() -> None:
    cards = [
        ModelCard("a", 2, ("text",)),
        ModelCard("a", 3, ("text",)),
        ModelCard("b", 2, ("text",)),
        ModelCard("a", 2, ("text",), revision="2"),
        ModelCard('a", "1', 2, ("text",)),
    ]
    keys = {model_key(card, prompt) for card in cards for prompt in ("", "query: ", "é")}
    assert len(keys) == 15
