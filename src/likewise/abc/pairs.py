"""Pairs of a collection's records, and of queries and records, whose scores a calibration is fitted to. Pure; no database, no model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from likewise.abc.embedder import Modality
from likewise.calibration import LEAST, Calibration, Pair, fit, fit_unlabelled, pair_of
from likewise.errors import InvalidArgument
from likewise.metrics import Metric
from likewise.records import Record

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Vectors = NDArray[np.floating[Any]]
    Scores = NDArray[np.float64]

__all__ = ["Asked", "Drawn", "fit_pairs"]

#: How many pairs are drawn at random for each pair of modalities.
RANDOM_PAIRS = 100_000


@dataclass(frozen=True, slots=True)
class Drawn:
    """Records of one modality: vectors of shape (records, dimension), and the name of the thing that each is about."""

    vectors: Vectors
    things: Sequence[str]

    @classmethod
    def of(cls, records: Sequence[Record], dimension: int) -> Drawn:
        """Records with their vectors."""
        import numpy as np

        vectors = np.empty((len(records), dimension), np.float64)
        for row, record in enumerate(records):
            vectors[row] = record.vector
        return cls(vectors, [record.content_id or record.id for record in records])


@dataclass(frozen=True, slots=True)
class Asked:
    """Queries of one modality, of shape (queries, dimension), and the record of another that each should find, a row the same in each."""

    modality: Modality
    found: Modality
    queries: Vectors
    records: Drawn


def fit_pairs(
    drawn: Mapping[Modality, Drawn],
    asked: Sequence[Asked],
    metric: Metric,
    *,
    texts: Drawn | None = None,
    prior: float,
    source: str,
    fitted: str,
) -> Calibration:
    """The calibration that fits: by queries where there are any, by texts and pictures of one thing, else by random pairs alone.

    ``texts`` are about the things of the pictures that are drawn.

    Raises ``InvalidArgument`` where there is too little to fit.
    """
    matched: dict[Pair, Scores] = {}
    unmatched: dict[Pair, Scores] = {}
    sides = list(drawn)
    for number, one in enumerate(sides):
        for other in sides[number:]:
            scores = _at_random(drawn[one], drawn[other], metric)
            if len(scores) >= LEAST:
                unmatched[pair_of(one, other)] = scores
    if texts is not None and len(own := _of_one_thing(texts, drawn["image"], metric)) >= LEAST:
        matched["text-image"] = own
    by_pair: dict[Pair, list[tuple[Scores, Scores]]] = {}
    for one_kind in asked:
        good = _scores(one_kind.queries, one_kind.records.vectors, metric)
        bad = _at_random(Drawn(one_kind.queries, one_kind.records.things), drawn[one_kind.found], metric)
        by_pair.setdefault(pair_of(one_kind.modality, one_kind.found), []).append((good, bad))
    import numpy as np

    for pair, parts in by_pair.items():
        matched[pair] = np.concatenate([good for good, _ in parts])
        unmatched[pair] = np.concatenate([bad for _, bad in parts])
        if len(matched[pair]) < LEAST:
            raise InvalidArgument(
                f"there are {len(matched[pair])} matches of {pair}; it takes {LEAST} at least, 50 for a first look, and 200 are enough"
            )
    labelled: dict[Pair, tuple[Scores, Scores]] = {}
    alone: dict[Pair, Scores] = {}
    for pair, bad in unmatched.items():
        if pair in matched and len(bad) >= LEAST:
            labelled[pair] = matched[pair], bad
        elif pair not in matched:
            alone[pair] = bad
    if not labelled and not alone:
        raise InvalidArgument(f"there are too few records to calibrate on: it takes {LEAST} pairs of different ones")
    fits = [fit(labelled, prior=prior)] if labelled else []
    fits += [fit_unlabelled(alone)] if alone else []
    curves: dict[str, Any] = {pair.replace("-", "_"): one.curve(pair) for one in fits for pair in one.pairs}
    return Calibration(**curves, prior=prior, source=source, fitted=fitted)


def _at_random(left: Drawn, right: Drawn, metric: Metric) -> Scores:
    """Scores of pairs drawn at random, of different things."""
    import numpy as np

    if not len(left.vectors) or not len(right.vectors):
        return np.empty(0)
    draw = np.random.default_rng(0)
    ones, others = (draw.integers(len(side.vectors), size=RANDOM_PAIRS) for side in (left, right))
    if len(left.vectors) * len(right.vectors) <= RANDOM_PAIRS:
        ones, others = (places.ravel() for places in np.indices((len(left.vectors), len(right.vectors))))
    names = {thing: number for number, thing in enumerate({*left.things, *right.things})}
    of_left, of_right = (np.array([names[thing] for thing in side.things]) for side in (left, right))
    different = of_left[ones] != of_right[others]
    if left is right:
        # Each pair once.
        different &= ones < others
    ones, others = ones[different], others[different]
    return np.concatenate(
        [
            _scores(left.vectors[ones[low : low + 5_000]], right.vectors[others[low : low + 5_000]], metric)
            for low in range(0, max(1, len(ones)), 5_000)
        ]
    )


def _of_one_thing(left: Drawn, right: Drawn, metric: Metric) -> Scores:
    """Scores of the pairs that are about the same thing."""
    places: dict[str, list[int]] = {}
    for row, thing in enumerate(right.things):
        places.setdefault(thing, []).append(row)
    pairs = [(row, other) for row, thing in enumerate(left.things) for other in places.get(thing, ())]
    return _scores(left.vectors[[a for a, _ in pairs]], right.vectors[[b for _, b in pairs]], metric)


def _scores(left: Vectors, right: Vectors, metric: Metric) -> Scores:
    """Row by row the cosine, or what stands for it under a metric that takes vectors as they are."""
    import numpy as np

    if metric is Metric.L2:
        return np.asarray(1.0 - np.square(left - right).sum(axis=1) / 2.0, np.float64)
    dots = np.einsum("ij,ij->i", left, right, dtype=np.float64)
    if metric is Metric.COSINE:
        dots /= np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    return np.asarray(dots, np.float64)
