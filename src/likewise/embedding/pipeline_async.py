"""Texts by one model, pictures by another, for those who keep a vector of each: ``AsyncEmbeddingPipeline``.

Asynchronous code; ``pipeline.py`` is the generated twin. Models block, so they run in Likewise's own executor of two threads.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

from likewise.abc.embedder import Embedder, ImageInput
from likewise.abc.running_async import run_blocking
from likewise.embedding._asking import BASE_URL
from likewise.embedding._creatives import CreativeEmbedding, about, as_array, check_images, clip_name
from likewise.embedding.openai import OpenAIEmbedder
from likewise.embedding.registry import load_embedder
from likewise.embedding.texts import check_texts

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["AsyncEmbeddingPipeline"]

TEXT_MODEL = "text-embedding-3-large"


class AsyncEmbeddingPipeline:
    """Embeds the texts and the pictures of creatives, each by its own model.

    Texts go to OpenAI's ``text-embedding-3-large`` (3,072 dimensions) with ``openai_api_key``, or with the key of the environment
    (``OPENAI_API_KEY``) where none is given. Pictures are embedded on this machine by the model that ``clip_model_name`` names, as it is called on the
    Hugging Face hub or in Likewise's registry. ``text`` and ``visual`` take an embedder, or the name of one, in their place; so nothing
    needs to leave the machine. Models are made and loaded when they are first used.

    Vectors are numpy arrays of float32 of the caller's own: of shape (dimension,) for one text or picture, (count, dimension) for several, in
    the order given. Errors are those of the models: ``InvalidArgument`` names the position of what cannot be embedded,
    ``ModelNotAvailable`` says how to get a model. ``InvalidArgument`` at once for a ``clip_model_name`` that means nothing.
    """

    def __init__(
        self,
        openai_api_key: str | Callable[[], str | None] | None = None,
        clip_model_name: str = "openai/clip-vit-base-patch32",
        *,
        text: Embedder | str | None = None,
        visual: Embedder | str | None = None,
        openai_base_url: str = BASE_URL,
    ) -> None:
        self._own: Embedder | None = None
        if text is None and (openai_api_key is not None or openai_base_url != BASE_URL):
            text = self._own = OpenAIEmbedder(
                TEXT_MODEL, dimensions=3_072, base_url=openai_base_url, api_key=openai_api_key
            )
        self._text: Embedder | str = f"openai:{TEXT_MODEL}" if text is None else text
        self._visual: Embedder | str = clip_name(clip_model_name) if visual is None else visual
        self._lock = threading.Lock()

    @property
    def text(self) -> Embedder:
        """The model for texts; ``ModelNotAvailable`` if there is none of its name."""
        with self._lock:
            if isinstance(self._text, str):
                self._text = load_embedder(self._text)
            return self._text

    @property
    def visual(self) -> Embedder:
        """The model for pictures; ``ModelNotAvailable`` if there is none of its name."""
        with self._lock:
            if isinstance(self._visual, str):
                self._visual = load_embedder(self._visual)
            return self._visual

    async def embed_text(self, text: str) -> NDArray[np.float32]:
        """The vector of a text, of shape (dimension,)."""
        vectors = await self.embed_texts([text])
        vector: NDArray[np.float32] = vectors[0]
        return vector

    async def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """The vectors of texts, as texts that are to be found: shape (texts, dimension)."""
        texts = list(check_texts(texts))
        return await run_blocking(self._embed_texts, texts)

    async def embed_image(self, image_path: ImageInput) -> NDArray[np.float32]:
        """The vector of a picture (a path, a file's bytes or a Pillow image), of shape (dimension,)."""
        vectors = await self.embed_images([image_path])
        vector: NDArray[np.float32] = vectors[0]
        return vector

    async def embed_images(self, image_paths: Sequence[ImageInput]) -> NDArray[np.float32]:
        """The vectors of pictures: shape (pictures, dimension)."""
        images = check_images(image_paths)
        return await run_blocking(self._embed_images, images)

    async def embed_creative(self, text: str, image_path: ImageInput) -> CreativeEmbedding:
        """The vectors of a creative's text and of its picture. What fails says which of the two it is about."""
        with about("text"):
            text_embedding = await self.embed_text(text)
        with about("picture"):
            visual_embedding = await self.embed_image(image_path)
        return {"text_embedding": text_embedding, "visual_embedding": visual_embedding}

    def _embed_texts(self, texts: list[str]) -> NDArray[np.float32]:
        model = self.text
        rows: object = model.embed_passages(texts) if texts else []
        return self._checked(rows, len(texts), model)

    def _embed_images(self, images: list[ImageInput]) -> NDArray[np.float32]:
        model = self.visual
        rows: object = model.embed_images(images) if images else []
        return self._checked(rows, len(images), model)

    @staticmethod
    def _checked(rows: object, count: int, model: Embedder) -> NDArray[np.float32]:
        if not count:
            import numpy as np

            return np.empty((0, model.card.dimension), np.float32)
        return as_array(rows, count, model.card.dimension, model.card.name)

    async def aclose(self) -> None:
        """Close the connections that the pipeline made itself; embedders that were given, or found by their name, are left. May be called twice."""
        if self._own is not None:
            await run_blocking(self._own.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()
