"""Chunks that end where a text turns to something else, as an embedding model sees it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

from likewise.abc.embedder import Embedder
from likewise.errors import UnsupportedFeature
from likewise.ingest.chunking._spans import Ruler, Span
from likewise.ingest.chunking.chunk import Chunker, Count, Cut, check_number
from likewise.ingest.chunking.sentences import sentence_spans

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["SemanticChunker"]

#: Sentences that are embedded in one call.
_TOGETHER = 256


class SemanticChunker(Chunker):
    """Chunks that end between the sentences whose embeddings differ most.

    At each place between two sentences the mean vector of the ``window`` sentences before it is compared with that of the ``window`` after it, by
    cosine distance; the text is cut where the distance is above the ``percentile``-th percentile (0 to 100, with linear interpolation) of all
    distances in it. What is then still longer than ``size`` tokens is cut between other sentences, as many as fit sharing a chunk. So a
    lower percentile makes more and shorter chunks; with 100 only ``size`` cuts.

    The percentile is the rule of G. Kamradt, "5 Levels of Text Splitting" (2024), level 4; comparing windows of equal length on both sides is that
    of M. Hearst, "TextTiling" (Computational Linguistics 23(1), 1997). Every sentence is embedded once, as a passage; errors of the embedder
    pass through. ``UnsupportedFeature`` if it embeds no text.
    """

    def __init__(
        self, size: int, *, embedder: Embedder, percentile: float = 95.0, window: int = 1, count: Count
    ) -> None:
        super().__init__(size, count=count)
        check_number("percentile", percentile, least=0, most=100, whole=False)
        check_number("window", window, least=1, most=100)
        if "text" not in embedder.card.modalities:
            raise UnsupportedFeature("embedding texts", backend=embedder.card.name)
        self._embedder = embedder
        self._percentile = float(percentile)
        self._window = window

    @property
    def settings(self) -> str:
        return json.dumps(
            {"kind": "semantic", "size": self._size, "percentile": self._percentile, "window": self._window}
        )

    def _cuts(self, ruler: Ruler) -> Iterator[Cut]:
        units = sentence_spans(ruler, 0, len(ruler.text))
        start = 0
        for stop in (*self._turns(ruler, units), len(units)):
            group = units[start:stop]
            for first, last, _ in ruler.packed(group):
                yield Cut((group[first][0], group[last - 1][1]))
            start = stop

    def _turns(self, ruler: Ruler, units: list[Span]) -> list[int]:
        """The numbers of the sentences before which the text is cut, in order."""
        import numpy as np

        if len(units) < 3:
            return []
        texts = [ruler.text[start:end] for start, end in units]
        vectors = np.concatenate(
            [self._embedder.embed_passages(texts[at : at + _TOGETHER]) for at in range(0, len(texts), _TOGETHER)]
        ).astype(np.float64)
        distances = self._distances(vectors)
        bound = np.percentile(distances, self._percentile)
        return [place + 1 for place in np.flatnonzero(distances > bound).tolist()]

    def _distances(self, vectors: NDArray[np.float64]) -> NDArray[np.float64]:
        """The cosine distance over each place between two sentences: shape (sentences - 1,)."""
        import numpy as np

        # Sums from the beginning, so that a window of any length costs the same.
        sums = np.concatenate([np.zeros((1, vectors.shape[1])), np.cumsum(vectors, axis=0)])
        places = np.arange(1, len(vectors))
        before = sums[places] - sums[np.maximum(places - self._window, 0)]
        after = sums[np.minimum(places + self._window, len(vectors))] - sums[places]
        lengths = np.linalg.norm(before, axis=1) * np.linalg.norm(after, axis=1)
        cosines = np.einsum("ij,ij->i", before, after) / np.maximum(lengths, 1e-12)
        # What is left of rounding is no difference between two sentences.
        return np.asarray(np.round(1.0 - cosines, 9), np.float64)
