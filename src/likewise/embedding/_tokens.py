"""Opens a model's tokenizer.json."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from likewise.errors import ModelNotAvailable

__all__ = ["open_tokenizer"]


def open_tokenizer(path: Path, *, max_tokens: int, model: str) -> Any:
    """A ``tokenizers.Tokenizer`` that cuts texts after ``max_tokens`` tokens, special ones included, and does not pad.

    ``ModelNotAvailable`` if the file is none.
    """
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_str(path.read_text("utf-8"))
    except Exception as error:
        raise ModelNotAvailable(
            f"the tokenizer {path} of {model} cannot be read: it is damaged ({error!s:.200})", model=model
        ) from error
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_tokens)
    return tokenizer
