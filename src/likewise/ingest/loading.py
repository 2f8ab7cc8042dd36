"""Finds files and reads them by what they hold, whatever their names say. No model and no collection enters here."""

from __future__ import annotations

import codecs
import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from likewise.errors import NotFound

__all__ = ["MAX_BYTES", "Document", "Unreadable", "find_files", "load"]

#: Larger files are refused: a picture or text of this size is a mistake more often than not.
MAX_BYTES = 64 * 1024 * 1024

_PICTURES: tuple[tuple[bytes, int, str], ...] = (
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
_PICTURE_NAMES = {".png", ".jpg", ".jpeg", ".gif", ".webp", ".bmp", ".tif", ".tiff", ".avif"}
_REFUSED: tuple[tuple[bytes, str], ...] = (
    (b"%PDF-", "a PDF: extract its text first"),
    (b"PK\x03\x04", "a ZIP archive or office document"),
    (b"\x1f\x8b", "a gzip archive"),
)
_BYTE_ORDER_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


class Unreadable(Exception):
    """A file that gives no record; the text says why. Reported, not raised, by the pipeline."""


@dataclass(frozen=True, slots=True)
class Document:
    """A file's content: its bytes for a picture, its text otherwise, and the SHA-256 of the file."""

    path: Path
    kind: Literal["image", "text"]
    media_type: str
    digest: str
    size: int
    text: str = ""
    data: bytes = b""


def find_files(roots: Iterable[Path]) -> Iterator[tuple[Path, str | None]]:
    """Every file under the roots in the order of names, each once, with the reason why it is left out, or None.

    Hidden files and folders (a leading dot) are passed over in silence unless named themselves. A symbolic link found on the way
    is followed only to a file inside the same root. ``NotFound`` for a root that does not exist.
    """
    seen: set[Path] = set()
    for root in roots:
        if not root.exists():
            raise NotFound(f"there is no file or folder {str(root)!r}")
        real_root = root.resolve()
        walk = _walk(real_root) if real_root.is_dir() else iter([(real_root, None)])
        for path, problem in walk:
            if path not in seen:
                seen.add(path)
                yield path, problem


def _walk(root: Path) -> Iterator[tuple[Path, str | None]]:
    pending = [root]
    while pending:
        folder = pending.pop()
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            yield folder, f"the folder cannot be read: {error.strerror}"
            continue
        folders = []
        for entry in entries:
            if entry.name.startswith("."):
                continue
            path = Path(entry.path)
            if entry.is_symlink():
                yield _follow(path, root)
            elif entry.is_dir(follow_symlinks=False):
                folders.append(path)
            else:
                yield path, None
        pending.extend(reversed(folders))


def _follow(link: Path, root: Path) -> tuple[Path, str | None]:
    try:
        target = link.resolve(strict=True)
    except (OSError, RuntimeError):
        return link, "a symbolic link that leads nowhere"
    if not target.is_relative_to(root):
        return link, "a symbolic link that leads out of the folder"
    if target.is_dir():
        return link, "a symbolic link to a folder, which is read where it is"
    return target, None


def load(path: Path, *, max_bytes: int = MAX_BYTES) -> Document:
    """Read a file and find out by its content what it is; ``Unreadable`` says why it cannot be used."""
    data = _read(path, max_bytes)
    if not data:
        raise Unreadable("the file is empty")
    digest = hashlib.sha256(data).hexdigest()
    for magic, offset, media_type in _PICTURES:
        if data[offset : offset + len(magic)] == magic and (magic != b"WEBP" or data[:4] == b"RIFF"):
            if magic == b"BM" and _decode(data) is not None:
                continue
            return Document(path, "image", media_type, digest, len(data), data=data)
    for magic, what in _REFUSED:
        if data.startswith(magic):
            raise Unreadable(f"{what}; pictures and plain text are read")
    text = _decode(data)
    if text is None:
        if path.suffix.lower() in _PICTURE_NAMES:
            raise Unreadable("its name is a picture's, but its content is not")
        raise Unreadable("neither a picture nor UTF-8 text")
    if not text.strip():
        raise Unreadable("the file holds only white space")
    media_type = "text/markdown" if path.suffix.lower() in {".md", ".markdown"} else "text/plain"
    return Document(path, "text", media_type, digest, len(data), text=text)


def _read(path: Path, max_bytes: int) -> bytes:
    try:
        # Without waiting: a named pipe would never end.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise Unreadable("not a regular file")
            if status.st_size > max_bytes:
                raise Unreadable(f"too large: {status.st_size:,} bytes, at most {max_bytes:,} are read")
            return file.read(max_bytes + 1)[:max_bytes]
    except OSError as error:
        raise Unreadable(f"it cannot be read: {error.strerror}") from error


def _decode(data: bytes) -> str | None:
    encoding = next((name for mark, name in _BYTE_ORDER_MARKS if data.startswith(mark)), "utf-8")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError:
        return None
    return None if "\x00" in text else text
