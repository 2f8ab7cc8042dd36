"""Languages: the tags that documents state, and of a text whose document states none, by ``py3langid`` (the extra ``ingest``), where it is sure."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable

__all__ = ["detect_language", "language_tag"]

#: Characters that are looked at: more tells no more.
_LOOKED_AT = 10_000
#: Letters that a text must have: of fewer, names and codes are taken for rare languages.
_FEWEST_LETTERS = 60
#: A letter of scripts that write syllables or words (Chinese, Japanese, Korean) tells as much as this many others.
_SYLLABLES_FROM, _SYLLABLE = "\u2e80", 3
_SURE = 0.8
_TAG = re.compile(r"[A-Za-z]{2,3}(?:-[A-Za-z0-9]{1,8}){0,8}")
#: Not languages: not linguistic, undetermined.
_NONE = frozenset({"zxx", "und"})


def language_tag(stated: str | None) -> str | None:
    """What a document states as a tag of BCP 47 (``en-US`` for ``en_US``), or None where it is none: ``x-none``, ``English``, two of them."""
    tag = (stated or "").strip().replace("_", "-")
    return tag if _TAG.fullmatch(tag) else None


def detect_language(text: str) -> str | None:
    """The language of a text as a tag of BCP 47 (``de``), or None: too short, not sure, or the package is not installed.

    At least 60 letters (20 of Chinese, Japanese or Korean) are asked for, and a probability of 0.8. The first 10,000 characters decide.
    """
    head = text[:_LOOKED_AT]
    letters = sum((_SYLLABLE if c >= _SYLLABLES_FROM else 1) for c in head if c.isalpha())
    if letters < _FEWEST_LETTERS:
        return None
    classify = _classifier()
    if classify is None:
        return None
    language, probability = classify(head)
    return language if probability >= _SURE and language not in _NONE else None


@functools.cache
def _classifier() -> Callable[[str], tuple[str, float]] | None:
    try:
        from py3langid.langid import LanguageIdentifier

        # Not the module's own function, whose scores are no probabilities.
        identifier = LanguageIdentifier.from_model_file("data/model.npz.xz", norm_probs=True)
    except (ImportError, MemoryError):  # a small limit of memory is no reason to lose the document
        return None

    def classify(text: str) -> tuple[str, float]:
        language, probability = identifier.classify(text)
        return str(language), float(probability)

    return classify
