"""Chunks of whole sentences."""

from __future__ import annotations

import json
from collections.abc import Iterator

from likewise._sentences import sentences
from likewise.ingest.chunking._spans import Ruler, Span
from likewise.ingest.chunking.chunk import Chunker, Count, Cut, check_number

__all__ = ["SentenceChunker", "sentence_spans"]


class SentenceChunker(Chunker):
    """Chunks of as many whole sentences as fit into ``size`` tokens. The last ``overlap_sentences`` of a chunk begin the next one too.

    A sentence with more tokens than ``size`` is cut between words, and its parts are then sentences like others. Where so many sentences
    would leave no room for a new one, fewer are repeated.
    """

    def __init__(self, size: int, overlap_sentences: int = 0, *, count: Count) -> None:
        super().__init__(size, count=count)
        check_number("overlap_sentences", overlap_sentences, least=0, most=100)
        self._overlap = overlap_sentences

    @property
    def settings(self) -> str:
        return json.dumps({"kind": "sentences", "size": self._size, "overlap_sentences": self._overlap})

    def _cuts(self, ruler: Ruler) -> Iterator[Cut]:
        units = sentence_spans(ruler, 0, len(ruler.text))
        for first, last, _ in ruler.packed(units, overlap=self._overlap):
            yield Cut((units[first][0], units[last - 1][1]))


def sentence_spans(ruler: Ruler, start: int, end: int, size: int | None = None) -> list[Span]:
    """The sentences between two places without the white space around them, those that do not fit into ``size`` in pieces that do."""
    return [piece for sentence in sentences(ruler.text, start, end) for piece in ruler.pieces(*sentence, size)]
