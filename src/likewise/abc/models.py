"""Which model a collection's vectors are by: what is remembered of it, and what is said where it is another one, or not there.

Pure functions over values. No model runtime, and no database, enters here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from likewise.abc.embedder import Embedder, ImageInput, ModelCard
from likewise.abc.specs import EmbedderResolver
from likewise.errors import ModelNotAvailable, OptionalDependencyError, SchemaMismatch
from likewise.schema import CollectionSpec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["AbsentEmbedder", "ModelIdentity", "check_model", "model_key", "opened_embedder", "stored_model"]


@dataclass(frozen=True, slots=True)
class ModelIdentity:
    """What makes two models one: vectors of models that differ in any of these are not comparable."""

    name: str
    revision: str
    dimension: int

    @classmethod
    def of(cls, card: ModelCard) -> ModelIdentity:
        """The identity on a card."""
        return cls(card.name, card.revision, card.dimension)

    @classmethod
    def from_json(cls, data: Mapping[str, Any] | None) -> ModelIdentity | None:
        """What ``stored_model`` wrote; None where nothing was written."""
        return None if data is None else cls(data["name"], data["revision"], data["dimension"])

    def __str__(self) -> str:
        return f"{self.name!r} in revision {self.revision!r} with {self.dimension} dimensions"


def model_key(card: ModelCard, prompt: str) -> str:
    """A text that is another one for each model, revision, dimension and prompt.

    It is JSON as PostgreSQL writes it: ``jsonb_build_array(name, revision, dimension, prompt)::text``.
    """
    return json.dumps([card.name, card.revision, card.dimension, prompt], ensure_ascii=False)


def stored_model(card: ModelCard) -> dict[str, Any]:
    """What is stored of a model beside the specification of a collection, as JSON."""
    return {
        "name": card.name,
        "revision": card.revision,
        "dimension": card.dimension,
        "query_prompt": card.query_prompt,
    }


def check_model(stored: ModelIdentity | None, embedder: Embedder | None, spec: CollectionSpec) -> None:
    """``SchemaMismatch`` if the vectors of a collection are by another model than this one, which has the same name here."""
    if stored is None or embedder is None or (here := ModelIdentity.of(embedder.card)) == stored:
        return
    difference = f"its vectors are by {stored}, and {spec.embedder!r} is {here} here"
    raise SchemaMismatch(
        f"collection {spec.name!r} differs from the specification: {difference}. Install the package that has the first, or write the "
        "records into a new collection",
        collection=spec.name,
        differences=[difference],
    )


def opened_embedder(spec: CollectionSpec, stored: ModelIdentity | None, resolver: EmbedderResolver) -> Embedder | None:
    """The embedder of a collection that is opened by its name: one that says what is wrong when it is used, if it is not to be had."""
    if spec.embedder is None:
        return None
    assert spec.dimension is not None
    known = stored or ModelIdentity(spec.embedder, "", spec.dimension)
    try:
        embedder = resolver(spec.embedder)
    except (ModelNotAvailable, OptionalDependencyError) as error:
        return AbsentEmbedder(
            known, spec, f"remembers the embedding model {spec.embedder!r}, which is not here: {error}"
        )
    if stored is not None:
        try:
            check_model(stored, embedder, spec)
        except SchemaMismatch as error:
            return AbsentEmbedder(known, spec, f"cannot embed: {'; '.join(error.differences)}")
    elif embedder.card.dimension != spec.dimension:
        here = ModelIdentity.of(embedder.card)
        return AbsentEmbedder(
            known, spec, f"has vectors of dimension {spec.dimension}, and {spec.embedder!r} is {here} here"
        )
    return embedder


class AbsentEmbedder(Embedder):
    """Stands for a model that a collection remembers and that is not to be had here: ``ModelNotAvailable`` wherever it is to embed.

    Searches by vector, reading and deleting need no model.
    """

    def __init__(self, known: ModelIdentity, spec: CollectionSpec, problem: str) -> None:
        self._card = ModelCard(
            known.name,
            known.dimension,
            ("text", "image") if spec.multimodal else ("text",),
            revision=known.revision,
        )
        #: Why the model is not to be had, and what works without it: what is raised.
        self.problem = f"collection {spec.name!r} {problem}. Searches by vector and reading work without it"

    @property
    def card(self) -> ModelCard:
        return self._card

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self._refuse()

    def embed_images(self, images: Sequence[ImageInput]) -> NDArray[np.float32]:
        self._refuse()

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """``ModelNotAvailable``: the vocabulary is the model's."""
        self._refuse()

    def warm_up(self) -> None:
        """``ModelNotAvailable``, as for embedding."""
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise ModelNotAvailable(self.problem, model=self._card.name)
