"""Checks texts before a model sees them, the same for every family."""

from __future__ import annotations

from collections.abc import Sequence

from likewise.errors import InvalidArgument

__all__ = ["check_texts"]


def check_texts(texts: Sequence[str]) -> Sequence[str]:
    """The texts; ``InvalidArgument`` names the position of what is not text, or not valid Unicode."""
    if isinstance(texts, str):
        raise InvalidArgument("expected a list of texts, got one text: put it in a list")
    for position, text in enumerate(texts):
        if not isinstance(text, str):
            raise InvalidArgument(f"text {position} is a {type(text).__name__}; texts are str", position=position)
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise InvalidArgument(
                f"text {position} has a lone surrogate at character {error.start}; it is not valid Unicode",
                position=position,
            ) from error
    return texts
