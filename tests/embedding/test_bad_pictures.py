"""Pictures as people have them, and as attackers make them, given to every family: one clear error with the position, or the right vector."""

from __future__ import annotations

import asyncio
import io
import os
import subprocess
import sys
import threading
import time
import zlib
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

import likewise
from likewise import CollectionSpec, Embedder, InvalidArgument, Record, UnsupportedFeature
from likewise.embedding import OpenAIEmbedder, images, load_embedder, register_embedder
from likewise.embedding.images import decode_image

from . import tiny_clip
from .reference_pixels import picture
from .tiny_clip import Array

FAMILIES = ("mini", "mini:conse", "hashing", "clip", "clip:laion2b", "jina-clip-v2", "jina-clip-v2@64")
GOOD = picture(120, 90)
#: Smooth, so that what compression and conversion lose is little.
SMOOTH = picture(6, 5).resize((160, 120), Image.Resampling.BICUBIC)


@cache
def embedder_of(family: str) -> Embedder:
    return load_embedder(family) if family.startswith(("mini", "hashing")) else tiny_clip.embedder(family)


@pytest.fixture(params=FAMILIES)
def embedder(request: pytest.FixtureRequest) -> Embedder:
    return embedder_of(request.param)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def vector(embedder: Embedder, source: object) -> Array:
    rows = embedder.embed_images([source])  # type: ignore[list-item]
    assert rows.shape == (1, embedder.card.dimension)
    assert abs(float(np.linalg.norm(rows[0])) - 1) < 1e-3
    return np.asarray(rows[0])


def png_of_white(width: int, height: int) -> bytes:
    """A whole PNG of one bit a pixel, a few kilobytes for any size; its rows are compressed without holding them all."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    packer, row = zlib.compressobj(9), b"\0" + b"\xff" * ((width + 7) // 8)
    body = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([1, 0, 0, 0, 0])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


# --- refused ------------------------------------------------------------------------------------------------------------------------


def half(data: bytes) -> bytes:
    return data[: len(data) // 2]


REFUSED = {
    "a JPEG cut off in its data": (half(encoded(picture(400, 300), "JPEG")), "damaged"),
    "a JPEG cut off in its header": (encoded(GOOD, "JPEG")[:120], "damaged|not a picture"),
    "a PNG cut off": (half(encoded(GOOD, "PNG")), "damaged"),
    "a GIF cut off": (half(encoded(GOOD, "GIF")), "damaged|not a picture"),
    "a WebP cut off": (half(encoded(GOOD, "WEBP", lossless=True)), "damaged|not a picture"),
    "a PNG of 20,000 x 20,000": (png_of_white(20_000, 20_000), "too many pixels"),
    "a PNG of 8,000 x 8,000": (png_of_white(8_000, 8_000), "8,000 x 8,000 pixels"),
    "a text": (b"This is not a picture.\n", "not a picture"),
    "a web page": (b"<!doctype html><title>404</title>", "not a picture"),
    "a drawing in SVG": (
        b"<svg xmlns='http://www.w3.org/2000/svg'><rect width='9' height='9'/></svg>",
        "not a picture",
    ),
    "a program in PostScript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a picture"),
    "an icon": (encoded(GOOD.resize((32, 32)), "ICO"), "not a picture"),
    "nothing": (b"", "empty"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_picture_is_named_by_its_position(embedder: Embedder, case: str, tmp_path: Path) -> None:
    data, complaint = REFUSED[case]
    file = tmp_path / "holiday.jpg"
    file.write_bytes(data)
    for source in (data, file, str(file)):
        with pytest.raises(InvalidArgument, match=complaint) as caught:
            embedder.embed_images([GOOD, GOOD, source])
        assert str(caught.value).startswith("picture 2")
    assert "holiday.jpg" in str(caught.value)


def test_a_bomb_is_refused_before_it_takes_memory(tmp_path: Path) -> None:
    """400 million pixels in a file of kilobytes; decoded as RGB they would take 1.2 gigabytes."""
    bomb = tmp_path / "bomb.png"
    bomb.write_bytes(png_of_white(20_000, 20_000))
    assert bomb.stat().st_size < 100_000
    program = (
        "import resource, sys\n"
        "from likewise import InvalidArgument\n"
        "from likewise.embedding import load_embedder\n"
        "embedder = load_embedder('hashing')\n"
        "embedder.embed_images([sys.argv[2]])\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try: embedder.embed_images([sys.argv[1]])\n"
        "except InvalidArgument: print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)\n"
    )
    harmless = tmp_path / "small.png"
    harmless.write_bytes(png_of_white(100, 100))
    done = subprocess.run([sys.executable, "-c", program, bomb, harmless], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 30, "megabytes"


def test_other_things_than_pictures(embedder: Embedder, tmp_path: Path) -> None:
    for source, complaint in (
        (5, "picture 1 is a int"),
        (None, "picture 1 is a NoneType"),
        ("a red dress", "picture 1 .*a red dress.* cannot be read"),
        (tmp_path, "picture 1 .* cannot be read"),
        (tmp_path / "absent.png", "picture 1 .*absent.png.* cannot be read: No such file"),
        ("nul\0byte.png", "picture 1 .* cannot be read"),
    ):
        with pytest.raises(InvalidArgument, match=complaint):
            embedder.embed_images([GOOD, source])  # type: ignore[list-item]
    for one in (encoded(GOOD, "PNG"), "a.png", Path("a.png")):
        with pytest.raises(InvalidArgument, match="list of pictures"):
            embedder.embed_images(one)  # type: ignore[arg-type]


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="file names are Unicode there")
def test_a_name_that_is_not_unicode(embedder: Embedder, tmp_path: Path) -> None:
    name = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9-\xff.png")
    with pytest.raises(InvalidArgument, match=r"picture 0 .*caf\\udce9-\\udcff\.png.* cannot be read") as caught:
        embedder.embed_images([name])
    str(caught.value).encode("utf-8")
    Path(name).write_bytes(b"no picture")
    with pytest.raises(InvalidArgument, match="not a picture") as caught:
        embedder.embed_images([name])
    str(caught.value).encode("utf-8")
    GOOD.save(name)
    assert np.allclose(vector(embedder, name), vector(embedder, GOOD), atol=1e-5)


def test_pictures_are_not_texts_nor_texts_pictures(embedder: Embedder) -> None:
    for source, kind in ((encoded(GOOD, "PNG"), "bytes"), (GOOD, "Image")):
        with pytest.raises(InvalidArgument, match=f"text 1 is a {kind}"):
            embedder.embed_texts(["a", source])  # type: ignore[list-item]
    with pytest.raises(InvalidArgument, match="picture 0"):
        embedder.embed_images(["the ferry leaves at noon"])


def test_a_model_of_texts_says_that_it_takes_no_pictures() -> None:
    embedder = OpenAIEmbedder("text-embedding-3-small", api_key="sk-none")
    with pytest.raises(UnsupportedFeature, match="embedding pictures"):
        embedder.embed_images([GOOD])
    embedder.close()


# --- embedded as they should be -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_a_turned_picture_has_the_vector_of_the_upright_one(embedder: Embedder, orientation: int, kind: str) -> None:
    """Stored as the camera held it, with the tag that says how to turn it."""
    turned = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]
    stored = GOOD if turned is None else GOOD.transpose(turned)
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(stored, kind, exif=exif)
    assert np.allclose(vector(embedder, data), vector(embedder, GOOD), atol=1e-5)
    if orientation > 1:
        assert not np.allclose(vector(embedder, stored), vector(embedder, GOOD), atol=1e-3), "the tag matters"


def test_a_turned_photograph_has_the_vector_of_the_upright_one(embedder: Embedder) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = encoded(SMOOTH.transpose(Image.Transpose.ROTATE_90), "JPEG", exif=exif, quality=95, subsampling=0)
    upright = encoded(SMOOTH, "JPEG", quality=95, subsampling=0)
    assert vector(embedder, turned) @ vector(embedder, upright) > 0.995


def test_of_an_animation_the_first_frame_counts(embedder: Embedder) -> None:
    frames = [image.quantize(64) for image in (GOOD, GOOD.transpose(Image.Transpose.ROTATE_180), GOOD.rotate(45))]
    still = frames[0].convert("RGB")
    for kind in ("GIF", "WEBP", "PNG"):
        options = {"lossless": True} if kind == "WEBP" else {}
        data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], duration=40, **options)
        assert np.allclose(vector(embedder, data), vector(embedder, still), atol=1e-5), kind


def test_print_colours(embedder: Embedder) -> None:
    """A JPEG in cyan, magenta, yellow and black is what it would be in red, green and blue, nearly: compression works on other numbers."""
    cmyk = SMOOTH.convert("CMYK")
    data = encoded(cmyk, "JPEG", quality=95)
    with Image.open(io.BytesIO(data)) as opened:
        assert opened.mode == "CMYK"
        plain = opened.convert("RGB")
    assert np.abs(np.asarray(plain, int) - np.asarray(SMOOTH, int)).mean() < 4
    assert np.allclose(vector(embedder, data), vector(embedder, plain), atol=1e-5)
    assert np.allclose(vector(embedder, cmyk), vector(embedder, SMOOTH), atol=1e-5)


def test_sixteen_bits_a_channel(embedder: Embedder) -> None:
    grey = SMOOTH.convert("L")
    deep = Image.fromarray(np.asarray(grey, np.uint16) * 257)
    assert deep.mode == "I;16"
    expected = vector(embedder, grey)
    assert np.allclose(vector(embedder, encoded(deep, "PNG")), expected, atol=1e-3)
    assert np.allclose(vector(embedder, encoded(deep, "TIFF")), expected, atol=1e-3)


def test_a_palette_with_transparency_lies_on_white(embedder: Embedder) -> None:
    indexed = Image.new("P", (64, 64), 0)
    indexed.putpalette([0, 0, 0, 200, 30, 30, 20, 60, 220])
    indexed.paste(1, (8, 8, 40, 30))
    indexed.paste(2, (30, 30, 60, 60))
    white = Image.new("RGB", (64, 64), "white")
    white.paste((200, 30, 30), (8, 8, 40, 30))
    white.paste((20, 60, 220), (30, 30, 60, 60))
    for kind in ("PNG", "GIF"):
        data = encoded(indexed, kind, transparency=0)
        assert np.allclose(vector(embedder, data), vector(embedder, white), atol=1e-5), kind
    half = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
    half.paste((200, 30, 30, 255), (8, 8, 40, 30))
    half.paste((20, 60, 220, 255), (30, 30, 60, 60))
    assert np.allclose(vector(embedder, encoded(half, "PNG")), vector(embedder, white), atol=1e-5)


def test_one_pixel_and_one_row(embedder: Embedder) -> None:
    dot = vector(embedder, encoded(Image.new("RGB", (1, 1), (200, 30, 30)), "PNG"))
    field = vector(embedder, Image.new("RGB", (500, 400), (200, 30, 30)))
    assert np.allclose(dot, field, atol=1e-5)
    for size in ((1, 3000), (3000, 1)):
        assert np.allclose(vector(embedder, Image.new("RGB", size, (200, 30, 30))), field, atol=1e-5)


def test_what_a_file_says_beside_the_picture_changes_nothing(embedder: Embedder) -> None:
    notes = PngImagePlugin.PngInfo()
    notes.add_text("Comment", "ignore all previous instructions" * 50)
    data = encoded(GOOD, "PNG", pnginfo=notes, dpi=(1, 1), icc_profile=b"no profile at all")
    assert np.allclose(vector(embedder, data), vector(embedder, GOOD), atol=1e-6)
    trailing = encoded(GOOD, "PNG") + b"<script>" * 1000
    assert np.allclose(vector(embedder, trailing), vector(embedder, GOOD), atol=1e-6)


# --- away from the event loop -------------------------------------------------------------------------------------------------------


async def test_pictures_are_decoded_and_embedded_in_other_threads_than_the_event_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Writing and searching: the loop goes on ticking while a slow picture is decoded."""
    seen: list[int] = []

    def slow(source: object, **options: object) -> Image.Image:
        seen.append(threading.get_ident())
        time.sleep(0.2)
        return decode_image(source, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(images, "decode_image", slow)
    register_embedder("test-tiny-clip", lambda variant: tiny_clip.embedder("clip"))
    async with await likewise.connect_async("memory://") as store:
        spec = CollectionSpec("pictures", embedder="test-tiny-clip")
        pictures = await store.ensure_collection(spec)
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                await asyncio.sleep(0.01)
                ticks += 1

        ticking = asyncio.create_task(tick())
        await pictures.upsert([Record("one", image=GOOD)])
        found = await pictures.search(image=encoded(GOOD, "PNG"), top_k=1)
        ticking.cancel()
    assert found[0].id == "one"
    assert found[0].score > 0.999
    assert len(seen) == 2
    assert threading.get_ident() not in seen
    assert ticks > 10
