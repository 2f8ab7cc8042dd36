"""A model as the worker calls it: what fails for one text or picture is not to stop the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from likewise.abc.embedder import Embedder, ImageInput, ModelCard
from likewise.errors import InvalidArgument, LikewiseError, ModelNotAvailable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Guarded"]

#: So many texts or pictures that fail alone, one after the other and with errors that are not ours, and it is the model that is broken.
MOST_FAILURES = 8


class Guarded(Embedder):
    """Passes calls on. An exception of a model's runtime becomes ``InvalidArgument``, so that its cause is looked for among the inputs."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self._failures = 0
        self.remote = embedder.remote
        self.calls_at_once = embedder.calls_at_once

    @property
    def card(self) -> ModelCard:
        return self._embedder.card

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self._call(self._embedder.embed_texts, texts)

    def embed_passages(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self._call(self._embedder.embed_passages, texts)

    def embed_images(self, images: Sequence[ImageInput]) -> NDArray[np.float32]:
        return self._call(self._embedder.embed_images, images)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return self._embedder.count_tokens(texts)

    def _call(self, embed: Callable[[Any], NDArray[np.float32]], inputs: Sequence[Any]) -> NDArray[np.float32]:
        try:
            rows = embed(inputs)
        except LikewiseError:
            raise
        except Exception as error:
            name, said = self.card.name, f"{type(error).__name__}: {error}"
            if len(inputs) == 1:
                self._failures += 1
                if self._failures >= MOST_FAILURES:
                    self._failures = 0
                    raise ModelNotAvailable(f"{name} fails for everything: {said}", model=name) from error
            raise InvalidArgument(f"{name} failed: {said}") from error
        self._failures = 0
        return rows
