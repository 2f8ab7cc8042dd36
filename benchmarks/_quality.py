"""How good a ranking is, and the labelled data that rankings are judged by. Knows of no model."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

__all__ = ["Captioned", "TextSet", "captioned", "ndcg", "recalls", "text_set", "top"]


def ndcg(ranked: Sequence[str], gains: Mapping[str, float], k: int = 10) -> float:
    """nDCG@k of one query: the gains of what was found, each divided by log2(rank + 1), over those of the best order there is.

    Järvelin and Kekäläinen 2002, with linear gains, as trec_eval, BEIR and MTEB compute it. ``gains`` are of the documents judged relevant; one that
    was not judged has none. ValueError if none is relevant, or a document is ranked twice.
    """
    best = sorted((gain for gain in gains.values() if gain > 0), reverse=True)
    if not best:
        raise ValueError("nothing is relevant to the query")
    if len(set(ranked)) < len(ranked):
        raise ValueError("a document is ranked twice")
    return _discounted([gains.get(document, 0.0) for document in ranked[:k]]) / _discounted(best[:k])


def _discounted(gains: Sequence[float]) -> float:
    return sum(max(gain, 0.0) / float(np.log2(rank + 1)) for rank, gain in enumerate(gains, 1))


def top(scores: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """The columns of the k largest numbers of each row, the largest first; of equal ones the first."""
    return np.argsort(-scores, axis=1, kind="stable")[:, :k]


def recalls(scores: NDArray[np.float32], relevant: NDArray[np.bool_], ks: Sequence[int] = (1, 5, 10)) -> list[float]:
    """Recall@k as papers on captions define it: the part of the queries (rows) with at least one relevant column among the first k."""
    found = np.take_along_axis(relevant, top(scores, max(ks)), axis=1)
    return [float(found[:, :k].any(axis=1).mean()) for k in ks]


@dataclass(frozen=True)
class Captioned:
    """Photographs, and captions of which each belongs to one of them: ``of`` gives its place."""

    images: list[Path]
    captions: list[str]
    of: NDArray[np.int64]


def captioned(folder: Path) -> Captioned:
    """A folder with ``captions.csv`` (image, caption) and ``images``."""
    with (folder / "captions.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    names = list(dict.fromkeys(row["image"] for row in rows))
    places = {name: place for place, name in enumerate(names)}
    of = np.array([places[row["image"]] for row in rows], np.int64)
    return Captioned([folder / "images" / name for name in names], [row["caption"] for row in rows], of)


@dataclass(frozen=True)
class TextSet:
    """Documents and queries by their ids, and for each query of the test set the gains of its documents."""

    documents: dict[str, str]
    queries: dict[str, str]
    gains: dict[str, dict[str, float]]


def text_set(folder: Path) -> TextSet:
    """A folder as BEIR lays it out: ``corpus.jsonl``, ``queries.jsonl``, ``qrels/test.tsv``. A document is its title, a space, its text."""
    documents = {
        row["_id"]: f"{row.get('title') or ''} {row['text']}".strip() for row in _lines(folder / "corpus.jsonl")
    }
    queries = {row["_id"]: row["text"] for row in _lines(folder / "queries.jsonl")}
    gains: dict[str, dict[str, float]] = {}
    with (folder / "qrels" / "test.tsv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            if float(row["score"]) > 0:
                gains.setdefault(row["query-id"], {})[row["corpus-id"]] = float(row["score"])
    return TextSet(documents, {key: queries[key] for key in gains}, gains)


def _lines(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines() if line.strip()]
