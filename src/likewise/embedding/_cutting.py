"""Texts to rows of tokens for a model that takes so many and no more: what is longer is cut, and told of, or refused."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from likewise.abc.embedder import ModelCard
from likewise.embedding.texts import check_texts
from likewise.errors import InvalidArgument

if TYPE_CHECKING:
    from likewise.embedding._tokens import TextTokenizer

__all__ = ["Cutter"]

_log = logging.getLogger("likewise.embedding")


class Cutter:
    """Cuts texts, or refuses them, as ``card.overlong`` says, and counts those that it cut; for use by many threads."""

    def __init__(self, card: ModelCard) -> None:
        if card.overlong not in ("cut", "refused"):
            raise InvalidArgument(f"overlong is {card.overlong!r}; it is 'cut' or 'refused'")
        self._card = card
        self._lock = threading.Lock()
        self._cut = 0

    @property
    def cut_texts(self) -> int:
        """How many texts were cut so far."""
        return self._cut

    def rows(self, tokenizer: TextTokenizer, texts: Sequence[str]) -> list[list[int]]:
        """Each text's tokens with the special ones around them, at most ``card.max_tokens``.

        ``InvalidArgument`` names the position of what is not text, or is too long where that is refused.
        """
        texts = check_texts(texts)
        assert self._card.max_tokens is not None
        most = self._card.max_tokens - len(tokenizer.head) - len(tokenizer.tail)
        found = tokenizer.encode(texts, most=most) if texts else []
        cut = [position for position, ids in enumerate(found) if len(ids) > most]
        if cut and self._card.overlong == "refused":
            raise InvalidArgument(
                f"text {cut[0]} has more than the {self._card.max_tokens:,} tokens that {self._card.name} takes; make it shorter, or make the "
                "embedder with overlong='cut'"
            )
        if cut:
            self._report(len(cut), len(texts))
        return [[*tokenizer.head, *ids[:most], *tokenizer.tail] for ids in found]

    def _report(self, cut: int, of: int) -> None:
        with self._lock:
            first = not self._cut
            self._cut += cut
        # Once it is a warning; a long load is not to be drowned in them.
        _log.log(
            logging.WARNING if first else logging.INFO,
            "%d of %d texts have more than the %d tokens of %s, and were cut",
            cut,
            of,
            self._card.max_tokens,
            self._card.name,
            extra={"model": self._card.name, "texts": of, "cut": cut},
        )
