"""Pictures: told by their first bytes; their size and EXIF by Pillow, without decoding a pixel."""

from __future__ import annotations

import io
import re
import warnings

from likewise.ingest.parsing.parsed import Parsed, Unreadable

__all__ = ["NAMES", "parse_picture", "picture_type"]

_MAGIC: tuple[tuple[bytes, int, str], ...] = (
    (b"\x89PNG\r\n\x1a\n", 0, "image/png"),
    (b"\xff\xd8\xff", 0, "image/jpeg"),
    (b"GIF87a", 0, "image/gif"),
    (b"GIF89a", 0, "image/gif"),
    (b"WEBP", 8, "image/webp"),
    (b"BM", 0, "image/bmp"),
    (b"II*\x00", 0, "image/tiff"),
    (b"MM\x00*", 0, "image/tiff"),
    (b"ftypavif", 4, "image/avif"),
)
#: The suffixes that pictures go by, for a better word about what is none.
NAMES = frozenset({".png", ".jpg", ".jpeg", ".gif", ".webp", ".bmp", ".tif", ".tiff", ".avif"})
_ORIENTATION, _TURNED = 0x0112, frozenset({5, 6, 7, 8})
_LONGEST_TAG = 1_000


def picture_type(data: bytes) -> str | None:
    """The media type of a picture, by its first bytes, or None. ``BM`` is a bitmap only where it is not text."""
    for magic, offset, media_type in _MAGIC:
        if data[offset : offset + len(magic)] == magic and (magic != b"WEBP" or data[:4] == b"RIFF"):
            if magic == b"BM" and _is_text(data):
                continue
            return media_type
    return None


def _is_text(data: bytes) -> bool:
    try:
        return "\x00" not in data.decode("utf-8")
    except UnicodeDecodeError:
        return False


def parse_picture(data: bytes, media_type: str) -> Parsed:
    """A picture's width and height in pixels, turned as it says it is to be shown, and its EXIF. It has no text.

    ``Unreadable`` if its header is damaged. Texts of EXIF are kept up to 1,000 characters; binary tags are left out.
    """
    from PIL import ExifTags, Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of sizes: no pixel is decoded here
            with Image.open(io.BytesIO(data)) as picture:
                width, height = picture.size
                tags = picture.getexif()
                values = {**tags, **tags.get_ifd(ExifTags.IFD.Exif)}
    except Image.DecompressionBombError as error:
        raise Unreadable(f"the picture is refused as a decompression bomb ({error})", stage="parsing") from error
    except (
        UnidentifiedImageError,
        OSError,
        ValueError,
        SyntaxError,
        KeyError,
        TypeError,
    ) as error:
        raise Unreadable(f"the picture is damaged ({error})", stage="parsing") from error
    if values.get(_ORIENTATION) in _TURNED:
        width, height = height, width
    exif: dict[str, str] = {}
    for number, value in values.items():
        name = ExifTags.TAGS.get(number)
        if name is None or isinstance(value, bytes | dict):
            continue
        exif[name] = re.sub(r"[\x00-\x1f]", "", str(value))[:_LONGEST_TAG].strip()
    moment = re.fullmatch(
        r"(\d{4}):(\d\d):(\d\d) (\d\d:\d\d:\d\d)", exif.get("DateTimeOriginal", exif.get("DateTime", ""))
    )
    return Parsed(
        text="",
        media_type=media_type,
        author=exif.get("Artist") or None,
        created=f"{moment[1]}-{moment[2]}-{moment[3]}T{moment[4]}" if moment else None,
        width=width,
        height=height,
        exif=exif,
    )
