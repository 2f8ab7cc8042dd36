"""Texts to token ids, no further than is needed: a megabyte of text costs no more than the part of it that a model reads.

No model enters here. The vocabulary is a ``tokenizer.json`` of the ``tokenizers`` package.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from likewise.errors import ModelNotAvailable

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["TextTokenizer", "pieces"]

#: Characters of the first piece of a text, and of the largest.
FIRST_PIECE, LARGEST_PIECE = 4096, 65_536
#: A word of more characters than this may be tokenised in parts.
LONGEST_WORD = 65_536
_PAD = ("[PAD]", "<pad>")
# Not \s: a tokenizer may drop what Python takes for white space, and join what it separates.
_SPACE = re.compile("[ \t\r\n]")


def pieces(text: str, first: int = FIRST_PIECE) -> Iterator[str]:
    """A text in pieces that begin with white space, each larger than the one before; together they are the text.

    Tokenisers work word by word, so that the tokens of the pieces are those of the text.
    """
    start, size = 0, first
    while len(text) - start > size:
        found = _SPACE.search(text, start + size, start + size + LONGEST_WORD)
        end = found.start() if found else min(len(text), start + size + LONGEST_WORD)
        yield text[start:end]
        start, size = end, min(2 * size, LARGEST_PIECE)
    if start < len(text) or not text:
        yield text[start:]


class TextTokenizer:
    """A vocabulary: what ``tokenizer.json`` holds, without the cutting and padding that it may ask for.

    ``head`` and ``tail`` are the ids of the special tokens around a text, ``pad`` that of the one which fills up a batch.
    ``ModelNotAvailable`` if the file is damaged.
    """

    def __init__(self, path: Path, *, model: str) -> None:
        from tokenizers import Tokenizer

        try:
            self._tokenizer: Tokenizer = Tokenizer.from_str(path.read_text("utf-8"))
            pad = self._tokenizer.padding
            self._tokenizer.no_padding()
            self._tokenizer.no_truncation()
            encoded = self._tokenizer.encode("a")
        except Exception as error:
            raise ModelNotAvailable(
                f"{path}, the vocabulary of {model}, cannot be read: it is damaged, or made for a newer version of tokenizers "
                f"({str(error)[:200]}); fetch the model again with: likewise models pull {model}",
                model=model,
            ) from error
        special = list(encoded.special_tokens_mask)
        if 0 not in special:
            raise ModelNotAvailable(f"{path}, the vocabulary of {model}, has no tokens for a text", model=model)
        first, last = special.index(0), len(special) - special[::-1].index(0)
        self.head: tuple[int, ...] = tuple(encoded.ids[:first])
        self.tail: tuple[int, ...] = tuple(encoded.ids[last:])
        known = [token for token in map(self._tokenizer.token_to_id, _PAD) if token is not None]
        self.pad: int = pad["pad_id"] if pad else (known or [0])[0]

    def encode(self, texts: Sequence[str], *, most: int | None) -> list[array[int]]:
        """The ids of each text without special tokens: all of them, or at least ``most`` + 1 if it has so many.

        The rest of a long text is then not looked at.
        """
        rests = [pieces(text) for text in texts]
        encodings = self._tokenizer.encode_batch([next(rest) for rest in rests], add_special_tokens=False)
        result = [array("i", encoding.ids) for encoding in encodings]
        for ids, rest in zip(result, rests, strict=True):
            while most is None or len(ids) <= most:
                piece = next(rest, None)
                if piece is None:
                    break
                ids.extend(self._tokenizer.encode(piece, add_special_tokens=False).ids)
        return result

    def count(self, texts: Sequence[str]) -> list[int]:
        """The tokens of each text in its order, all of them, special ones included."""
        around = len(self.head) + len(self.tail)
        return [len(ids) + around for ids in self.encode(texts, most=None)] if texts else []

    def token(self, number: int) -> str | None:
        """A token's text by its id."""
        return self._tokenizer.id_to_token(number)
