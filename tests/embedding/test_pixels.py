"""Pictures become the numbers that the reference processors make of them; how the numbers were got is in ``reference_pixels``."""

from __future__ import annotations

import io
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from PIL import Image

from likewise.embedding._pixels import Preprocessing
from likewise.embedding.images import decode_image

from .reference_pixels import SIZES, picture, stored, summary

PROCESSORS = {
    "transformers-224": Preprocessing(224, "floor"),
    "open_clip-224": Preprocessing(224, "round"),
    "open_clip-512": Preprocessing(512, "round"),
}
#: One step of 255 of the channel that is stretched most; versions of Pillow may round differently.
ONE_STEP = 1 / 255 / 0.26


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("name", PROCESSORS)
def test_pixels_are_those_of_the_reference(name: str, size: tuple[int, int]) -> None:
    pixels = PROCESSORS[name].pixels(picture(*size))
    side = PROCESSORS[name].side
    assert pixels.shape == (3, side, side)
    assert pixels.dtype == np.float32
    difference = np.abs(np.float32(summary(pixels)) - stored()[f"{name} {size[0]}x{size[1]}"])
    assert difference.max() <= 1.01 * ONE_STEP
    assert (difference > ONE_STEP / 2).mean() < 0.01, "hardly any number differs at all"


def test_where_the_odd_pixel_is_cut_off_is_seen() -> None:
    """The comparison would notice a shift by one pixel: the two references differ where an odd number is cut off."""
    one, other = (stored()[f"{name}-224 224x331"] for name in ("transformers", "open_clip"))
    assert np.abs(one - other).max() > 10 * ONE_STEP


@pytest.mark.parametrize("name", ["transformers-224", "open_clip-512"])
def test_a_jpeg_decoded_small_gives_nearly_the_same(name: str) -> None:
    """A large JPEG is decoded at a fraction of its size; the numbers stay within a few of 255 steps."""
    preprocessing = PROCESSORS[name]
    smooth = picture(80, 60).resize((4608, 3456), Image.Resampling.BICUBIC)
    fine = Image.blend(smooth, picture(4608, 3456), 0.2)
    out = io.BytesIO()
    fine.save(out, "JPEG", quality=90)
    data = out.getvalue()
    small = decode_image(data, least_side=preprocessing.least_side)
    with Image.open(io.BytesIO(data)) as opened:
        whole = opened.convert("RGB")
    if name == "transformers-224":
        assert small.size == (1152, 864) or small.size == (2304, 1728)
    assert min(small.size) >= preprocessing.least_side or small.size == whole.size
    steps = np.abs(preprocessing.pixels(small) - preprocessing.pixels(whole)) / ONE_STEP
    assert steps.max() < 8
    assert steps.mean() < 1


def test_a_very_long_picture_takes_no_more_room_than_another() -> None:
    """1 x 2,000,000 resized as a whole would be 224 x 448,000,000 pixels."""
    program = (
        "import resource\n"
        "from PIL import Image\n"
        "from likewise.embedding._pixels import Preprocessing\n"
        "def pixels(size): return Preprocessing(224, 'floor').pixels(Image.new('RGB', size, (200, 100, 50)))\n"
        "short = pixels((1, 1))\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "for size in ((1, 2_000_000), (2_000_000, 1)):\n"
        "    assert abs(pixels(size) - short).max() < 0.02\n"
        "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / (1024 if __import__('sys').platform == 'linux' else 2**20))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 100, "megabytes"


@pytest.mark.parametrize("size", [(40, 441), (441, 40)])
def test_the_middle_of_a_long_picture_is_the_middle_of_the_whole(size: tuple[int, int]) -> None:
    """More than ten times as long as wide only the middle is computed: the same up to rounding as cutting it from the whole."""
    preprocessing = Preprocessing(224, "floor")
    smooth = picture(9, 9).resize(size, Image.Resampling.BICUBIC)
    long = int(224 * 441 / 40)
    whole = smooth.resize((224, long) if size[0] < size[1] else (long, 224), Image.Resampling.BICUBIC)
    left, top = (0, (long - 224) // 2) if size[0] < size[1] else ((long - 224) // 2, 0)
    expected = preprocessing.pixels(whole.crop((left, top, left + 224, top + 224)))
    assert np.abs(preprocessing.pixels(smooth) - expected).max() < 3.1 * ONE_STEP


def test_batches_keep_order_and_hold_no_more_than_they_need() -> None:
    preprocessing = Preprocessing(224, "floor")
    colours = [(10 * i, 0, 0) for i in range(5)]
    seen = list(preprocessing.batches((Image.new("RGB", (30, 30), colour) for colour in colours), 2))
    assert [(start, len(pixels)) for start, pixels in seen] == [(0, 2), (2, 2), (4, 1)]
    reds = np.concatenate([pixels[:, 0, 0, 0] for _, pixels in seen])
    assert (np.diff(reds) > 0).all()
    tracemalloc.start()
    for _ in preprocessing.batches((Image.new("RGB", (30, 30), colour) for colour in colours * 40), 2):
        pass
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 10 * 3 * 224 * 224 * 4, "two hundred pictures, two at a time"
