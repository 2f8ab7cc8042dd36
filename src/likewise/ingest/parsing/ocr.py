"""The text in pictures, by RapidOCR (the extra ``ocr``), whose models come with its package: nothing is downloaded.

A picture is brought to a size that the models read well and that bounds their memory, read once, and turned where what was read
makes little sense. What is read where is for layout.py to put in order.
"""

from __future__ import annotations

import functools
import importlib.util
import io
import math
import os
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from likewise.errors import OptionalDependencyError
from likewise.ingest.parsing.layout import Line, in_reading_order
from likewise.ingest.parsing.parsed import Limits, Unreadable
from likewise.ingest.parsing.rendering import draw_page

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["check_installed", "read_image", "read_page", "read_picture"]

#: Dots an inch at which a page is drawn, and the pixels of what is read: A4 has 170 dots an inch then. More take more memory and
#: time, and letters of seven points are read without a mistake with so many.
DPI, MOST_PIXELS = 200, 2_800_000
#: Small pictures are enlarged until their shorter side has this many pixels, but no more than so many times.
_SHORTEST, _ENLARGED = 736, 2.0
#: A strip is padded until it is at most this many times as long as it is wide: the models see a picture's shorter side.
_STRIP = 8
#: Readings with a mean score above this are taken as they are. A page that stands on its head has about 0.6.
_GOOD = 0.85
_THREADS = 4
#: Letters and digits that a picture with text has: one alone is what the models see in a ball or a leaf.
_FEWEST = 2
#: What Pillow raises at what it does not expect.
_BROKEN = (
    OSError,
    ValueError,
    SyntaxError,
    LookupError,
    TypeError,
    ArithmeticError,
    EOFError,
    struct.error,
    zlib.error,
)


def check_installed() -> None:
    """``OptionalDependencyError``, naming the extra, where RapidOCR is not installed. Nothing is imported."""
    if importlib.util.find_spec("rapidocr") is None:
        raise OptionalDependencyError("rapidocr", extra="ocr")


def read_page(page: Any) -> str:
    """The text of a page of ``pypdfium2`` that is a picture."""
    return read_image(draw_page(page, dpi=DPI, most_pixels=MOST_PIXELS))


def read_picture(data: bytes, limits: Limits) -> Iterator[str]:
    """The text of each page of a picture: one, but for TIFF, which may have many. ``Unreadable`` if it is damaged, or has too many pixels or pages."""
    for picture in _pages(data, limits):
        yield read_image(picture)


def _pages(data: bytes, limits: Limits) -> Iterator[Image.Image]:
    """The pages of a picture, decoded one at a time, as they are to be shown."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of sizes: what is too large is refused below
            with Image.open(io.BytesIO(data)) as file:
                count = getattr(file, "n_frames", 1) if file.format == "TIFF" else 1
                if count > limits.scans:
                    raise Unreadable(
                        f"the picture has {count:,} pages, at most {limits.scans:,} are read: split it", stage="parsing"
                    )
                for number in range(count):
                    file.seek(number)
                    if file.width * file.height > limits.pixels:
                        raise Unreadable(
                            f"the picture has {file.width:,} x {file.height:,} pixels, at most {limits.pixels:,} in all are "
                            "decoded for recognition: scale it down",
                            stage="parsing",
                        )
                    file.draft("RGB", (4_000, 4_000))  # JPEG is decoded at a fraction of its size
                    yield _flat(ImageOps.exif_transpose(file))
    except Image.DecompressionBombError as error:
        raise Unreadable(f"the picture is refused as a decompression bomb ({error})", stage="parsing") from error
    except (UnidentifiedImageError, *_BROKEN) as error:
        raise Unreadable(f"the picture is damaged ({error})", stage="parsing") from error


def _flat(picture: Image.Image) -> Image.Image:
    """In RGB, on white where it is transparent."""
    from PIL import Image

    if picture.mode.startswith("I;16"):
        return picture.point(lambda value: value / 256).convert("L").convert("RGB")
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    picture = picture.convert("RGBA")
    white = Image.new("RGBA", picture.size, "white")
    return Image.alpha_composite(white, picture).convert("RGB")


def read_image(picture: Image.Image) -> str:
    """What is written in a picture (RGB), in the order of reading; empty where nothing is. ``OptionalDependencyError`` without the extra."""
    engine = _engine()
    canvas = _fit(picture)
    lines, score = _read(engine, canvas)
    # Pieces that are taller than long lie on their side. Each is turned before it is read, so their score says nothing of that.
    upright = sum(line.right - line.left >= line.height for line in lines) * 2 >= len(lines)
    if not lines or (upright and score >= _GOOD):
        return in_reading_order(lines)
    best = (score, lines)
    for angle in (180,) if upright else (90, 270):
        lines, score = _read(engine, canvas.rotate(angle, expand=True))
        if score >= _GOOD:
            return in_reading_order(lines)
        best = max(best, (score, lines), key=lambda found: found[0])
    return in_reading_order(best[1])


def _fit(picture: Image.Image) -> Image.Image:
    """The picture in the size that is read, on a white ground where it is a strip."""
    from PIL import Image

    width, height = picture.size
    ground = (max(width, -(-height // _STRIP)), max(height, -(-width // _STRIP)))
    scale = min(
        max(1.0, min(_ENLARGED, _SHORTEST / min(ground))),
        math.sqrt(MOST_PIXELS / (ground[0] * ground[1])),
    )
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    if size != picture.size:
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    canvas = Image.new("RGB", (max(size[0], round(ground[0] * scale)), max(size[1], round(ground[1] * scale))), "white")
    canvas.paste(picture, ((canvas.width - size[0]) // 2, (canvas.height - size[1]) // 2))
    return canvas


def _read(engine: Callable[[Any], Any], picture: Image.Image) -> tuple[list[Line], float]:
    """The pieces of text, and the mean of their scores (0 to 1), longer ones counting more; 0 for none."""
    import numpy as np

    try:
        found = engine(np.asarray(picture)[:, :, ::-1])  # BGR, as OpenCV has it
    except MemoryError:
        raise
    except Exception as error:
        if "alloc" in str(error).lower():  # of ONNX Runtime and OpenCV, which have no error of their own for it
            raise MemoryError from error
        raise Unreadable(
            f"the text in its pictures cannot be read ({type(error).__name__}: {str(error).strip()[-200:]})",
            stage="parsing",
        ) from error
    if found.boxes is None or found.txts is None or found.scores is None:
        return [], 0.0
    if sum(c.isalnum() for text in found.txts for c in text) < _FEWEST:
        return [], 0.0
    lines: list[Line] = []
    total = weight = 0.0
    for box, text, score in zip(found.boxes, found.txts, found.scores, strict=True):
        (left, top), (right, bottom) = np.min(box, axis=0), np.max(box, axis=0)
        if text.strip():
            lines.append(Line(float(left), float(top), float(right), float(bottom), " ".join(text.split())))
            total, weight = total + float(score) * len(text), weight + len(text)
    return lines, total / weight if weight else 0.0


@functools.cache
def _engine() -> Callable[[Any], Any]:
    """The reader, with its models, once a process."""
    try:
        import cv2
        import rapidocr
    except ImportError as error:
        check_installed()
        raise Unreadable(
            f"the package that reads text in pictures cannot be loaded ({error}): it may have been given too little memory",
            stage="parsing",
        ) from error
    cv2.setNumThreads(1)
    models = Path(str(rapidocr.__file__)).parent / "models"
    threads = max(1, min(_THREADS, os.cpu_count() or 1))
    engine: Callable[[Any], Any] = rapidocr.RapidOCR(
        params={
            "Global.log_level": "critical",
            # Sizes are ours, so is turning: of single lines it turns too many that stand upright.
            "Global.use_preprocess_img": False,
            "Global.use_vertical_padding": False,
            "Global.use_cls": False,
            "Det.limit_type": "max",
            "Det.limit_side_len": MOST_PIXELS,
            # By their files: asked for by name, models that are missing would be downloaded.
            "Det.model_path": str(_model(models, "det")),
            "Rec.model_path": str(_model(models, "rec")),
            "EngineConfig.onnxruntime.intra_op_num_threads": threads,
            "EngineConfig.onnxruntime.inter_op_num_threads": 1,
        }
    )
    return engine


def _model(folder: Path, task: str) -> Path:
    """The package's model for this task: the first by name, should it bring several."""
    found = sorted(folder.glob(f"*_{task}_*.onnx"))
    if not found:
        raise OptionalDependencyError(f"a version of rapidocr that brings its models ({task} is missing)", extra="ocr")
    return found[0]
