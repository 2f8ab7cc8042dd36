"""What every backend asks of a specification: its embedder's part filled in, and whether a stored one is the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeAlias

from likewise.abc.embedder import Embedder
from likewise.calibration import Calibration
from likewise.errors import SchemaMismatch
from likewise.schema import CollectionSpec

__all__ = ["EmbedderResolver", "compare_specs", "resolve_spec", "settled_spec", "stored_calibration"]

#: Finds an embedder by its name; raises ``ModelNotAvailable``.
EmbedderResolver: TypeAlias = Callable[[str], Embedder]


def resolve_spec(spec: CollectionSpec, resolver: EmbedderResolver) -> tuple[CollectionSpec, Embedder | None]:
    """The specification with its embedder's dimension filled in, and the embedder."""
    if spec.embedder is None:
        return replace(spec, multimodal=bool(spec.multimodal)), None
    embedder = resolver(spec.embedder)
    card = embedder.card
    return spec.resolved(dimension=card.dimension, multimodal=len(card.modalities) > 1), embedder


def settled_spec(spec: CollectionSpec, stored: CollectionSpec | None, embedder: Embedder | None) -> CollectionSpec:
    """The specification as it is to be stored: a calibration that is left to the model is the stored one, or that of the model's card.

    The card's is for cosines of unit vectors, and of things whose modality is known.
    """
    if spec.calibration != "model":
        return spec
    if stored is not None:
        return replace(spec, calibration=stored.calibration)
    card = None if embedder is None else embedder.card
    if card is None or not (spec.multimodal or card.modalities == ("text",)):
        return replace(spec, calibration=None)
    fits = card.normalised or spec.vector_field(None)[1].metric == "cosine"
    return replace(spec, calibration=card.calibration if fits else None)


def stored_calibration(spec: CollectionSpec) -> Calibration | None:
    """The calibration of a stored specification."""
    return spec.calibration if isinstance(spec.calibration, Calibration) else None


def compare_specs(wanted: CollectionSpec, stored: CollectionSpec) -> None:
    """``SchemaMismatch`` listing every way in which the stored collection is not the wanted one."""
    differences = []
    for name in {**wanted.vector_fields, **stored.vector_fields}:
        what = f"vector {name!r}" if name else "the vector"
        want, have = wanted.vector_fields.get(name), stored.vector_fields.get(name)
        if want is None:
            differences.append(f"{what} is stored but not in the specification")
        elif have is None:
            differences.append(f"{what} is in the specification but not stored")
        else:
            differences.extend(
                f"{what} has {attribute} {getattr(have, attribute)}, the specification says {getattr(want, attribute)}"
                for attribute in ("dimension", "metric", "storage")
                if getattr(want, attribute) != getattr(have, attribute)
            )
    if wanted.embedder != stored.embedder:
        differences.append(f"its embedder is {stored.embedder!r}, the specification says {wanted.embedder!r}")
    if bool(wanted.multimodal) != bool(stored.multimodal):
        differences.append(f"it is {'' if stored.multimodal else 'not '}multimodal, the specification says otherwise")
    if wanted.calibration not in ("model", stored.calibration):
        differences.append("its calibration is another; set_calibration() changes it, as does mode='auto_migrate'")
    if differences:
        raise SchemaMismatch(
            f"collection {wanted.name!r} differs from the specification: {'; '.join(differences)}. "
            "Change the specification, use another name, or drop the collection",
            collection=wanted.name,
            differences=differences,
        )
