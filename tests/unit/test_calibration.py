"""The map from score to similarity: its shape, its inverse, its fit, its JSON; and the figures of the parameters that are shipped."""

from __future__ import annotations

import csv
import json
import math
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from likewise.calibration import (
    CLIP_VIT_B32,
    MINI,
    PAIRS,
    Calibration,
    Curve,
    Pair,
    fit,
    fit_unlabelled,
    pair_of,
)
from likewise.errors import InvalidArgument

Numbers = NDArray[np.float64]

SHARED = Path(__file__).resolve().parents[3] / "shared"
CLIP_VECTORS = SHARED / "models" / "clip-vit-b32-vectors"
PHOTOGRAPHS = SHARED / "data" / "flickr8k-test"

CURVES = [calibration.curve(pair) for calibration in (MINI, CLIP_VIT_B32) for pair in PAIRS]


# The map.


@pytest.mark.parametrize("curve", [*CURVES, Curve(0.0, 1e-9), Curve(-3.5, 40.0)])
def test_a_higher_score_is_never_less_similar(curve: Curve) -> None:
    scores = np.sort(np.concatenate([np.linspace(-2, 2, 20_001), np.random.default_rng(1).normal(0, 0.5, 10_000)]))
    similar = curve.apply(scores)
    assert (np.diff(similar) >= 0).all()
    assert ((similar >= 0) & (similar <= 1)).all()


def test_the_map_is_a_logistic_one() -> None:
    curve = Curve(0.4, 0.1)
    assert curve.apply(0.4) == 0.5
    assert curve.apply(0.5) == pytest.approx(1 / (1 + math.exp(-1)), abs=1e-15)
    assert curve.apply(0.3) + curve.apply(0.5) == pytest.approx(1.0, abs=1e-15)


@pytest.mark.parametrize("curve", CURVES)
def test_a_number_and_an_array_are_mapped_alike(curve: Curve) -> None:
    scores = np.linspace(-1, 1, 60).reshape(3, 20)
    similar = curve.apply(scores)
    assert similar.shape == scores.shape
    assert similar.dtype == np.float64
    assert similar.ravel().tolist() == pytest.approx(
        [curve.apply(score) for score in scores.ravel().tolist()], abs=1e-15
    )
    assert isinstance(curve.apply(1), float)


@pytest.mark.parametrize("curve", CURVES)
def test_equal_scores_are_equally_similar(curve: Curve) -> None:
    assert len(set(curve.apply(np.full(9, 0.3)).tolist())) == 1


@pytest.mark.parametrize("curve", CURVES)
def test_extreme_scores_are_mapped_too(curve: Curve) -> None:
    with np.errstate(all="raise"):
        assert curve.apply(np.array([-1e300, 1e300, -np.inf, np.inf])).tolist() == [0.0, 1.0, 0.0, 1.0]
    assert [curve.apply(score) for score in (-1e300, 1e300, -math.inf, math.inf)] == [0.0, 1.0, 0.0, 1.0]
    assert math.isnan(curve.apply(math.nan))
    assert np.isnan(curve.apply(np.array([np.nan]))).all()


@pytest.mark.parametrize("curve", CURVES)
@pytest.mark.parametrize("similarity", [1e-12, 0.001, 0.2, 0.5, 0.7, 0.8, 0.999, 1 - 1e-9])
def test_the_inverse_gives_the_score_back(curve: Curve, similarity: float) -> None:
    assert curve.apply(curve.score_for(similarity)) == pytest.approx(similarity, rel=1e-6, abs=1e-14)


@pytest.mark.parametrize("curve", CURVES)
def test_a_threshold_on_scores_is_one_on_similarities(curve: Curve) -> None:
    scores = np.random.default_rng(2).uniform(-1, 1, 20_000)
    for similarity in (0.01, 0.5, 0.8, 0.99):
        assert ((scores >= curve.score_for(similarity)) == (curve.apply(scores) >= similarity)).all()
    assert (curve.score_for(0.0), curve.score_for(1.0)) == (-math.inf, math.inf)


@pytest.mark.parametrize("similarity", [-0.1, 1.1, math.nan, math.inf])
def test_no_score_has_a_similarity_outside_of_0_to_1(similarity: float) -> None:
    with pytest.raises(InvalidArgument, match="from 0 to 1"):
        Curve(0.4, 0.1).score_for(similarity)


# Pairs.


def test_pairs_have_no_order() -> None:
    assert pair_of("text", "text") == "text-text"
    assert pair_of("text", "image") == pair_of("image", "text") == "text-image"
    assert pair_of("image", "image") == "image-image"
    with pytest.raises(InvalidArgument, match="'sound' is no modality"):
        pair_of("text", "sound")


def test_a_pair_that_was_not_fitted_is_refused() -> None:
    calibration = Calibration(text_text=Curve(0.4, 0.1))
    assert calibration.pairs == ("text-text",)
    assert calibration.apply(0.4, "text-text") == 0.5
    with pytest.raises(InvalidArgument, match="no calibration for 'text-image', only for text-text"):
        calibration.apply(0.4, "text-image")
    with pytest.raises(InvalidArgument, match="no calibration for 'source'"):
        calibration.score_for(0.8, "source")  # type: ignore[arg-type]


# What cannot be.


@pytest.mark.parametrize(
    ("midpoint", "width"),
    [(math.nan, 1), (math.inf, 1), ("0.4", 1), (True, 1), (0, 0), (0, -0.1), (0, math.inf), (0, None)],
)
def test_a_map_that_could_not_work_is_refused(midpoint: float, width: float) -> None:
    with pytest.raises(InvalidArgument, match=r"midpoint is|width is"):
        Curve(midpoint, width)


@pytest.mark.parametrize("count", [-1, 1.5, True])
def test_numbers_of_pairs_are_whole(count: int) -> None:
    with pytest.raises(InvalidArgument, match="number of pairs"):
        Curve(0.4, 0.1, matched=count)


@pytest.mark.parametrize("prior", [0, 1, -0.1, math.nan, "0.1", True])
def test_a_prior_is_between_0_and_1(prior: float) -> None:
    with pytest.raises(InvalidArgument, match="prior is"):
        Calibration(text_text=Curve(0.4, 0.1), prior=prior)
    with pytest.raises(InvalidArgument, match="prior is"):
        fit({"text-text": (range(10, 20), range(10))}, prior=prior)


def test_a_calibration_has_at_least_one_map() -> None:
    with pytest.raises(InvalidArgument, match="at least one of"):
        Calibration()
    with pytest.raises(InvalidArgument, match="a Curve"):
        Calibration(text_text=(0.4, 0.1))  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match="must be texts"):
        Calibration(text_text=Curve(0.4, 0.1), source=7)  # type: ignore[arg-type]


# JSON.


@pytest.mark.parametrize(
    "calibration", [MINI, CLIP_VIT_B32, Calibration(image_image=Curve(1 / 3, 0.1 + 0.2, 7, 9), prior=0.01, source="é")]
)
def test_json_gives_back_the_same(calibration: Calibration) -> None:
    assert Calibration.from_json(calibration.to_json()) == calibration


def _changed(**changes: object) -> str:
    return json.dumps({**json.loads(MINI.to_json()), **changes})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "7",
        "[]",
        "{}",
        _changed(version=2),
        _changed(pairs={}),
        _changed(pairs=[]),
        _changed(pairs={"text-sound": {"midpoint": 0, "width": 1}}),
        _changed(pairs={"text-text": {"midpoint": 0}}),
        _changed(pairs={"text-text": {"midpoint": 0, "width": -1}}),
        _changed(pairs={"text-text": {"midpoint": 0, "width": 1, "colour": 3}}),
        _changed(prior=2),
        _changed(text_text=None),
        _changed(unknown=1),
    ],
)
def test_other_json_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument):
        Calibration.from_json(text)


# Fitting.


def _drawn(count: int, seed: int = 3, deviation: float = 0.1) -> tuple[Numbers, Numbers]:
    """Two normal distributions of one deviation, 0.4 and 0.1 in the mean: the posterior is a logistic map exactly."""
    rng = np.random.default_rng(seed)
    return rng.normal(0.4, deviation, count), rng.normal(0.1, deviation, count)


@pytest.mark.parametrize("prior", [0.5, 0.1, 0.02])
def test_a_fit_finds_the_parameters_that_made_the_scores(prior: float) -> None:
    curve = fit({"text-text": _drawn(100_000)}, prior=prior).curve("text-text")
    width = 0.1**2 / 0.3
    assert curve.width == pytest.approx(width, rel=0.04)
    assert curve.midpoint == pytest.approx(0.25 + width * math.log((1 - prior) / prior), abs=0.004)
    assert (curve.matched, curve.unmatched) == (100_000, 100_000)


def test_a_fit_says_what_the_share_of_matches_is() -> None:
    # Of pairs with a similarity near s, a share of about s match, where a tenth of all pairs do.
    matched, unmatched = _drawn(200_000, seed=5)
    curve = fit({"text-text": (matched, unmatched)}).curve("text-text")
    for low in (0.2, 0.5, 0.8):
        good, bad = (
            share * float(((curve.apply(each) >= low) & (curve.apply(each) < low + 0.1)).mean())
            for share, each in ((0.1, matched), (0.9, unmatched))
        )
        assert good / (good + bad) == pytest.approx(low + 0.05, abs=0.03)


def test_how_many_of_each_does_not_matter() -> None:
    matched, unmatched = _drawn(50_000)
    whole = fit({"text-text": (matched, unmatched)}).score_for(0.8, "text-text")
    assert fit({"text-text": (matched[:2_000], unmatched)}).score_for(0.8, "text-text") == pytest.approx(
        whole, abs=0.01
    )


@pytest.mark.parametrize(("count", "most"), [(10, 0.45), (50, 0.39), (200, 0.38)])
def test_few_pairs_will_do_and_fewer_make_it_more_careful(count: int, most: float) -> None:
    found = [fit({"text-text": _drawn(count, seed)}).score_for(0.8, "text-text") for seed in range(40)]
    assert 0.36 < np.median(found) < most
    assert np.std(found) < 0.25 / math.sqrt(count)


def test_pairs_that_do_not_overlap_have_a_finite_map() -> None:
    curve = fit({"text-text": (np.linspace(0.8, 0.9, 20), np.linspace(0.1, 0.2, 20))}).curve("text-text")
    assert 0.2 < curve.midpoint < 0.8
    assert curve.width > 0.01


def test_ties_and_a_rare_match_are_fitted() -> None:
    curve = fit({"text-text": ([0.5] * 10, [0.1] * 5_000 + [0.5] * 5)}, prior=0.001).curve("text-text")
    assert curve.apply(0.1) < 0.01 < curve.apply(0.5)


def test_each_pair_is_fitted_by_itself() -> None:
    one, two = _drawn(500), _drawn(500, seed=8, deviation=0.05)
    both = fit({"text-text": one, "image-image": two}, source="here", fitted="2026-01-31")
    assert both.pairs == ("text-text", "image-image")
    assert both.curve("image-image") == fit({"image-image": two}).curve("image-image")
    assert (both.source, both.fitted, both.prior) == ("here", "2026-01-31", 0.1)


def test_order_and_kind_of_the_numbers_do_not_matter() -> None:
    matched, unmatched = _drawn(300)
    first = fit({"text-text": (matched, unmatched)}).curve("text-text")
    again = fit({"text-text": (sorted(matched.tolist()), unmatched[::-1])}).curve("text-text")
    assert again.midpoint == pytest.approx(first.midpoint, rel=1e-9)
    assert again.width == pytest.approx(first.width, rel=1e-9)


def test_random_pairs_alone_will_do() -> None:
    scores = np.random.default_rng(4).normal(0.2, 0.1, 10_000)
    made = fit_unlabelled({"text-image": scores}, source="random pairs")
    assert made.curve("text-image").midpoint == pytest.approx(0.2 + 2.5 * 0.1, abs=0.01)
    assert (made.curve("text-image").matched, made.curve("text-image").unmatched) == (0, 10_000)
    assert 0 < float((made.apply(scores, "text-image") >= 0.8).mean()) < 0.003
    # It moves with the scores, so pairs of modalities become comparable.
    moved = fit_unlabelled({"text-text": 3 * scores + 0.5})
    assert moved.apply(3 * 0.4 + 0.5, "text-text") == pytest.approx(made.apply(0.4, "text-image"), abs=1e-9)


@pytest.mark.parametrize(
    ("matched", "unmatched", "message"),
    [
        ([0.5] * 9, [0.1] * 99, "9 scores of matched text-text; it takes at least 10"),
        ([0.5] * 99, [], "0 scores of unmatched text-text"),
        ([0.1] * 20, [0.5] * 20, "do not score higher"),
        ([0.5] * 20, [0.5] * 20, "do not score higher"),
        ([0.1] * 20, [0.1] * 33, "do not score higher"),
        ([0.5] * 19 + [math.nan], [0.1] * 20, "not finite"),
        ([0.5] * 20, [0.1] * 19 + [-math.inf], "not finite"),
        ([[0.5] * 20], [0.1] * 20, r"shape \(1, 20\)"),
        (["high"] * 20, [0.1] * 20, "no numbers"),
    ],
)
def test_scores_that_cannot_be_fitted_are_refused(matched: list[float], unmatched: list[float], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        fit({"text-text": (matched, unmatched)})


def test_random_pairs_that_cannot_be_fitted_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="it takes at least 10"):
        fit_unlabelled({"text-text": [0.1, 0.2]})
    with pytest.raises(InvalidArgument, match="random pairs differ"):
        fit_unlabelled({"text-text": [0.1] * 33})
    with pytest.raises(InvalidArgument, match="no scores"):
        fit_unlabelled({})


def test_fits_of_nothing_known_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="no scores"):
        fit({})
    with pytest.raises(InvalidArgument, match="'text-sound' is no pair of modalities"):
        fit({"text-sound": (range(10, 20), range(10))})  # type: ignore[dict-item]


def test_the_module_is_light() -> None:
    program = "import sys, likewise.calibration as c; c.MINI.apply(0.5, 'text-text'); print('numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


# What is shipped.


@pytest.mark.parametrize(
    ("calibration", "pair", "cosine"),
    [
        (MINI, "text-text", 0.527),
        (MINI, "text-image", 0.453),
        (MINI, "image-image", 0.631),
        (CLIP_VIT_B32, "text-text", 0.890),
        (CLIP_VIT_B32, "text-image", 0.249),
        (CLIP_VIT_B32, "image-image", 0.911),
    ],
)
def test_0_8_is_reached_where_the_pages_say(calibration: Calibration, pair: Pair, cosine: float) -> None:
    assert calibration.score_for(0.8, pair) == pytest.approx(cosine, abs=0.0006)
    assert (calibration.prior, calibration.fitted) == (0.1, "2026-11-21")


def test_clip_finds_the_thumbnails_of_a_class_name_and_few_others() -> None:
    if not CLIP_VECTORS.exists():
        pytest.skip("the vectors of CLIP are not here; they are not part of the project")
    names = [
        each["name"].lower() for each in json.loads((CLIP_VECTORS / "clip_vitb32_text_names.json").read_text("utf-8"))
    ]
    files = json.loads((CLIP_VECTORS / "clip_vitb32_image_files.json").read_text("utf-8"))
    with (SHARED / "data" / "fashion" / "styles.csv").open(encoding="utf-8", newline="") as file:
        types = {row["id"]: row["articleType"] for row in csv.DictReader(file)}
    kinds = np.array([types[name.removesuffix(".jpg")] for name in files])
    with np.load(CLIP_VECTORS / "clip_vitb32_text_vectors.npz") as kept:
        texts = kept["vectors"].astype(np.float64)
    with np.load(CLIP_VECTORS / "clip_vitb32_image_vectors_fashion2000.npz") as kept:
        images = kept["vectors"].astype(np.float64)
    asked = {"watch": "Watches", "belt": "Belts", "sunglasses": "Sunglasses", "backpack": "Backpacks", "sock": "Socks"}
    for name, kind in asked.items():
        cosines = images @ texts[names.index(name)]
        similar = CLIP_VIT_B32.apply(cosines, "text-image") >= 0.8
        assert similar[kinds == kind].mean() > 0.6, name
        assert similar[kinds != kind].mean() < 0.05, name
        assert not (cosines >= 0.8).any()
    chance = texts[::7] @ images[::5].T
    assert float((CLIP_VIT_B32.apply(chance, "text-image") >= 0.8).mean()) < 0.006
    assert float((CLIP_VIT_B32.apply(texts[::7] @ texts[1::7].T, "text-text") >= 0.8).mean()) < 0.006


def test_mini_finds_photographs_by_captions_and_few_others() -> None:
    if not PHOTOGRAPHS.exists():
        pytest.skip("the captioned photographs are not here; they are not part of the project")
    from likewise.embedding import load_embedder

    with (PHOTOGRAPHS / "captions.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))[:750]
    files = [row["image"] for row in rows[::5]]
    assert all(re.fullmatch(r"[\w.]+", name) for name in files)
    model = load_embedder("mini")
    first = model.embed_texts([row["caption"] for row in rows[::5]])
    second = model.embed_texts([row["caption"] for row in rows[1::5]])
    images = model.embed_images([PHOTOGRAPHS / "images" / name for name in files])
    own = np.eye(len(files), dtype=bool)
    for pair, cosines, recall in (("text-text", first @ second.T, 0.55), ("text-image", second @ images.T, 0.25)):
        similar = MINI.apply(cosines, pair_of(*pair.split("-"))) >= 0.8
        assert similar[own].mean() > recall, pair
        assert similar[~own].mean() < 0.008, pair
    assert float((second @ images.T)[own].max()) < 0.8
