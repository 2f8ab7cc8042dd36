"""Calibration: what a model's score says of a match, for each pair of modalities. Pure numbers; no vectors, no database.

A model's cosines mean different things for two texts, a text and a picture, and two pictures. A calibration has a logistic map for
each of these pairs, from the score to the probability that the two match. ``docs/explanation/similarity.md`` has the reasons and figures.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args, overload

from likewise.errors import InvalidArgument

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Scores: TypeAlias = Sequence[float] | NDArray[np.floating[Any]]

__all__ = ["CLIP_VIT_B32", "MINI", "PAIRS", "PRIOR", "Calibration", "Curve", "Pair", "fit", "fit_unlabelled", "pair_of"]

Pair: TypeAlias = Literal["text-text", "text-image", "image-image"]
PAIRS: tuple[Pair, ...] = get_args(Pair)

#: The share of matches among the pairs that a similarity is a probability for: one in ten.
PRIOR = 0.1
#: Fewer scores than this are refused.
LEAST = 10
#: Where ``fit_unlabelled`` puts the midpoint, and how wide it makes the map, in standard deviations of the scores of random pairs.
#: Medians over labelled fits with prior 0.1 (``benchmarks/results/similarity.md``).
UNLABELLED_MIDPOINT, UNLABELLED_WIDTH = 2.5, 0.6

_VERSION = 1
_MOST_STEPS = 200
#: Means that differ by less, in proportion, are equal.
_ROUNDING = 1e-9


def pair_of(one: str, other: str) -> Pair:
    """The pair of two modalities, in either order; each is ``text`` or ``image``."""
    for modality in (one, other):
        if modality not in ("text", "image"):
            raise InvalidArgument(f"{modality!r} is no modality; it must be 'text' or 'image'")
    if one != other:
        return "text-image"
    return "text-text" if one == "text" else "image-image"


@dataclass(frozen=True, slots=True)
class Curve:
    """The map of one pair of modalities: similarity = 1 / (1 + exp(-(score - midpoint) / width)).

    ``midpoint`` is the score whose similarity is 0.5; ``width``, above 0, how many units of score multiply the odds of a match by e.
    ``matched`` and ``unmatched`` are the numbers of pairs that it was fitted on; ``matched`` is 0 if it was fitted without labels.
    """

    midpoint: float
    width: float
    matched: int = 0
    unmatched: int = 0

    def __post_init__(self) -> None:
        for name in ("midpoint", "width"):
            value: object = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise InvalidArgument(f"{name} is {value!r}; it must be a finite number")
        if self.width <= 0:
            raise InvalidArgument(f"width is {self.width!r}; it must be above 0")
        for name in ("matched", "unmatched"):
            count: object = getattr(self, name)
            if isinstance(count, bool) or not isinstance(count, int) or count < 0:
                raise InvalidArgument(f"{name} is {count!r}; it must be a number of pairs, from 0")

    @overload
    def apply(self, score: float) -> float: ...
    @overload
    def apply(self, score: NDArray[np.floating[Any]]) -> NDArray[np.float64]: ...
    def apply(self, score: float | NDArray[np.floating[Any]]) -> float | NDArray[np.float64]:
        """The similarity of a score, 0 to 1; of an array, an array of its shape. It never falls as the score rises; NaN stays NaN.

        ``tanh`` overflows for no score; it gives the same numbers in Python, NumPy and PostgreSQL but for rounding.
        """
        if isinstance(score, int | float):
            return 0.5 + 0.5 * math.tanh((score - self.midpoint) / (2.0 * self.width))
        import numpy as np

        return np.asarray(0.5 + 0.5 * np.tanh((np.asarray(score, np.float64) - self.midpoint) / (2.0 * self.width)))

    def score_for(self, similarity: float) -> float:
        """The score with this similarity, the inverse of ``apply``: minus infinity for 0, infinity for 1.

        Raises ``InvalidArgument`` for what is not from 0 to 1.
        """
        if not 0.0 <= similarity <= 1.0:
            raise InvalidArgument(f"similarity is {similarity!r}; it must be from 0 to 1")
        if similarity in (0.0, 1.0):
            return math.inf if similarity else -math.inf
        return self.midpoint + self.width * (math.log(similarity) - math.log1p(-similarity))


@dataclass(frozen=True, slots=True)
class Calibration:
    """A model's map from score to similarity for each pair of modalities; None for a pair that was not fitted.

    A similarity is the probability that two things match, if a share ``prior`` of the pairs looked at do. Within a pair it keeps the order
    of the scores; between pairs it makes them comparable. The scores are cosines: also the inner products of unit vectors, and
    ``1 - d * d / 2`` for their Euclidean distance d. ``source`` says what it was fitted on, ``fitted`` when (an ISO date); both may be empty.
    """

    text_text: Curve | None = None
    text_image: Curve | None = None
    image_image: Curve | None = None
    prior: float = PRIOR
    source: str = ""
    fitted: str = ""

    def __post_init__(self) -> None:
        curves: tuple[object, ...] = (self.text_text, self.text_image, self.image_image)
        if not any(curves) or not all(curve is None or isinstance(curve, Curve) for curve in curves):
            raise InvalidArgument(f"a calibration has a Curve for at least one of {', '.join(PAIRS)}")
        _check_prior(self.prior)
        texts: tuple[object, ...] = (self.source, self.fitted)
        if not all(isinstance(text, str) for text in texts):
            raise InvalidArgument("source and fitted must be texts")

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """The pairs that it has a map for."""
        return tuple(pair for pair in PAIRS if self._find(pair) is not None)

    def curve(self, pair: Pair) -> Curve:
        """The map of a pair. Raises ``InvalidArgument`` if there is none."""
        curve = self._find(pair)
        if curve is None:
            raise InvalidArgument(f"there is no calibration for {pair!r}, only for {', '.join(self.pairs)}")
        return curve

    def _find(self, pair: str) -> Curve | None:
        found: Curve | None = getattr(self, pair.replace("-", "_")) if pair in PAIRS else None
        return found

    @overload
    def apply(self, score: float, pair: Pair) -> float: ...
    @overload
    def apply(self, score: NDArray[np.floating[Any]], pair: Pair) -> NDArray[np.float64]: ...
    def apply(self, score: float | NDArray[np.floating[Any]], pair: Pair) -> float | NDArray[np.float64]:
        """The similarity of a score, or of an array of scores, between two things of these modalities; see ``Curve.apply``."""
        return self.curve(pair).apply(score)

    def score_for(self, similarity: float, pair: Pair) -> float:
        """The least score with at least this similarity, but for rounding: a threshold on similarity as one on scores.

        It is minus infinity for 0 and infinity for 1. Raises ``InvalidArgument`` for what is not from 0 to 1.
        """
        return self.curve(pair).score_for(similarity)

    def to_json(self) -> str:
        """This calibration as one JSON object, numbers in full; ``from_json`` reads it."""
        return json.dumps(self.to_dict(), ensure_ascii=False)

    def to_dict(self) -> dict[str, Any]:
        """The same object as a dictionary; ``from_dict`` reads it."""
        curves = {pair: self.curve(pair) for pair in self.pairs}
        fields = ("midpoint", "width", "matched", "unmatched")
        pairs = {pair: {name: getattr(curve, name) for name in fields} for pair, curve in curves.items()}
        return {"version": _VERSION, "prior": self.prior, "source": self.source, "fitted": self.fitted, "pairs": pairs}

    @classmethod
    def from_json(cls, text: str) -> Calibration:
        """The calibration that ``to_json`` wrote. Raises ``InvalidArgument`` for anything else."""
        try:
            return cls.from_dict(json.loads(text))
        except (ValueError, TypeError) as error:
            if isinstance(error, InvalidArgument):
                raise
            raise InvalidArgument(f"this is no calibration as to_json writes it: {error!r}") from error

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Calibration:
        """The calibration that ``to_dict`` gave. Raises ``InvalidArgument`` for anything else."""
        try:
            given = dict(data)
            version, pairs = given.pop("version"), given.pop("pairs")
            unknown = sorted(set(pairs) - set(PAIRS))
            if version != _VERSION or unknown:
                raise InvalidArgument(
                    f"this is no calibration of version {_VERSION}: version {version!r}, pairs {unknown}"
                )
            curves: dict[str, Any] = {_field(pair): Curve(**fields) for pair, fields in pairs.items()}
            return cls(**curves, **given)
        except InvalidArgument:
            raise
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise InvalidArgument(f"this is no calibration as to_json writes it: {error!r}") from error


def fit(
    scores: Mapping[Pair, tuple[Scores, Scores]], *, prior: float = PRIOR, source: str = "", fitted: str = ""
) -> Calibration:
    """Fit a calibration to the scores of pairs that match and of pairs that do not: ``{"text-image": (matched, unmatched)}``.

    Each is one-dimensional, with at least 10 scores; pairs drawn at random do for unmatched ones. It is a logistic regression in which
    the matched weigh ``prior`` together and the unmatched the rest, so how many there are of each does not matter; targets are
    smoothed after Platt (1999), so that it is finite where the two do not overlap.

    Raises ``InvalidArgument`` for scores that cannot be used, and where matched pairs do not score higher than unmatched ones.
    """
    _check_prior(prior)
    if not scores:
        raise InvalidArgument("there are no scores to fit")
    curves: dict[str, Any] = {}
    for pair, (matched, unmatched) in scores.items():
        name = _field(pair)
        good, bad = _checked(matched, f"matched {pair}"), _checked(unmatched, f"unmatched {pair}")
        midpoint, width = _regression(good, bad, prior, pair)
        curves[name] = Curve(midpoint, width, len(good), len(bad))
    return Calibration(**curves, prior=prior, source=source, fitted=fitted)


def fit_unlabelled(scores: Mapping[Pair, Scores], *, source: str = "", fitted: str = "") -> Calibration:
    """Fit a calibration to the scores of random pairs of a collection alone: ``{"text-image": scores}``, at least 10 of each.

    It assumes that matches stand out from random pairs by the same number of standard deviations whatever the model and the pair: the
    similarity is 0.5 at 2.5 above the mean, 0.8 at 3.3. Labelled fits lie at 2.3 to 2.9 and 2.8 to 4.3. It is for a prior of 0.1, and for
    collections in which a pair drawn at random seldom matches.

    Raises ``InvalidArgument`` for scores that cannot be used.
    """
    if not scores:
        raise InvalidArgument("there are no scores to fit")
    curves: dict[str, Any] = {}
    for pair, given in scores.items():
        name, values = _field(pair), _checked(given, pair)
        mean, deviation = float(values.mean()), float(values.std())
        if deviation <= _ROUNDING * max(1.0, abs(mean)):
            raise InvalidArgument(f"the scores of {pair} are all {mean}; random pairs differ")
        midpoint, width = mean + UNLABELLED_MIDPOINT * deviation, UNLABELLED_WIDTH * deviation
        curves[name] = Curve(midpoint, width, 0, len(values))
    return Calibration(**curves, prior=PRIOR, source=source, fitted=fitted)


def _field(pair: str) -> str:
    if pair not in PAIRS:
        raise InvalidArgument(f"{pair!r} is no pair of modalities; it must be one of {', '.join(PAIRS)}")
    return pair.replace("-", "_")


def _check_prior(prior: object) -> None:
    if isinstance(prior, bool) or not isinstance(prior, int | float) or not 0.0 < prior < 1.0:
        raise InvalidArgument(f"prior is {prior!r}; it must be between 0 and 1")


def _checked(scores: Scores, what: str) -> NDArray[np.float64]:
    """The scores as float64 of shape (n,)."""
    import numpy as np

    try:
        values = np.asarray(scores, np.float64)
    except (ValueError, TypeError) as error:
        raise InvalidArgument(f"the scores of {what} are no numbers: {error}") from error
    if values.ndim != 1:
        raise InvalidArgument(f"the scores of {what} have the shape {values.shape}; they must be one row")
    if len(values) < LEAST:
        raise InvalidArgument(f"there are {len(values)} scores of {what}; it takes at least {LEAST}")
    if not np.isfinite(values).all():
        raise InvalidArgument(f"some scores of {what} are not finite")
    return values


def _regression(good: NDArray[np.float64], bad: NDArray[np.float64], prior: float, pair: str) -> tuple[float, float]:
    """(midpoint, width) of the weighted logistic regression, by Newton's method on standardised scores."""
    import numpy as np

    if good.mean() - bad.mean() <= _ROUNDING * max(1.0, abs(float(bad.mean()))):
        raise InvalidArgument(
            f"matched pairs of {pair} do not score higher ({good.mean():.3f}) than unmatched ones ({bad.mean():.3f})"
        )
    scores = np.concatenate([good, bad])
    mean, deviation = scores.mean(), scores.std()
    x = np.stack([(scores - mean) / deviation, np.ones(len(scores))])
    weight = np.concatenate([np.full(len(good), prior / len(good)), np.full(len(bad), (1 - prior) / len(bad))])
    # Platt's targets, with the pseudo-pair of each side weighted as the side is; at a prior of 0.5 they are his own.
    high, low = 1 - 2 * (1 - prior) / (len(good) + 2), 2 * prior / (len(bad) + 2)
    target = np.concatenate([np.full(len(good), high), np.full(len(bad), low)])

    def loss(theta: NDArray[Any]) -> float:
        return float((weight * (np.logaddexp(0.0, theta @ x) - target * (theta @ x))).sum())

    # The loss is convex and has its minimum at a finite place; a step that would not lower it is halved.
    theta: NDArray[np.floating[Any]] = np.array([1.0, math.log(prior / (1 - prior))])
    for _ in range(_MOST_STEPS):
        p = 0.5 + 0.5 * np.tanh(theta @ x / 2)
        gradient = x @ (weight * (p - target))
        hessian = (x * (weight * p * (1 - p))) @ x.T + 1e-12 * np.eye(2)
        step, here = np.linalg.solve(hessian, gradient), loss(theta)
        while loss(theta - step) > here and np.abs(step).max() > 1e-9:
            step = step / 2
        theta = theta - step
        if np.abs(step).max() <= 1e-9:
            break
    slope, intercept = float(theta[0]), float(theta[1])
    if not slope > 0:
        raise InvalidArgument(f"the scores of {pair} do not tell matched pairs from unmatched ones")
    return float(mean - intercept / slope * deviation), float(deviation / slope)


#: For ``mini``, from the 1,000 test photographs of Flickr8k: two captions of one photograph match; a caption and its photograph; photographs
#: whose captions agree. The picture head was trained on photographs of this kind: others score a little less. Pictures of one style, such as
#: thumbnails of products on white, and texts on one subject are all alike to it and pass too often: fit those anew.
MINI = Calibration(
    text_text=Curve(0.446, 0.0581, 10_000, 100_000),
    text_image=Curve(0.367, 0.0619, 5_000, 100_000),
    image_image=Curve(0.509, 0.0881, 2_413, 100_000),
    source="Flickr8k test",
    fitted="2026-11-21",
)

#: For CLIP ViT-B/32, from real vectors but narrow ones: 1,583 class names as "a NAME" (two of one meaning match) and 2,000 thumbnails of
#: products (of the article type that a class name says; of one article type). Whole captions lie elsewhere, text-text above all: fit anew.
CLIP_VIT_B32 = Calibration(
    text_text=Curve(0.867, 0.0164, 92, 100_000),
    text_image=Curve(0.238, 0.00768, 1_740, 100_000),
    image_image=Curve(0.858, 0.0383, 70_139, 100_000),
    source="class names of Detic, fashion product thumbnails",
    fitted="2026-11-21",
)
