"""What ``count_tokens`` counts: the model's own tokens, special ones included, or an estimate where they are not known."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest
from tokenizers import Tokenizer

from likewise import CollectionSpec
from likewise.abc.embedder import Embedder, ModelCard
from likewise.abc.models import AbsentEmbedder, ModelIdentity
from likewise.embedding import Loading, MiniLMEmbedder, _tokens
from likewise.embedding._tokens import TextTokenizer
from likewise.embedding.hashing import HashingEmbedder
from likewise.embedding.mini import MiniEmbedder
from likewise.errors import InvalidArgument, ModelNotAvailable
from likewise.worker._guarded import Guarded

from . import tiny_bert, tiny_clip

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Unknowing(Embedder):
    """Says nothing of its tokens."""

    @property
    def card(self) -> ModelCard:
        return ModelCard("unknowing", 2, ("text",))

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        raise NotImplementedError


def test_mini_counts_all_tokens_of_its_vocabulary_and_cuts_none() -> None:
    mini = MiniEmbedder()
    whole = Tokenizer.from_file(str(Path(_tokens.__file__).parent / "models" / "mini" / "tokenizer.json"))
    whole.no_truncation()
    whole.no_padding()
    texts = ["", "A heron waits.", "日本語", "word " * 500]
    assert mini.count_tokens(texts) == [len(whole.encode(text).ids) for text in texts]
    assert mini.count_tokens(["word " * 500]) == [502]
    assert mini.count_tokens([]) == []


def test_counting_first_changes_no_vector() -> None:
    long = "A heron waits in shallow water. " * 60
    counted, fresh = MiniEmbedder(), MiniEmbedder()
    counted.count_tokens([long])
    assert (counted.embed_texts([long]) == fresh.embed_texts([long])).all()


def test_a_vocabulary_counts_its_special_tokens(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    made = tiny_bert.bert_tokenizer()
    made.save(str(path))
    made.no_truncation()
    made.no_padding()
    tokenizer = TextTokenizer(path, model="tiny")
    texts = ["", "a a a", "a " * 9_000]
    assert tokenizer.count(texts) == [len(made.encode(text).ids) for text in texts]
    assert tokenizer.count([]) == []


@pytest.mark.parametrize("name", ["minilm", "clip", "clip:laion2b", "jina-clip-v2"])
def test_models_with_files_count_what_they_would_not_cut(name: str, tmp_path: Path) -> None:
    if name == "minilm":
        loading = Loading(directory=tiny_bert.write_bert(tmp_path / "model"))
        embedder: Embedder = MiniLMEmbedder(loading=loading, revision="tiny")
    else:
        embedder = tiny_clip.embedder(name)
    empty, short, long = embedder.count_tokens(["", "a", "a " * 20_000])
    assert (empty, short) == (2, 3)
    assert long > 20_000
    assert embedder.count_tokens([]) == []
    with pytest.raises(InvalidArgument, match="text 0 is a int"):
        embedder.count_tokens([cast("str", 7)])


def test_a_model_that_is_not_here_says_so() -> None:
    spec = CollectionSpec("notes", embedder="ours")
    absent = AbsentEmbedder(ModelIdentity("ours", "1", 2), spec, "was made with 'ours', which is not installed")
    with pytest.raises(ModelNotAvailable, match="not installed"):
        absent.count_tokens(["a"])


def test_what_guards_a_model_counts_as_it_does() -> None:
    assert Guarded(HashingEmbedder()).count_tokens(["Two words!"]) == [2]


def test_hashing_counts_words() -> None:
    assert HashingEmbedder().count_tokens(["", "Two words, no more!", "日本語"]) == [0, 4, 1]


@pytest.mark.parametrize(
    ("text", "tokens"),
    [("", 0), (" \n", 0), ("word", 1), ("words", 2), ("It's 1984.", 5), ("日本語", 3), ("naïve", 3), ("👩‍🚀", 3)],
)
def test_what_is_not_known_is_estimated(text: str, tokens: int) -> None:
    assert Unknowing().count_tokens([text, "word"]) == [tokens, 1]


@pytest.mark.parametrize("embedder", [Unknowing(), HashingEmbedder(), MiniEmbedder()])
def test_what_is_not_text_is_named(embedder: Embedder) -> None:
    with pytest.raises(InvalidArgument, match="put it in a list"):
        embedder.count_tokens("one text")
    with pytest.raises(InvalidArgument, match="text 1 is a int") as error:
        embedder.count_tokens(["a", cast("str", 7)])
    assert error.value.position == 1
