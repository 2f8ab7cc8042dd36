"""Embedders by name: those of this package, those of other packages (entry points), and those that an application registers.

A name has no place for a key, an address or a folder, so this is where the environment is read; the classes take arguments.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TypeAlias

from likewise.abc.embedder import Embedder
from likewise.embedding._asking import BASE_URL
from likewise.embedding._hub import Loading
from likewise.embedding.bge import BgeEmbedder, BgeM3Embedder
from likewise.embedding.clip import ClipEmbedder
from likewise.embedding.fastembed import FastEmbedEmbedder
from likewise.embedding.hashing import HashingEmbedder
from likewise.embedding.jina_clip import JinaClipEmbedder
from likewise.embedding.mini import MiniEmbedder
from likewise.embedding.minilm import MiniLMEmbedder
from likewise.embedding.openai import OpenAIEmbedder
from likewise.embedding.sentence_transformers import SentenceTransformersEmbedder
from likewise.errors import InvalidArgument, LikewiseError, ModelNotAvailable

__all__ = ["DEFAULT_MODEL", "EmbedderFactory", "available_models", "load_embedder", "register_embedder"]

DEFAULT_MODEL = "mini"
#: Other packages offer models under this entry point group; the entry point's name is the model's family.
ENTRY_POINTS = "likewise.embedders"

#: Makes an embedder from what follows the colon in its name: ``"conse"`` in ``mini:conse``, "" in ``mini``. ValueError if it cannot.
EmbedderFactory: TypeAlias = Callable[[str], Embedder]


def _loading() -> Loading:
    """How models are found: ``LIKEWISE_MODEL_CACHE_DIR`` is the folder of downloads, with ``LIKEWISE_MODEL_OFFLINE`` there are none."""
    folder = os.environ.get("LIKEWISE_MODEL_CACHE_DIR")
    offline = os.environ.get("LIKEWISE_MODEL_OFFLINE", "").strip().lower()
    if offline not in ("", "0", "1", "false", "true", "no", "yes", "off", "on"):
        raise InvalidArgument(f"LIKEWISE_MODEL_OFFLINE is {offline!r:.40}; it is 1 or 0")
    return Loading(
        cache_dir=Path(folder).expanduser() if folder else None, offline=offline in ("1", "true", "yes", "on")
    )


def _only(make: Callable[[], Embedder]) -> EmbedderFactory:
    """The factory of a family with one model."""

    def factory(variant: str) -> Embedder:
        if variant:
            raise ValueError(f"it has no variants, so nothing follows its name: {variant!r:.40}")
        return make()

    return factory


def _openai(variant: str) -> Embedder:
    """At the address in ``LIKEWISE_OPENAI_BASE_URL`` or else ``OPENAI_BASE_URL``; the keys have the same names, and are read at each request.

    A key of all programs is not sent to an address that is Likewise's alone.
    """
    own = os.environ.get("LIKEWISE_OPENAI_BASE_URL")
    names = ("LIKEWISE_OPENAI_API_KEY",) if own else ("LIKEWISE_OPENAI_API_KEY", "OPENAI_API_KEY")

    def key() -> str | None:
        return next((value for name in names if (value := os.environ.get(name))), None)

    return OpenAIEmbedder.from_variant(
        variant, base_url=own or os.environ.get("OPENAI_BASE_URL") or BASE_URL, api_key=key
    )


def _sentence_transformers(variant: str) -> Embedder:
    loading = _loading()
    return SentenceTransformersEmbedder.from_variant(variant, cache_dir=loading.cache_dir, offline=loading.offline)


def _fastembed(variant: str) -> Embedder:
    """Where ``LIKEWISE_MODEL_CACHE_DIR`` says nothing, downloads are kept where fastembed's own ``FASTEMBED_CACHE_PATH`` says."""
    loading, its = _loading(), os.environ.get("FASTEMBED_CACHE_PATH")
    cache_dir = Path(its) if its and loading.cache_dir is None else loading.cache_dir
    return FastEmbedEmbedder.from_variant(variant, cache_dir=cache_dir, offline=loading.offline)


_lock = threading.Lock()
_factories: dict[str, EmbedderFactory] = {
    "mini": MiniEmbedder.from_variant,
    "hashing": HashingEmbedder.from_variant,
    "openai": _openai,
    "minilm": _only(lambda: MiniLMEmbedder(loading=_loading())),
    "bge-small-en": _only(lambda: BgeEmbedder("small", loading=_loading())),
    "bge-base-en": _only(lambda: BgeEmbedder("base", loading=_loading())),
    "bge-m3": _only(lambda: BgeM3Embedder(loading=_loading())),
    "clip": lambda variant: ClipEmbedder.from_variant(variant, loading=_loading()),
    "jina-clip-v2": lambda variant: JinaClipEmbedder.from_variant(variant, loading=_loading()),
    "sentence-transformers": _sentence_transformers,
    "fastembed": _fastembed,
}
_loaded: dict[str, Embedder] = {}

#: Families whose models are those of another library, by what follows the colon.
OPEN_FAMILIES = {
    "fastembed": "any model of fastembed's list, by its name after the colon",
    "sentence-transformers": "any model that sentence-transformers loads, by its name after the colon",
}


@cache
def _offered() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=ENTRY_POINTS)}


def available_models() -> list[str]:
    """The families of models that can be named, in alphabetical order."""
    return sorted({*_factories, *_offered()})


def register_embedder(name: str, factory: EmbedderFactory) -> None:
    """Make a family of models available under a name in this process; a family of the same name is replaced."""
    if not name or ":" in name:
        raise InvalidArgument(f"{name!r} cannot name a family of models: it must not be empty or have a colon in it")
    with _lock:
        _factories[name] = factory
        for loaded in [n for n in _loaded if name in (n.partition(":")[0], n.partition("@")[0])]:
            del _loaded[loaded]


def load_embedder(name: str) -> Embedder:
    """The embedder of this name (``mini``, ``mini:conse``, ``hashing:64`` …), the same object each time.

    Its weights are loaded at its first use. ``ModelNotAvailable`` for an unknown name lists the known ones.
    """
    with _lock:
        if name in _loaded:
            return _loaded[name]
    # Made outside the lock: a factory may be slow, and may load other models itself. Of two made at once the first one stays.
    made = _make(name)
    with _lock:
        return _loaded.setdefault(name, made)


def _make(name: str) -> Embedder:
    family, _, variant = name.partition(":")
    if "@" in family and family not in available_models():
        # "jina-clip-v2@512": the family is what stands before the dimension.
        family, _, size = name.partition("@")
        variant = f"@{size}"
    with _lock:
        factory = _factories.get(family)
    try:
        if factory is None:
            point = _offered().get(family)
            if point is None:
                raise ModelNotAvailable(
                    f"no embedding model is called {name!r:.80}; there are: {', '.join(available_models())}. Other packages add models by "
                    f"the entry point group {ENTRY_POINTS!r}, applications with likewise.embedding.register_embedder",
                    model=name,
                )
            factory = point.load()
        return factory(variant)
    except (ValueError, ImportError, AttributeError) as error:
        if isinstance(error, LikewiseError):
            raise
        raise ModelNotAvailable(f"embedding model {name!r:.80} cannot be made: {error}", model=name) from error
