"""What does a cosine mean for two texts, a text and a picture, two pictures; and which map makes a similarity of it?

    python benchmarks/similarity.py --data DATA --models MODELS --cache CACHE [--out benchmarks/results]

Maps are fitted on one half of the labels and judged on the other. Tables are printed; plots are written to ``--out``.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import _histograms
import _pairs
import numpy as np
from _pairs import Pool, Sample, Two
from numpy.typing import NDArray

from likewise.calibration import CLIP_VIT_B32, MINI, PAIRS, Pair, fit, fit_unlabelled

Numbers = NDArray[np.float64]
Map = Callable[[Numbers], Numbers]
Maps = dict[Pair, Map]

PRIOR = 0.1
#: What the shipped parameters are fitted on; the other data only judge them.
FITTED_ON = {"mini": "Flickr8k", "clip": "class names, thumbnails"}
OWN = {"mini": MINI, "clip": CLIP_VIT_B32}


# The candidates.


def raw(_: Pair, __: Two) -> Map:
    return lambda scores: np.clip(scores, 0.0, 1.0)


def logistic(prior: float) -> Callable[[Pair, Two], Map]:
    return lambda pair, two: fit({pair: two}, prior=prior).curve(pair).apply


def unlabelled(pair: Pair, two: Two) -> Map:
    return fit_unlabelled({pair: two[1]}).curve(pair).apply


def percentile(_: Pair, two: Two) -> Map:
    """The share of random pairs that score less."""
    ordered = np.sort(two[1])
    return lambda scores: np.searchsorted(ordered, scores) / len(ordered)


def gaussian(_: Pair, two: Two) -> Map:
    """The same of a normal distribution with the mean and deviation of random pairs."""
    mean, deviation = two[1].mean(), two[1].std()
    erf = np.vectorize(math.erf, otypes=[float])
    return lambda scores: 0.5 + 0.5 * erf((scores - mean) / deviation / math.sqrt(2))


def isotonic(_: Pair, two: Two) -> Map:
    """The monotone step function nearest to matched or not (pool adjacent violators), with the prior's weights."""
    scores = np.concatenate(two)
    order = np.argsort(scores, kind="stable")
    target = np.concatenate([np.ones(len(two[0])), np.zeros(len(two[1]))])[order]
    weight = np.concatenate(
        [np.full(len(two[0]), PRIOR / len(two[0])), np.full(len(two[1]), (1 - PRIOR) / len(two[1]))]
    )
    blocks: list[tuple[float, float, int]] = []
    for t, w in zip(target.tolist(), weight[order].tolist(), strict=True):
        mean, total, count = t, w, 1
        while blocks and blocks[-1][0] >= mean:
            other, more, several = blocks.pop()
            mean, total, count = (mean * total + other * more) / (total + more), total + more, count + several
        blocks.append((mean, total, count))
    heights = np.repeat([block[0] for block in blocks], [block[2] for block in blocks])
    steps = scores[order]
    return lambda given: heights[np.clip(np.searchsorted(steps, given, side="right") - 1, 0, len(steps) - 1)]


CANDIDATES: dict[str, Callable[[Pair, Two], Map]] = {
    "raw cosine": raw,
    "percentile": percentile,
    "Gaussian": gaussian,
    "isotonic": isotonic,
    "logistic": logistic(PRIOR),
    "unlabelled": unlabelled,
}


# What they are judged by.


def at(scores: Two, similarity: Map, threshold: float = 0.8) -> tuple[float, float, float]:
    """(recall, false ones in 1,000 unmatched pairs, precision where one pair in ten matches) of a threshold on similarity."""
    recall, false = (float((similarity(each) >= threshold).mean()) for each in scores)
    passed = PRIOR * recall + (1 - PRIOR) * false
    return recall, 1000 * false, PRIOR * recall / passed if passed else math.nan


def area(two: Two) -> float:
    """The probability that a matched pair scores more than an unmatched one."""
    ordered = np.sort(two[1])
    return float(np.searchsorted(ordered, two[0]).mean() / len(ordered))


def ndcg(relevant: NDArray[np.bool_], total: int) -> float:
    """nDCG@10 of the ten that were found, of ``total`` relevant ones."""
    discount = 1 / np.log2(np.arange(2, 12))
    return float((discount[: len(relevant)] * relevant).sum() / discount[: min(10, total)].sum())


def judged(pool: Pool, order: Callable[[Numbers, Numbers], NDArray[np.int64]]) -> tuple[Numbers, float, float, float]:
    """(nDCG@10 of each query, share of pictures among the ten and among the relevant, share of queries with a relevant text and a relevant picture found).

    ``order`` gives the places of the first ten, pictures counted after texts. The last number is of queries for which there are both.
    """
    texts, images = own_left_out(pool)
    gains: list[float] = []
    share: list[float] = []
    wanted: list[float] = []
    both: list[float] = []
    for number in range(len(pool.queries)):
        relevant = np.concatenate([pool.relevant_texts[number], pool.relevant_images[number]])
        if not relevant.any():
            continue
        first = order(texts[number], images[number])
        gains.append(ndcg(relevant[first], int(relevant.sum())))
        share.append(float((first >= texts.shape[1]).mean()))
        wanted.append(float(pool.relevant_images[number].sum() / relevant.sum()))
        if pool.relevant_texts[number].any() and pool.relevant_images[number].any():
            hits = first[relevant[first]]
            both.append(float((hits < texts.shape[1]).any() and (hits >= texts.shape[1]).any()))
    return (
        np.array(gains),
        float(np.mean(share)),
        float(np.mean(wanted)),
        float(np.mean(both)) if both else math.nan,
    )


def relevant_shares(pool: Pool) -> dict[Pair, float]:
    """The share of relevant ones among the pool's pairs, one in a million at least."""
    first, second = two_pairs(pool)
    return {
        first: max(1e-6, float(pool.relevant_texts.mean())),
        second: max(1e-6, float(pool.relevant_images.mean())),
    }


def two_pairs(pool: Pool) -> tuple[Pair, Pair]:
    """The pairs that a query makes with texts and with pictures."""
    return ("text-text", "text-image") if pool.modality == "text" else ("text-image", "image-image")


def own_left_out(pool: Pool) -> tuple[Numbers, Numbers]:
    """Cosines (q, n) and (q, m) of queries with texts and pictures; minus 1 for what is the query itself."""
    texts = np.asarray(pool.queries @ pool.texts.T, np.float64)
    images = np.asarray(pool.queries @ pool.images.T, np.float64)
    own = texts if pool.modality == "text" else images
    own[own > 1 - 1e-5] = -1.0
    return texts, images


def by_similarity(pool: Pool, maps: Maps) -> Callable[[Numbers, Numbers], NDArray[np.int64]]:
    first, second = two_pairs(pool)

    def order(texts: Numbers, images: Numbers) -> NDArray[np.int64]:
        similar = np.concatenate([maps[first](texts), maps[second](images)])
        return np.lexsort((-np.concatenate([texts, images]), -similar))[:10]

    return order


def interleaved(pool: Pool) -> Callable[[Numbers, Numbers], NDArray[np.int64]]:
    """One of each in turn, the query's own modality first."""

    def order(texts: Numbers, images: Numbers) -> NDArray[np.int64]:
        both = [np.argsort(-texts)[:5], len(texts) + np.argsort(-images)[:5]]
        return np.stack(both if pool.modality == "text" else both[::-1], axis=1).ravel()

    return order


def centred(pool: Pool) -> Pool:
    """The pool with each modality's mean taken off its vectors, as GR-CLIP does (Li et al. 2025)."""
    means = {"text": pool.texts.mean(axis=0), "image": pool.images.mean(axis=0)}
    return Pool(
        pool.data,
        pool.model,
        pool.modality,
        _pairs.unit(pool.queries - means[pool.modality]),
        _pairs.unit(pool.texts - means["text"]),
        _pairs.unit(pool.images - means["image"]),
        pool.relevant_texts,
        pool.relevant_images,
        pool.fit,
    )


# The tables.


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    print(f"| {' | '.join(heads)} |")
    print(f"|{' --- |' * len(heads)}")
    for row in rows:
        print(f"| {' | '.join(row)} |")
    print()


def quantiles(scores: Numbers) -> str:
    return " / ".join(f"{value:.2f}" for value in np.quantile(scores, (0.05, 0.5, 0.95)))


def distributions(samples: Sequence[Sample]) -> None:
    print(
        "## Cosines\n\n5 %, median and 95 % of all pairs of both halves; the area is the chance that a matched pair scores more.\n"
    )
    rows: list[list[str]] = []
    for sample in samples:
        whole = joined(sample)
        raw_at = at(whole, raw(sample.pair, whole))
        rows.append(
            [
                sample.model,
                sample.pair,
                f"{sample.data}: {sample.what}",
                f"{len(whole[0]):,}",
                quantiles(whole[0]),
                quantiles(whole[1]),
                f"{area(whole):.3f}",
                f"{raw_at[0]:.2f}, {raw_at[1]:.1f}",
            ]
        )
    heads = [
        "model",
        "pair",
        "match",
        "matched pairs",
        "matched",
        "random",
        "area",
        "cosine 0.8: recall, false in 1,000",
    ]
    table(heads, rows)


def joined(sample: Sample) -> Two:
    """The pairs of both halves."""
    return np.concatenate([sample.fit[0], sample.test[0]]), np.concatenate([sample.fit[1], sample.test[1]])


def thresholds(samples: Sequence[Sample]) -> None:
    print(
        "## At a similarity of 0.8\n\nRecall of matched pairs, false ones in 1,000 random pairs, precision where one in ten matches; on the half not fitted on.\n"
    )
    rows = []
    for sample in samples:
        cells = [at(sample.test, make(sample.pair, sample.fit)) for make in CANDIDATES.values()]
        rows.append(
            [sample.model, sample.pair, sample.data, *("{:.2f}, {:.1f}, {:.2f}".format(*cell) for cell in cells)]
        )
    table(["model", "pair", "data", *CANDIDATES], rows)
    print("The logistic map by its prior:\n")
    priors = (0.5, 0.1, 0.01)
    rows = []
    for sample in samples:
        cells = [at(sample.test, logistic(prior)(sample.pair, sample.fit)) for prior in priors]
        rows.append([sample.model, sample.pair, sample.data, *("{:.2f}, {:.1f}".format(*cell) for cell in cells)])
    table(["model", "pair", "data", *(f"prior {prior}: recall, false in 1,000" for prior in priors)], rows)


def defaults(samples: Sequence[Sample]) -> None:
    print(
        "## The parameters that are shipped, at a similarity of 0.8\n\nRecall, false in 1,000, precision where one in ten matches; all pairs.\n"
    )
    rows = []
    for sample in samples:
        curve = OWN[sample.model].curve(sample.pair)
        cell = "{:.2f}, {:.1f}, {:.2f}".format(*at(joined(sample), curve.apply))
        rows.append(
            [
                sample.model,
                sample.pair,
                sample.data,
                "yes" if sample.data == FITTED_ON[sample.model] else "no",
                f"{curve.score_for(0.8):.3f}",
                cell,
            ]
        )
    table(["model", "pair", "data", "fitted on it", "cosine of 0.8", "recall, false, precision"], rows)


def parameters(samples: Sequence[Sample]) -> None:
    """The calibrations of both halves: what ``MINI`` and ``CLIP_VIT_B32`` are, rounded."""
    for model, data in FITTED_ON.items():
        mine = {each.pair: joined(each) for each in samples if each.model == model and each.data == data}
        print(f"{model}: {fit(mine).to_json()}\n")


def rankings(pools: Sequence[Pool]) -> None:
    print(
        "## Texts and pictures in one ranking\n\nnDCG@10; the share of pictures among the first ten, after the pool that among the relevant; the share of queries for which a relevant text and a relevant picture are among the ten.\n"
    )
    names = ["raw cosine", "interleaved", "centred", "percentile", "Gaussian", "isotonic", "logistic", "unlabelled"]
    rows = []
    for pool in pools:
        cells: list[tuple[Numbers, float, float, float]] = []
        for name in names:
            if name == "interleaved":
                cells.append(judged(pool, interleaved(pool)))
                continue
            used = centred(pool) if name == "centred" else pool
            make = CANDIDATES["raw cosine" if name == "centred" else name]
            cells.append(judged(used, by_similarity(used, {pair: make(pair, two) for pair, two in pool.fit.items()})))
        # With the share of relevant ones of each pair in this very pool as its prior, in place of one in ten.
        shares = relevant_shares(pool)
        cells.append(
            judged(
                pool,
                by_similarity(
                    pool, {pair: logistic(shares[pair])(pair, two) for pair, two in pool.fit.items() if pair in shares}
                ),
            )
        )
        shipped = OWN[pool.model]
        cells.append(judged(pool, by_similarity(pool, {pair: shipped.curve(pair).apply for pair in PAIRS})))
        gained = cells[names.index("logistic")][0] - cells[0][0]
        rows.append(
            [
                f"{pool.model}, {pool.data} ({cells[0][2]:.2f})",
                str(len(gained)),
                *(f"{cell[0].mean():.3f}; {cell[1]:.2f}; {cell[3]:.2f}".replace("nan", "-") for cell in cells),
                f"{gained.mean():+.3f} ± {gained.std() / math.sqrt(len(gained)):.3f}",
            ]
        )
    heads = [
        "model, pool",
        "queries",
        *names,
        "logistic, the pool's priors",
        "shipped",
        "logistic less raw, ± a standard error",
    ]
    table(heads, rows)


def stability(samples: Sequence[Sample], times: int = 100) -> None:
    print(
        f"## Few pairs\n\nStandard deviation of the score that has similarity 0.8, over {times} draws of so many matched and as many random pairs, in units of the random pairs' own deviation; and the false ones in 1,000, 5 % to 95 % of the draws.\n"
    )
    rng = np.random.default_rng(11)
    rows = []
    for sample in samples:
        row = [sample.model, sample.pair, sample.data]
        deviation = sample.fit[1].std()
        for count in (50, 200):
            for labelled in (True, False):
                scores: list[float] = []
                false: list[float] = []
                for _ in range(times):
                    good, bad = (rng.choice(each, count) for each in sample.fit)
                    made = fit({sample.pair: (good, bad)}) if labelled else fit_unlabelled({sample.pair: bad})
                    scores.append(made.score_for(0.8, sample.pair))
                    false.append(1000 * float((sample.test[1] >= scores[-1]).mean()))
                low, high = np.quantile(false, (0.05, 0.95))
                row.append(f"{np.std(scores) / deviation:.2f}; {low:.1f} to {high:.1f}")
        rows.append(row)
    table(["model", "pair", "data", "50, logistic", "50, unlabelled", "200, logistic", "200, unlabelled"], rows)


def deviations(samples: Sequence[Sample]) -> None:
    print(
        "## What fitting without labels assumes\n\nWhere labelled fits lie, in standard deviations of random pairs: the midpoint above the mean, and the width.\n"
    )
    found: list[tuple[float, float]] = []
    rows = []
    for sample in samples:
        curve = fit({sample.pair: sample.fit}).curve(sample.pair)
        mean, deviation = sample.fit[1].mean(), sample.fit[1].std()
        found.append((float((curve.midpoint - mean) / deviation), float(curve.width / deviation)))
        rows.append([sample.model, sample.pair, sample.data, f"{found[-1][0]:.2f}", f"{found[-1][1]:.2f}"])
    middle = np.median(np.array(found), axis=0)
    table(
        ["model", "pair", "data", "midpoint", "width"],
        [*rows, ["median", "", "", f"{middle[0]:.2f}", f"{middle[1]:.2f}"]],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", type=Path, required=True, help="a folder with flickr8k-test, stamps, support and fashion"
    )
    parser.add_argument("--models", type=Path, required=True, help="a folder with clip-vit-b32-vectors")
    parser.add_argument("--cache", type=Path, required=True, help="a folder for the vectors that mini makes")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results", help="a folder for the plots")
    options = parser.parse_args()
    samples: list[Sample] = []
    pools: list[Pool] = []
    for more, searched in (
        _pairs.flickr(options.data, options.cache),
        _pairs.stamps(options.data, options.cache),
        _pairs.banking(options.data, options.cache),
        _pairs.fashion(options.data, options.cache, options.models),
        _pairs.clip(options.data, options.models),
    ):
        samples += more
        pools += searched
    distributions(samples)
    thresholds(samples)
    rankings(pools)
    parameters(samples)
    defaults(samples)
    stability(samples)
    deviations(samples)
    for model in OWN:
        mine = [each for each in samples if each.model == model and each.data == FITTED_ON[model]]
        title = f"Cosines of {model}, and the similarity made of them ({FITTED_ON[model]})"
        print(
            _histograms.draw(
                options.out / f"similarity-{model}.svg",
                title,
                [(each.pair, each.what, joined(each)) for each in mine],
                OWN[model],
            )
        )


if __name__ == "__main__":
    main()
