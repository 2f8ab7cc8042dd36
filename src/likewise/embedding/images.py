"""Pictures from anywhere to plain RGB: told by their content, bounded in size, turned upright. No model enters here.

A picture is attacker's ground: only six formats are opened, the number of pixels is read from the header before anything is decoded, and
what Pillow finds wrong comes out as one error that names the picture.
"""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from likewise.abc.embedder import ImageInput
from likewise.errors import InvalidArgument

if TYPE_CHECKING:
    import PIL.Image

__all__ = ["FORMATS", "MAX_BYTES", "MAX_PIXELS", "decode_image", "decode_images"]

FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF")
MAX_PIXELS = 50_000_000
MAX_BYTES = 64 * 1024 * 1024
LEAST_SIDE = 512


def decode_images(images: Sequence[ImageInput], *, least_side: int = LEAST_SIDE) -> Iterator[PIL.Image.Image]:
    """Each of the pictures in RGB, one at a time; ``InvalidArgument`` names the position of one that cannot be used."""
    if isinstance(images, str | bytes | os.PathLike):
        raise InvalidArgument("expected a list of pictures, got one: put it in a list")
    return _decoded(images, least_side)


def _decoded(images: Sequence[ImageInput], least_side: int) -> Iterator[PIL.Image.Image]:
    for position, image in enumerate(images):
        try:
            picture = decode_image(image, what=f"picture {position}", least_side=least_side)
        except InvalidArgument as error:
            error.position = position
            raise
        yield picture


def decode_image(
    source: ImageInput,
    *,
    what: str = "picture",
    max_pixels: int = MAX_PIXELS,
    max_bytes: int = MAX_BYTES,
    least_side: int = LEAST_SIDE,
) -> PIL.Image.Image:
    """The picture in RGB, upright, transparent parts on white; of an animation the first frame.

    ``source`` is a path, a file's bytes or a Pillow image; ``what`` names it in errors. A JPEG may come out at a half, a quarter or an
    eighth of its size, as long as both sides have ``least_side`` pixels: that is faster, and takes less memory. ``InvalidArgument`` if the
    picture cannot be read, is none of ``FORMATS``, or has more than ``max_pixels`` or ``max_bytes``.
    """
    from PIL import Image, UnidentifiedImageError

    if isinstance(source, str | os.PathLike):
        path = Path(source)
        # A name that is not valid Unicode must not break whoever prints the error.
        what = f"{what} ({str(path).encode('utf-8', 'backslashreplace').decode()})"
        try:
            size = path.stat().st_size
            data = path.read_bytes() if size <= max_bytes else b""
        except (OSError, ValueError) as error:
            raise InvalidArgument(f"{what} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    elif isinstance(source, bytes | bytearray | memoryview):
        data = bytes(source)
        size = len(data)
    elif isinstance(source, Image.Image):
        data, size = b"", 1
    else:
        raise InvalidArgument(f"{what} is a {type(source).__name__}; give a path, a file's bytes or a Pillow image")
    if size > max_bytes:
        raise InvalidArgument(f"{what} has {size:,} bytes; at most {max_bytes:,} are read")
    if not size:
        raise InvalidArgument(f"{what} is empty: it has no bytes")
    try:
        with warnings.catch_warnings():
            # Pillow warns of sizes that we judge ourselves, and of damaged metadata that we do not use.
            warnings.simplefilter("ignore")
            if isinstance(source, Image.Image):
                return _upright(source, what, max_pixels)
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                return _upright(image, what, max_pixels, shrink_to=least_side)
    except InvalidArgument:
        raise
    except UnidentifiedImageError as error:
        raise InvalidArgument(f"{what} is not a picture in one of the formats {', '.join(FORMATS)}") from error
    except Image.DecompressionBombError as error:
        raise InvalidArgument(
            f"{what} has too many pixels; at most {max_pixels:,} are decoded: make it smaller"
        ) from error
    except (
        OSError,
        ValueError,
        SyntaxError,
        EOFError,
        IndexError,
        KeyError,
        TypeError,
        ArithmeticError,
        MemoryError,
    ) as error:
        # What Pillow's decoders raise for damaged files is not one class.
        raise InvalidArgument(f"{what} is damaged and cannot be decoded: {error}") from error


def _upright(image: PIL.Image.Image, what: str, max_pixels: int, *, shrink_to: int | None = None) -> PIL.Image.Image:
    from PIL import ImageOps

    if image.width * image.height > max_pixels:
        raise InvalidArgument(
            f"{what} is {image.width:,} x {image.height:,} pixels; at most {max_pixels:,} in all are decoded: make it smaller"
        )
    if shrink_to is not None:
        image.draft("RGB", (shrink_to, shrink_to))
    image.load()
    return _flatten(ImageOps.exif_transpose(image))


def _flatten(image: PIL.Image.Image) -> PIL.Image.Image:
    """The picture in RGB, eight bits a channel, transparency on white."""
    from PIL import Image

    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        # Sixteen bits and more: scaled by the range in use, since the type does not say what white is.
        low, high = (float(v) for v in image.convert("F").getextrema())  # type: ignore[arg-type]
        high = 65_535.0 if image.mode.startswith("I;16") else max(high, low + 1.0)
        low = 0.0 if image.mode.startswith("I;16") else low
        return image.convert("F").point(lambda v: (v - low) * (255.0 / (high - low))).convert("L").convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB") if image.mode != "RGB" else image.copy()
