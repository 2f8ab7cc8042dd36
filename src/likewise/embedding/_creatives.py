"""What the embedding pipeline knows of names and errors. Pure; it waits for nothing."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from likewise.abc.embedder import ImageInput
from likewise.embedding.registry import available_models
from likewise.errors import InvalidArgument, LikewiseError, ModelNotAvailable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["CLIP_MODELS", "CreativeEmbedding", "about", "as_array", "check_images", "clip_name"]

#: The names that models for pictures have on the Hugging Face hub, and ours.
CLIP_MODELS = {
    "openai/clip-vit-base-patch32": "clip",
    "laion/CLIP-ViT-B-32-laion2B-s34B-b79K": "clip:laion2b",
    "jinaai/jina-clip-v2": "jina-clip-v2",
}


class CreativeEmbedding(TypedDict):
    """The vectors of a creative: float32 arrays of shape (dimension of the model for texts,) and (dimension of that for pictures,)."""

    text_embedding: NDArray[np.float32]
    visual_embedding: NDArray[np.float32]


def clip_name(name: str) -> str:
    """The name in our registry of a model for pictures; ``InvalidArgument`` for a name that means nothing."""
    if name in CLIP_MODELS:
        return CLIP_MODELS[name]
    if isinstance(name, str) and name.partition(":")[0].partition("@")[0] in available_models():
        return name
    raise InvalidArgument(
        f"clip_model_name is {name!r:.80}, which names no model for pictures; there are: {', '.join(map(repr, CLIP_MODELS))}, and the "
        f"models of the registry ({', '.join(available_models())}). Give an Embedder of your own as visual="
    )


def check_images(images: Sequence[ImageInput]) -> list[ImageInput]:
    """The pictures; ``InvalidArgument`` for one alone."""
    if isinstance(images, str | bytes | bytearray | os.PathLike) or not hasattr(images, "__iter__"):
        raise InvalidArgument("expected a list of pictures, got one: put it in a list, or call embed_image")
    return list(images)


def as_array(rows: Any, count: int, dimension: int, model: str) -> NDArray[np.float32]:
    """What a model gave, as float32 of shape (count, dimension) that is the caller's own; ``ModelNotAvailable`` if it is something else."""
    import numpy as np

    array = np.array(rows, np.float32)
    if array.shape != (count, dimension):
        raise ModelNotAvailable(
            f"{model} gives what it should not: an array of shape {array.shape}; it must be ({count}, {dimension})",
            model=model,
        )
    return array


@contextmanager
def about(half: Literal["text", "picture"]) -> Iterator[None]:
    """Has an error of the block say which half of a creative it is about; its class and its facts stay what they are."""
    try:
        yield
    except LikewiseError as error:
        said, count = re.subn(rf"\A{half} 0\b", f"the {half} of the creative", str(error))
        error.args = (said if count else f"the {half} of the creative cannot be embedded: {error}",)
        raise
