"""Pictures from anywhere, hostile ones too, become RGB or one clear error."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import pytest
from PIL import Image

from likewise import InvalidArgument
from likewise.embedding.images import decode_image


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


RED = Image.new("RGB", (40, 20), (250, 10, 10))


def nearly(pixel: object, colour: tuple[int, int, int]) -> bool:
    assert isinstance(pixel, tuple)
    return all(abs(a - b) < 12 for a, b in zip(pixel, colour, strict=True))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF"])
def test_formats_are_told_by_content(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "wrong.suffix"
    path.write_bytes(encoded(RED, kind))
    for source in (path, str(path), path.read_bytes(), bytearray(path.read_bytes()), RED):
        image = decode_image(source)  # type: ignore[arg-type]
        assert image.mode == "RGB"
        assert nearly(image.getpixel((5, 5)), (250, 10, 10))


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGBA", "LA", "CMYK", "I;16", "I", "F"])
def test_every_mode_becomes_rgb(mode: str) -> None:
    image = RED.convert("L").convert("I").convert(mode) if mode in ("I;16", "I", "F") else RED.convert(mode)
    kind = {"CMYK": "JPEG", "F": "TIFF", "I": "TIFF", "I;16": "PNG"}.get(mode, "PNG")
    assert decode_image(encoded(image, kind)).mode == "RGB"
    assert decode_image(image).mode == "RGB"


def test_transparency_lies_on_white() -> None:
    clear = Image.new("RGBA", (10, 10), (0, 0, 0, 0))
    assert decode_image(encoded(clear, "PNG")).getpixel((3, 3)) == (255, 255, 255)


def test_the_exif_orientation_is_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(RED, "JPEG", exif=exif)
    assert decode_image(data).size == (20, 40)
    with Image.open(io.BytesIO(data)) as opened:
        assert decode_image(opened).size == (20, 40), "the same from an image of Pillow's"


def test_pillow_images_are_held_to_the_same_limits() -> None:
    with pytest.raises(InvalidArgument, match="pixels"):
        decode_image(RED, max_pixels=100)
    with (
        Image.open(io.BytesIO(encoded(RED.resize((900, 900)), "PNG")[:1500])) as truncated,
        pytest.raises(InvalidArgument, match="damaged"),
    ):
        decode_image(truncated)


def test_an_animation_gives_its_first_frame() -> None:
    frames = [Image.new("RGB", (10, 10), colour) for colour in ("red", "blue", "green")]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert nearly(decode_image(data).getpixel((5, 5)), (255, 0, 0))


def png_bomb(width: int, height: int) -> bytes:
    """A PNG whose header claims a size that it does not have."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", "empty"),
        (b"just text", "not a picture"),
        (encoded(RED, "JPEG")[:300], "damaged|not a picture"),
        (encoded(RED, "PNG")[:60], "damaged|not a picture"),
        (encoded(RED, "TIFF")[:90], "damaged|not a picture"),
        (png_bomb(20_000, 20_000), "pixels"),
        (png_bomb(60_000, 60_000), "pixels"),
        (b"%PDF-1.4 not here", "not a picture"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not a picture"),
    ],
)
def test_hostile_bytes_are_refused_by_name(data: bytes, complaint: str) -> None:
    with pytest.raises(InvalidArgument, match=complaint) as caught:
        decode_image(data, what="picture 7")
    assert str(caught.value).startswith("picture 7")


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    for source in (tmp_path / "absent.jpg", tmp_path, "nul\0byte"):
        with pytest.raises(InvalidArgument, match="cannot be read"):
            decode_image(source)
    big = tmp_path / "big.jpg"
    big.write_bytes(b"x" * 2_000)
    with pytest.raises(InvalidArgument, match="bytes; at most"):
        decode_image(big, max_bytes=1_000)
    with pytest.raises(InvalidArgument, match="is a int"):
        decode_image(5)  # type: ignore[arg-type]
