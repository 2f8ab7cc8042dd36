"""ZIP archives within limits, and XML within limits. Nothing is ever written to disk, and nothing outside the archive is read."""

from __future__ import annotations

import io
import posixpath
import struct
import zipfile
import zlib
from collections.abc import Callable
from xml.parsers import expat

from likewise.ingest.parsing.parsed import Limits, Unreadable

__all__ = ["Archive", "Element", "read_xml"]

_PIECE = 1024 * 1024
_BROKEN = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    OSError,
    NotImplementedError,
    RuntimeError,
    ValueError,
    struct.error,
)


class Archive:
    """A ZIP archive in memory: its names, and the bytes of an entry. ``Unreadable`` for bombs, encryption and damage."""

    def __init__(self, data: bytes, limits: Limits) -> None:
        self._limits = limits
        self._left = limits.unpacked
        try:
            self._zip = zipfile.ZipFile(io.BytesIO(data))
            entries = self._zip.infolist()
        except _BROKEN as error:
            raise Unreadable(f"the archive is damaged or cut off ({error})", stage="unpacking") from error
        if len(entries) > limits.entries:
            raise Unreadable(
                f"the archive has {len(entries):,} entries, at most {limits.entries:,} are read", stage="unpacking"
            )
        self._entries = {entry.filename: entry for entry in entries}

    @property
    def names(self) -> frozenset[str]:
        """The names of its entries, as they are written there."""
        return frozenset(self._entries)

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def read(self, name: str) -> bytes:
        """An entry's bytes. ``Unreadable`` if it is missing, encrypted, damaged, or unpacks to more than the limits allow."""
        entry = self._entries.get(name)
        if entry is None:
            raise Unreadable(
                f"the archive lacks {name!r}: the file is damaged, or not what it claims", stage="unpacking"
            )
        if entry.flag_bits & 0x1:
            raise Unreadable("the file is encrypted: save it without a password", stage="unpacking")
        if entry.file_size > self._left:
            raise self._bomb(f"it would unpack to more than {self._limits.unpacked:,} bytes")
        if entry.file_size > _PIECE and entry.file_size > self._limits.ratio * max(entry.compress_size, 1):
            raise self._bomb(f"{name!r} unpacks to more than {self._limits.ratio} times its size")
        pieces = []
        try:
            with self._zip.open(entry) as file:
                # By pieces, counted: what the directory declares need not be true.
                while piece := file.read(_PIECE):
                    self._left -= len(piece)
                    if self._left < 0:
                        raise self._bomb(f"it unpacks to more than {self._limits.unpacked:,} bytes")
                    pieces.append(piece)
        except _BROKEN as error:
            raise Unreadable(f"{name!r} in the archive is damaged ({error})", stage="unpacking") from error
        return b"".join(pieces)

    def find(self, target: str, *, folder: str = "") -> str | None:
        """The entry that a reference means, relative to a folder of the archive, or None: it leads nowhere, or out of the archive."""
        target = target.split("#", 1)[0]
        path = target.lstrip("/") if target.startswith("/") else posixpath.normpath(posixpath.join(folder, target))
        return path if path in self._entries else None

    @staticmethod
    def _bomb(what: str) -> Unreadable:
        return Unreadable(f"the archive is refused as a decompression bomb: {what}", stage="unpacking")


class Element:
    """An element's start, as ``read_xml`` tells it: its local name, and its attributes by local name."""

    __slots__ = ("attributes", "name")

    def __init__(self, name: str, attributes: dict[str, str]) -> None:
        self.name = name
        self.attributes = attributes

    def get(self, name: str, default: str = "") -> str:
        """An attribute's value."""
        return self.attributes.get(name, default)


def _local(name: str) -> str:
    return name.rpartition(":")[2]


def read_xml(
    data: bytes,
    limits: Limits,
    *,
    start: Callable[[Element], None],
    end: Callable[[str], None],
    text: Callable[[str], None],
) -> None:
    """Tell an XML document's elements and texts in their order; no tree is made, so memory does not grow with it.

    Names come without their prefix; attributes of one local name keep the first, but ``id`` of the relationships' namespace (``r:id``)
    is told as ``r:id``. Entities that a document declares are refused, and nothing outside it is fetched.
    """
    parser = expat.ParserCreate()
    parser.buffer_text = True
    depth = 0

    def on_start(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > limits.depth:
            raise Unreadable(f"its XML is nested more than {limits.depth} deep", stage="parsing")
        told: dict[str, str] = {}
        for key, value in attributes.items():
            told.setdefault(key if key == "r:id" else _local(key), value)
        start(Element(_local(name), told))

    def on_end(name: str) -> None:
        nonlocal depth
        depth -= 1
        end(_local(name))

    def refuse(*_: object) -> None:
        raise Unreadable("its XML declares entities, which is refused: they can grow without bounds", stage="parsing")

    parser.StartElementHandler = on_start
    parser.EndElementHandler = on_end
    parser.CharacterDataHandler = text
    parser.EntityDeclHandler = refuse
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        raise Unreadable(f"its XML is damaged ({error})", stage="parsing") from error
    except (ValueError, LookupError) as error:
        raise Unreadable(f"its XML is in an encoding that cannot be read ({error})", stage="parsing") from error
