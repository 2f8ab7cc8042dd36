"""What a collection's calibration makes of search results: similarities, thresholds on them, and one ranking of texts and pictures. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import assert_never

from likewise.abc.embedder import Modality
from likewise.calibration import Calibration, Curve, pair_of
from likewise.errors import InvalidArgument
from likewise.metrics import Metric
from likewise.records import SearchExplanation, SearchResult, SearchResults
from likewise.schema import CollectionSpec

__all__ = ["Similarities", "check_calibrated", "check_similarity", "cosine"]


def cosine(metric: Metric, distance: float) -> float:
    """The cosine of two unit vectors at this distance."""
    match metric:
        case Metric.COSINE:
            return 1.0 - distance
        case Metric.INNER_PRODUCT:
            return -distance
        case Metric.L2:
            return 1.0 - distance * distance / 2.0
    assert_never(metric)


def check_similarity(value: object) -> float | None:
    """A threshold on similarity; ``InvalidArgument`` if it is not a number from 0 to 1."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0.0 <= value <= 1.0:
        raise InvalidArgument(f"min_similarity is {value!r:.80}; it must be a number from 0 to 1")
    return float(value)


def check_calibrated(spec: CollectionSpec) -> None:
    """``InvalidArgument`` if the collection has no vector of its own, which is what a calibration is for."""
    if "" not in spec.vector_fields:
        raise InvalidArgument(
            f"collection {spec.name!r} has named vectors only; a calibration is for the vector that is the collection's own"
        )


@dataclass(frozen=True, slots=True)
class Similarities:
    """What the results of one query are given: similarities by the calibration for its modality and theirs, at least ``least``.

    Without a calibration, for a query whose modality is not known, and for a pair of modalities that the calibration has no map for,
    the similarity is the score held to 0..1.
    """

    calibration: Calibration | None
    query: Modality | None
    metric: Metric
    least: float | None = None

    @classmethod
    def of(
        cls, spec: CollectionSpec, calibration: Calibration | None, query: Modality | None, least: float | None
    ) -> Similarities:
        """Those of a collection's own vector."""
        return cls(calibration, query, Metric(spec.vector_field(None)[1].metric), least)

    @property
    def comparable(self) -> bool:
        """Whether texts and pictures can be ranked together by their similarities."""
        return self._curve("text") is not None and self._curve("image") is not None

    def _curve(self, modality: Modality | None) -> Curve | None:
        if self.calibration is None or self.query is None:
            return None
        pair = pair_of(self.query, modality or "text")
        return self.calibration.curve(pair) if pair in self.calibration.pairs else None

    def measured(self, found: SearchResults) -> SearchResults:
        """The results in their order, with their similarities, those below the threshold left out."""
        if self.calibration is None and self.least is None:
            return found
        return self._ranked(found, complete=found.complete, explanation=found.explain())

    def together(self, found: Mapping[Modality, SearchResults], top_k: int) -> SearchResults:
        """The best ``top_k`` of texts and pictures that were searched apart; by similarity, then distance, then id."""
        placed = []
        for modality, results in found.items():
            curve = self._curve(modality)
            assert curve is not None
            for result in results:
                # The similarity before it is squeezed into 0..1, where the best would be equal.
                odds = (cosine(self.metric, result.distance) - curve.midpoint) / curve.width
                placed.append((-odds, result.distance, result.id, result))
        placed.sort(key=lambda one: one[:3])
        legs: dict[str, SearchExplanation] = {name: results.explain() for name, results in found.items()}
        by = {leg.by for leg in legs.values()}
        return self._ranked(
            (one[3] for one in placed[:top_k]),
            complete=all(results.complete for results in found.values()),
            explanation=SearchExplanation("fused", legs=legs, by=by.pop() if len(by) == 1 else None),
        )

    def _ranked(
        self, results: Iterable[SearchResult], *, complete: bool, explanation: SearchExplanation
    ) -> SearchResults:
        kept: list[SearchResult] = []
        for result in results:
            curve = self._curve(result.record.modality)
            similarity = result.similarity if curve is None else curve.apply(cosine(self.metric, result.distance))
            if self.least is None or similarity >= self.least:
                kept.append(SearchResult(result.record, result.distance, result.score, similarity, len(kept) + 1))
        return SearchResults(kept, complete=complete, explanation=explanation)
