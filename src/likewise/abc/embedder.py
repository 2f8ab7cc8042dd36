"""What an embedding model is to the rest of the house. No model runtime may be imported here."""

from __future__ import annotations

import os
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

from likewise.calibration import Calibration

if TYPE_CHECKING:
    import numpy as np
    import PIL.Image
    from numpy.typing import NDArray

__all__ = ["Embedder", "ImageInput", "Modality", "ModelCard"]

Modality: TypeAlias = Literal["text", "image"]
MODALITIES: tuple[Modality, ...] = get_args(Modality)
#: What ``count_tokens`` takes for a token where nothing better is known.
_ESTIMATED_TOKEN = re.compile(r"[A-Za-z0-9]{1,4}|\S")

#: A picture: its file's bytes, a path to it, or a Pillow image.
ImageInput: TypeAlias = "bytes | str | os.PathLike[str] | PIL.Image.Image"


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What is known of an embedding model before it is loaded.

    ``max_tokens`` counts the model's own tokens, special ones included; a longer text is cut there by ``embed_texts``, refused, or pooled
    (embedded in parts whose vectors are averaged), as ``overlong`` says.
    ``query_prompt`` and ``passage_prompt`` are what the model was trained to see before a text that searches and before one that is
    found (``"query: "``, ``"passage: "``); most models want neither.
    ``calibration`` makes similarities of the cosines of its vectors (``docs/explanation/similarity.md``), if it is known how.
    ``notice`` is what a user must be told before relying on the model (training data, licence of parts).
    """

    name: str
    dimension: int
    modalities: tuple[Modality, ...]
    revision: str = "1"
    normalised: bool = True
    max_tokens: int | None = None
    licence: str = ""
    description: str = ""
    notice: str = ""
    query_prompt: str = ""
    passage_prompt: str = ""
    overlong: Literal["cut", "refused", "pooled"] = "cut"
    calibration: Calibration | None = field(default=None, repr=False)


class Embedder(ABC):
    """Turns texts and pictures into vectors.

    The methods block; callers that must not wait run them in an executor of their own. Implementations are safe to call from
    several threads, load their weights at the first use (or in ``warm_up``), and do no I/O in the constructor.

    What many callers search for at the same time is given to ``embed_queries`` together, in the context of one of them: texts of several
    callers, of which one may be refused with ``InvalidArgument``, and the others are then asked for again without it.

    ``remote`` says that what is embedded leaves the machine, so that a call takes long or costs money; then queries are remembered in the
    database too, unless ``connect`` was told otherwise.
    """

    remote: bool = False
    #: How many calls of ``embed_queries`` may be under way before those who come then are gathered: few for a model that takes all
    #: processors, one for a model on a GPU, more for a server far away.
    calls_at_once: int = 2

    @property
    @abstractmethod
    def card(self) -> ModelCard:
        """The model's card; known without loading the model."""

    @abstractmethod
    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts: float32 of shape (len(texts), dimension), rows in the order given.

        Raises ``InvalidArgument`` for what is not text, ``UnsupportedFeature`` if the model has no text side.
        """

    def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts that search, the card's query prompt before each: float32 of shape (len(texts), dimension)."""
        return self.embed_texts(_prompted(self.card.query_prompt, texts))

    def embed_passages(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts that are to be found, the card's passage prompt before each: float32 of shape (len(texts), dimension)."""
        return self.embed_texts(_prompted(self.card.passage_prompt, texts))

    def embed_images(self, images: Sequence[ImageInput]) -> NDArray[np.float32]:
        """Embed pictures: float32 of shape (len(images), dimension), rows in the order given.

        Raises ``InvalidArgument`` naming the position of a picture that cannot be decoded or is too large, and
        ``UnsupportedFeature`` if the model has no image side.
        """
        from likewise.errors import UnsupportedFeature

        raise UnsupportedFeature("embedding pictures", backend=self.card.name)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """The tokens of each text in the order given, special ones included, as ``card.max_tokens`` counts them; no prompt is added.

        An estimate, rather high, unless the embedder counts with the model's own vocabulary: a token for every four ASCII letters and digits of
        a word, begun or whole, and one for every other character that is no white space. ``InvalidArgument`` for what is not text.
        """
        from likewise.errors import InvalidArgument

        if isinstance(texts, str):
            raise InvalidArgument("expected a list of texts, got one text: put it in a list")
        for position, text in enumerate(texts):
            if not isinstance(text, str):
                raise InvalidArgument(f"text {position} is a {type(text).__name__}; texts are str", position=position)
        return [sum(1 for _ in _ESTIMATED_TOKEN.finditer(text)) for text in texts]

    def warm_up(self) -> None:
        """Load the weights now rather than at the first use."""

    def close(self) -> None:
        """Free the weights. The embedder may be used again; it then loads anew."""


def _prompted(prompt: str, texts: Sequence[str]) -> Sequence[str]:
    """What is not text is left for ``embed_texts`` to name."""
    if not prompt or isinstance(texts, str):
        return texts
    return [prompt + text if isinstance(text, str) else text for text in texts]
