"""Vectors to measure with: made ones, embedded lines of a file, or a file of vectors; more of them than there are, if need be."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from likewise.embedding import load_embedder

__all__ = ["add_arguments", "chosen", "made"]

Vectors = NDArray[np.float32]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """``--texts`` and ``--vectors``."""
    parser.add_argument("--texts", type=Path, help="a file of lines to embed, in place of made vectors")
    parser.add_argument("--vectors", type=Path, help="a .npy file of vectors, in place of made ones")


def chosen(options: argparse.Namespace, count: int, dimension: int) -> Vectors:
    """``count`` vectors of length 1 from where the options say."""
    if options.vectors:
        return grown(np.asarray(np.load(options.vectors), dtype=np.float32), count)
    if options.texts:
        lines = options.texts.read_text("utf-8").splitlines()[:count]
        return grown(load_embedder("mini").embed_texts(lines), count)
    return made(count, dimension)


def made(count: int, dimension: int) -> Vectors:
    """Vectors around 200 centres, about as hard for an index as embeddings of short texts."""
    rng = np.random.default_rng(1)
    centres = rng.normal(size=(200, dimension))
    return normal(centres[rng.integers(200, size=count)] + 0.8 * rng.normal(size=(count, dimension)))


def grown(vectors: Vectors, count: int) -> Vectors:
    """The first ``count``; where there are fewer, more between two of them each: 0.7 of one and 0.3 of the other."""
    missing = count - len(vectors)
    if missing <= 0:
        return vectors[:count]
    rng = np.random.default_rng(2)
    near, far = rng.integers(len(vectors), size=(2, missing))
    between = normal(np.float32(0.7) * vectors[near] + np.float32(0.3) * vectors[far])
    # In an order by chance, so that the queries, which are the last of them, are of both kinds.
    return np.concatenate([vectors, between])[rng.permutation(count)]


def normal(vectors: NDArray[np.floating]) -> Vectors:
    """The same directions, of length 1."""
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)
