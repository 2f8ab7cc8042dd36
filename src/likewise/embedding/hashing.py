"""A deterministic stand-in for a model: feature hashing. For tests and offline plumbing; what it finds similar shares words."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from likewise.abc.embedder import Embedder, ImageInput, ModelCard
from likewise.embedding.images import decode_images
from likewise.embedding.texts import check_texts
from likewise.errors import InvalidArgument

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["HashingEmbedder"]

_WORD = re.compile(r"\w+")


class HashingEmbedder(Embedder):
    """Hashes words and the trigrams of their letters into a unit vector; pictures by their colours in an 8 x 8 grid.

    The same input gives the same vector in every process, on every machine, with every version of Python.
    """

    def __init__(self, dimension: int = 64) -> None:
        if not 2 <= dimension <= 16_000:
            raise InvalidArgument(f"the dimension is {dimension}; it must be from 2 to 16,000")
        self._card = ModelCard(
            name="hashing" if dimension == 64 else f"hashing:{dimension}",
            dimension=dimension,
            modalities=("text", "image"),
            licence="Apache-2.0",
            description="Feature hashing of words and colours, for tests",
            notice="Not a model: it knows no meaning.",
        )

    @classmethod
    def from_variant(cls, variant: str) -> HashingEmbedder:
        """``hashing``, or ``hashing:128`` for another dimension."""
        if variant and not variant.isdecimal():
            raise ValueError("what follows the colon is a dimension, as in 'hashing:128'")
        return cls(int(variant or 64))

    @property
    def card(self) -> ModelCard:
        return self._card

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self._hash([_features(text) for text in check_texts(texts)])

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """The words of each text in its order: what is hashed. Punctuation counts nothing."""
        return [sum(1 for _ in _WORD.finditer(text)) for text in check_texts(texts)]

    def embed_images(self, images: Sequence[ImageInput]) -> NDArray[np.float32]:
        return self._hash(
            [
                (f"pixel {i} {value >> 5}" for i, value in enumerate(image.resize((8, 8)).tobytes()))
                for image in decode_images(images)
            ]
        )

    def _hash(self, inputs: Sequence[Iterator[str]]) -> NDArray[np.float32]:
        import numpy as np

        result = np.zeros((len(inputs), self._card.dimension), np.float32)
        for row, features in zip(result, inputs, strict=True):
            for feature in features:
                code = zlib.crc32(feature.encode("utf-8"))
                row[code % len(row)] += 1.0 if code & 0x8000_0000 else -1.0
            norm = float(np.linalg.norm(row))
            if norm == 0.0:
                row[0] = norm = 1.0
            row /= norm
        return result


def _features(text: str) -> Iterator[str]:
    yield "text"
    for word in _WORD.findall(text.lower()):
        yield f"word {word}"
        padded = f"^{word}$"
        for i in range(len(padded) - 2):
            yield f"letters {padded[i : i + 3]}"
