"""CLIP on PyTorch, by open_clip: for those who have a GPU, or PyTorch already. The only place that knows torch for pictures."""

from __future__ import annotations

import importlib
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from likewise.errors import ModelNotAvailable, OptionalDependencyError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["TorchTowers", "check_installed"]


def check_installed() -> None:
    """``OptionalDependencyError`` if open_clip or torch is not installed."""
    for module, package in (("torch", "torch"), ("open_clip", "open_clip_torch")):
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise OptionalDependencyError(package, extra="clip-torch") from error


class TorchTowers:
    """Both towers of a CLIP that open_clip knows by its ``architecture``, with the weights of a safetensors file."""

    def __init__(self, path: Path, architecture: str, *, tokens: int, model: str) -> None:
        self._path = path
        self._architecture = architecture
        self._tokens = tokens
        self._name = model
        self._lock = threading.Lock()
        self._model: Any = None

    def warm_up(self) -> None:
        self._loaded()

    def texts(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        import numpy as np

        rows = np.zeros((len(ids), self._tokens), np.int64)
        rows[:, : ids.shape[1]] = ids
        return self._run("encode_text", rows)

    def images(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        return self._run("encode_image", pixels)

    def _run(self, method: str, values: NDArray[Any]) -> NDArray[np.float32]:
        import numpy as np

        torch = importlib.import_module("torch")
        model, device = self._loaded()
        with torch.inference_mode():
            rows = getattr(model, method)(torch.from_numpy(values).to(device))
            return np.asarray(rows.float().cpu().numpy(), np.float32)

    def _loaded(self) -> tuple[Any, str]:
        torch = importlib.import_module("torch")
        device = "cuda" if torch.cuda.is_available() else "cpu"
        with self._lock:
            if self._model is None:
                open_clip = importlib.import_module("open_clip")
                try:
                    model = open_clip.create_model(self._architecture, pretrained=str(self._path), device=device)
                except Exception as error:
                    raise ModelNotAvailable(
                        f"{self._path} of {self._name} cannot be loaded as {self._architecture}: it is damaged, or not its weights "
                        f"({type(error).__name__}: {error!s:.300})",
                        model=self._name,
                    ) from error
                self._model = model.eval()
            return self._model, device
