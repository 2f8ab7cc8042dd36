"""ONNX Runtime: opens a model, and runs it over inputs of mixed lengths. What goes in and comes out of a model is for its family to know."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from likewise.errors import ModelNotAvailable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["by_length", "default_threads", "open_session", "run_by_length"]

#: The most tokens of a batch, padding included: attention needs memory for the square of a length, for each text of a batch.
BATCH_TOKENS = 4096


def default_threads() -> int:
    """As many as there are processors, at most four."""
    return min(4, os.cpu_count() or 1)


def open_session(source: Path | bytes, *, threads: int | None, model: str) -> Any:
    """An ``onnxruntime.InferenceSession`` of a model's file, or of its bytes; on a GPU where the runtime at hand has one.

    A file whose weights lie in others beside it must be given by its path. ``ModelNotAvailable`` if it is damaged.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or default_threads()
    options.log_severity_level = 3
    # Threads that wait for each other in a loop win a little on an idle machine, and double the time on one that is shared with a database.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    offered = onnxruntime.get_available_providers()
    providers = [name for name in ("CUDAExecutionProvider", "CPUExecutionProvider") if name in offered]
    try:
        return onnxruntime.InferenceSession(
            source if isinstance(source, bytes) else os.fspath(source), options, providers=providers
        )
    except Exception as error:
        hint = f"fetch the model again with: likewise models pull {model}"
        if "escapes model directory" in str(error):
            hint = "its weights are links to other folders, which ONNX Runtime does not follow: copy the folder with cp -rL"
        what = "the ONNX model" if isinstance(source, bytes) else str(source)
        raise ModelNotAvailable(
            f"{what} of {model} cannot be opened by ONNX Runtime: it is damaged, or made for a newer version ({type(error).__name__}: "
            f"{error!s:.300}); {hint}",
            model=model,
        ) from error


def by_length(
    lengths: Sequence[int], batch: int, *, spread: float = 0.0, batch_tokens: int = BATCH_TOKENS
) -> list[list[int]]:
    """The places of the inputs, in batches of equal lengths, the shortest first.

    A batch has at most ``batch`` inputs, and at most ``batch_tokens`` tokens unless it is a single one. With ``spread`` lengths may differ
    by that part of the shortest: 0.1 puts 100 with 110. What is shorter is then padded, which the model must be told by its mask.
    """
    batches: list[list[int]] = []
    shortest = 0
    for place in sorted(range(len(lengths)), key=lambda i: lengths[i]):
        length = lengths[place]
        full = not batches or len(batches[-1]) >= batch or (len(batches[-1]) + 1) * length > batch_tokens
        if full or length > shortest * (1 + spread):
            batches.append([])
            shortest = length
        batches[-1].append(place)
    return batches


def run_by_length(
    lengths: Sequence[int],
    batch: int,
    run: Callable[[list[int]], NDArray[np.float32]],
    *,
    dimension: int,
    spread: float = 0.0,
) -> NDArray[np.float32]:
    """What ``run`` gives for each input: float32 of shape (len(lengths), dimension), rows in the order of ``lengths``.

    ``run`` is given the places of a batch of near lengths (see ``by_length``) and gives one row for each of them, in that order.
    """
    import numpy as np

    result = np.empty((len(lengths), dimension), np.float32)
    for places in by_length(lengths, batch, spread=spread):
        result[places] = run(places)
    return result
