"""A picture as the numbers that CLIP and its relatives were trained on. Pure: no file and no model enters here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np
    import PIL.Image
    from numpy.typing import NDArray

__all__ = ["Preprocessing"]

#: How many times longer than wide a picture may be and still be resized as a whole.
LONG = 10


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """Shortest side to ``side`` pixels (bicubic), the middle square, (value / 255 - mean) / deviation for red, green and blue.

    The mean and deviation are those of OpenAI's CLIP; JinaCLIP and OpenCLIP took them over. Where an odd number of pixels is cut away,
    ``middle`` says on which side the odd one goes: ``"floor"`` as in transformers' CLIPImageProcessor, ``"round"`` (half to even) as in
    torchvision's CenterCrop, which OpenCLIP and JinaCLIP use.
    """

    side: int
    middle: Literal["floor", "round"]
    mean: tuple[float, float, float] = (0.48145466, 0.4578275, 0.40821073)
    deviation: tuple[float, float, float] = (0.26862954, 0.26130258, 0.27577711)

    @property
    def least_side(self) -> int:
        """How small a JPEG may be decoded: with four times the side no pixel differs by more than about 3 of 255."""
        return 4 * self.side

    def pixels(self, image: PIL.Image.Image) -> NDArray[np.float32]:
        """The picture (RGB) as float32 of shape (3, side, side), channels first."""
        import numpy as np

        values: NDArray[np.float32] = np.asarray(self._square(image), np.float32).transpose(2, 0, 1) / np.float32(255.0)
        mean, deviation = (np.asarray(of, np.float32).reshape(3, 1, 1) for of in (self.mean, self.deviation))
        return np.ascontiguousarray((values - mean) / deviation, np.float32)

    def batches(self, images: Iterable[PIL.Image.Image], size: int) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """The pictures' pixels, ``size`` of them at a time, each batch with the place of its first.

        Each picture is made small before the next is decoded, so that memory does not grow with their size or number.
        """
        import numpy as np

        remaining = iter(images)
        start = 0
        while batch := [self.pixels(image) for image in islice(remaining, size)]:
            yield start, np.stack(batch)
            start += len(batch)

    def _square(self, image: PIL.Image.Image) -> PIL.Image.Image:
        from PIL import Image

        width, height = image.size
        short, side = min(width, height), self.side
        # What the reference resizes to before it cuts; the long side is rounded down there.
        across, down = (side if size == short else int(side * size / short) for size in (width, height))
        left, top = self._cut(across), self._cut(down)
        if max(width, height) <= LONG * short:
            whole = image.resize((across, down), Image.Resampling.BICUBIC)
            return whole.crop((left, top, left + side, top + side))
        # Of a picture of 1 x 1,000,000 only the middle is computed, or it would take gigabytes.
        part = (
            left * width / across,
            top * height / down,
            (left + side) * width / across,
            (top + side) * height / down,
        )
        return image.resize((side, side), Image.Resampling.BICUBIC, box=part)

    def _cut(self, length: int) -> int:
        """How much is cut away before the middle."""
        spare = length - self.side
        return spare // 2 if self.middle == "floor" else round(spare / 2)
