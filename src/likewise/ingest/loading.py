"""Finds files and reads them by what they hold, whatever their names say. No model and no collection enters here."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from likewise.errors import NotFound
from likewise.ingest.parsing import Parsed, ParserPool, Unreadable, is_plain, parse
from likewise.ingest.parsing.reading import MAX_BYTES, read_bytes

__all__ = ["MAX_BYTES", "Document", "Unreadable", "find_files", "is_there", "load"]


@dataclass(frozen=True, slots=True)
class Document:
    """A file's content: its bytes for a picture, and the text that was read in it; its text otherwise; its ``size`` in bytes and its SHA-256; what it says of itself."""

    path: Path
    kind: Literal["image", "text"]
    media_type: str
    digest: str
    size: int
    text: str = ""
    data: bytes = b""
    parsed: Parsed | None = None


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


def is_there(path: Path) -> bool:
    """Whether there is a file, of whatever kind, but no folder. Where the system does not say, as of what is in a folder that is closed to us, it is."""
    try:
        return not stat.S_ISDIR(os.lstat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        return error.errno != errno.ENAMETOOLONG


def load(path: Path, *, max_bytes: int = MAX_BYTES, pool: ParserPool | None = None, textless: bool = False) -> Document:
    """Read a file and find out by its content what it is and what it says; ``Unreadable`` says why it cannot be used.

    With a ``pool``, whatever is more than a picture or plain text is parsed in one of its processes, within its limits.
    A document without text is ``Unreadable``, unless ``textless``. ``OptionalDependencyError`` where the format needs the extra ``ingest``.
    """
    data = read_bytes(path, max_bytes=max_bytes)
    apart = pool is not None and not is_plain(data, options=pool.options)
    parsed = pool.parse(data, path=path) if pool is not None and apart else parse(data, path=path)
    digest = hashlib.sha256(data).hexdigest()
    if parsed.media_type.startswith("image/"):
        text = parsed.text if parsed.text.strip() else ""
        return Document(path, "image", parsed.media_type, digest, len(data), text, data=data, parsed=parsed)
    if not parsed.text.strip() and not textless:
        scan = parsed.media_type == "application/pdf" and not (pool is not None and pool.options.ocr)
        cure = ": have its scans read by ocr" if scan else ""
        raise Unreadable(f"it holds no text{cure}", stage="parsing", path=path)
    return Document(path, "text", parsed.media_type, digest, len(data), text=parsed.text, parsed=parsed)
