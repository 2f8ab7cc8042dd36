"""Texts in pieces have the tokens of the whole, and inputs of mixed lengths come back in their order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from likewise.embedding import _tokens
from likewise.embedding._onnx import BATCH_TOKENS, by_length, run_by_length
from likewise.embedding._tokens import TextTokenizer, pieces
from likewise.errors import ModelNotAvailable

from . import tiny_bert

TEXTS = st.text(
    st.one_of(st.sampled_from(" \t\n\r  aeé日本-,.!\u00a0\u2028\x1c\0x"), st.characters(exclude_categories=["Cs"])),
    max_size=200,
)


@given(TEXTS, st.integers(1, 40))
def test_pieces_are_the_text(text: str, first: int) -> None:
    cut = list(pieces(text, first))
    assert "".join(cut) == text
    assert all(piece[0] in " \t\r\n" for piece in cut[1:])


@pytest.fixture(scope="module", params=["bert", "xlm-roberta", "shipped"])
def vocabulary(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if request.param == "shipped":
        return Path(_tokens.__file__).parent / "models" / "mini" / "tokenizer.json"
    path = tmp_path_factory.mktemp("vocabulary") / "tokenizer.json"
    made = tiny_bert.bert_tokenizer() if request.param == "bert" else tiny_bert.xlm_roberta_tokenizer()
    made.save(str(path))
    return path


def test_tokens_of_pieces_are_those_of_the_text(vocabulary: Path) -> None:
    tokenizer = TextTokenizer(vocabulary, model="tiny")
    whole = Tokenizer.from_file(str(vocabulary))
    whole.no_truncation()
    whole.no_padding()

    @given(TEXTS, st.integers(1, 40))
    def check(text: str, first: int) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(_tokens, "pieces", lambda text: pieces(text, first))
            (ids,) = tokenizer.encode([text], most=None)
            (some,) = tokenizer.encode([text], most=5)
        assert list(ids) == whole.encode(text, add_special_tokens=False).ids
        assert list(some) == list(ids[: len(some)])
        assert len(some) > 5 or len(some) == len(ids)
        assert [*tokenizer.head, *ids, *tokenizer.tail] == whole.encode(text).ids

    check()


def test_a_long_text_is_read_no_further_than_needed(vocabulary: Path) -> None:
    tokenizer = TextTokenizer(vocabulary, model="tiny")
    (ids,) = tokenizer.encode(["the dog runs over the bread " * 40_000], most=254)
    assert 254 < len(ids) < 5_000
    (ids,) = tokenizer.encode(["dog " * 254], most=254)
    assert len(ids) == 254


def test_a_vocabulary_that_makes_no_tokens_is_refused(tmp_path: Path) -> None:
    from tokenizers import models

    Tokenizer(models.WordPiece({"[UNK]": 0}, unk_token="[UNK]", max_input_chars_per_word=0)).save(
        str(tmp_path / "tokenizer.json")
    )
    TextTokenizer(tmp_path / "tokenizer.json", model="tiny")
    Tokenizer(models.BPE({}, [])).save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(ModelNotAvailable, match="has no tokens for a text"):
        TextTokenizer(tmp_path / "tokenizer.json", model="tiny")


@given(st.lists(st.integers(0, 9000), max_size=60), st.integers(1, 9), st.floats(0, 1))
def test_batches_have_near_lengths_and_hold_everything_once(lengths: list[int], batch: int, spread: float) -> None:
    batches = by_length(lengths, batch, spread=spread)
    assert sorted(place for places in batches for place in places) == list(range(len(lengths)))
    for places in batches:
        found = [lengths[place] for place in places]
        assert 1 <= len(places) <= batch
        assert max(found) <= min(found) * (1 + spread)
        assert len(places) == 1 or len(places) * max(found) <= BATCH_TOKENS
    firsts = [lengths[places[0]] for places in batches]
    assert firsts == sorted(firsts)


@given(st.lists(st.integers(0, 50), max_size=60))
def test_rows_come_back_in_the_order_given(lengths: list[int]) -> None:
    result = run_by_length(
        lengths, 4, lambda places: np.array([[i, lengths[i]] for i in places], np.float32), dimension=2, spread=0.2
    )
    assert result.tolist() == [[i, length] for i, length in enumerate(lengths)]
