"""Fetching a model's files before they are needed, and saying what of them is here. By names; the work is in ``_hub``."""

from __future__ import annotations

from likewise.embedding._hub import FromFiles, ModelFiles, Progress, find_model, look_for_model
from likewise.embedding.registry import load_embedder
from likewise.errors import UnsupportedFeature

__all__ = ["model_files", "pull_model"]


def pull_model(name: str, *, progress: Progress | None = None) -> ModelFiles:
    """Fetch the files of the model of this name into the cache, those that are not there or are damaged; all of them are checked.

    ``progress`` is called with a file's name, the bytes of it that are here, and the bytes that it has (None while that is not known).
    ``UnsupportedFeature`` if the model has no files to fetch; ``ModelNotAvailable``, ``ModelUnreachable`` and
    ``OptionalDependencyError`` say why a model cannot be fetched.
    """
    embedder = load_embedder(name)
    if not isinstance(embedder, FromFiles):
        raise UnsupportedFeature("fetching files", backend=name, hint="it has none to fetch")
    find_model(name, embedder.source, embedder.loading, progress=progress, repair=True)
    return look_for_model(embedder.source, embedder.loading)


def model_files(name: str) -> ModelFiles | None:
    """What is here of the files of the model of this name; None for a model that has no files to fetch. Asks no network."""
    embedder = load_embedder(name)
    return look_for_model(embedder.source, embedder.loading) if isinstance(embedder, FromFiles) else None
