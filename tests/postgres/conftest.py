"""What several of these tests look at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from likewise.embedding import HashingEmbedder


@pytest.fixture
def embedded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts that the model was asked for."""
    asked: list[str] = []
    real = HashingEmbedder.embed_passages

    def embed_passages(self: HashingEmbedder, texts: Sequence[str]) -> Any:
        asked.extend(texts)
        return real(self, texts)

    monkeypatch.setattr(HashingEmbedder, "embed_passages", embed_passages)
    return asked
