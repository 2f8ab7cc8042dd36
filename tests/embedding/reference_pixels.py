"""Pictures by formula, and what the reference processors make of them, kept in ``reference_pixels.npz``.

Made by the true processors, which the tests do not need::

    python -m venv /tmp/clip && /tmp/clip/bin/pip install 'transformers<5' pillow
    python -m venv /tmp/open && /tmp/open/bin/pip install open_clip_torch pillow
    /tmp/clip/bin/python tests/embedding/reference_pixels.py transformers
    /tmp/open/bin/python tests/embedding/reference_pixels.py open_clip

``transformers`` is its ``CLIPImageProcessor`` with the settings of openai/clip-vit-base-patch32. ``open_clip`` is OpenCLIP's transform for 224
pixels, and for 512 as in the preprocessor_config.json of jinaai/jina-clip-v2 (shortest side, bicubic), whose code is taken from OpenCLIP.
Kept are every 32nd number of each channel, in both directions, and the mean and deviation of each channel.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

FILE = Path(__file__).with_suffix(".npz")
#: Wide and tall, odd and even, enlarged and made small, one pixel, and ten times as long as wide.
SIZES = (
    (640, 480),
    (481, 641),
    (224, 224),
    (512, 512),
    (225, 224),
    (224, 331),
    (100, 37),
    (1, 1),
    (3, 2),
    (1201, 801),
    (60, 600),
)
EVERY = 32


def picture(width: int, height: int) -> Image.Image:
    """Waves, edges and a fine grid, by whole numbers only, so that it is the same everywhere."""
    y, x = np.mgrid[0:height, 0:width].astype(np.int64)
    red = (x * x // 7 + 3 * y) % 256
    green = np.where((x // 5 + y // 9) % 2, 230, 20)
    blue = (x * 255 // max(1, width - 1) + y * 255 // max(1, height - 1)) // 2
    return Image.fromarray(np.stack([red, green, blue], -1).astype(np.uint8))


def summary(pixels: NDArray[Any]) -> NDArray[np.float16]:
    """What is kept of float32 pixels of shape (3, side, side): one row for each channel, its mean and deviation last."""
    some = pixels[:, ::EVERY, ::EVERY].reshape(3, -1)
    return np.concatenate([some, pixels.mean((1, 2))[:, None], pixels.std((1, 2))[:, None]], 1).astype(np.float16)


def stored() -> Mapping[str, NDArray[np.float16]]:
    with np.load(FILE) as kept:
        return dict(kept)


def _transformers() -> dict[str, Callable[[Image.Image], NDArray[Any]]]:
    processor = importlib.import_module("transformers").CLIPImageProcessor()
    # Left to itself it takes a picture of one row for one of one channel.
    given: dict[str, Any] = {"return_tensors": "np", "input_data_format": "channels_last"}
    return {"transformers-224": lambda image: processor(image, **given)["pixel_values"][0]}


def _open_clip() -> dict[str, Callable[[Image.Image], NDArray[Any]]]:
    module = importlib.import_module("open_clip")

    def transform(side: int) -> Callable[[Image.Image], NDArray[Any]]:
        made = module.image_transform(
            side,
            is_train=False,
            mean=module.OPENAI_DATASET_MEAN,
            std=module.OPENAI_DATASET_STD,
            interpolation="bicubic",
            resize_mode="shortest",
        )
        return lambda image: made(image).numpy()

    return {"open_clip-224": transform(224), "open_clip-512": transform(512)}


def main() -> None:
    kept = dict(stored()) if FILE.exists() else {}
    for name, process in {"transformers": _transformers, "open_clip": _open_clip}[sys.argv[1]]().items():
        for width, height in SIZES:
            kept[f"{name} {width}x{height}"] = summary(process(picture(width, height)))
    np.savez_compressed(FILE, **kept)  # type: ignore[arg-type]
    print(f"{FILE}: {len(kept)} pictures, {FILE.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
