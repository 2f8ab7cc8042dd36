"""A file of checksummed sections, little-endian: written in one pass, checked whole before any of it is believed.

::

    magic (16 bytes)                  "likewise image\\r\\n", which a transfer as text would change
    version (uint32), zero (uint32)
    the sections, one after the other
    the table: JSON in UTF-8: {"about": …, "sections": [[name, length, BLAKE2b-256], …]}
    length of the table (uint64), BLAKE2b-256 of everything before but the sections, magic
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import struct
import uuid
from collections.abc import Iterable, Iterator, Mapping
from io import FileIO
from pathlib import Path
from typing import Any, TypeAlias

from likewise.errors import LikewiseError

__all__ = ["Buffer", "DamagedImage", "Sections", "write_sections"]

Buffer: TypeAlias = "bytes | bytearray | memoryview"

_MAGIC = b"likewise image\r\n"
_HEAD = struct.Struct("<16sII")
_TAIL = struct.Struct("<Q32s16s")
_VERSION = 1
_BLOCK = 1 << 20
_MOST_TABLE = 1 << 26


class DamagedImage(LikewiseError):
    """The file of an image is not whole, or is not of this collection: the image is to be made anew from the database."""

    def __init__(self, reason: str, path: Path) -> None:
        super().__init__(f"the image in {path} cannot be used: {reason}; it is made anew from the database")
        self.reason = reason
        self.path = path


def _digest() -> Any:
    return hashlib.blake2b(digest_size=32)


def write_sections(path: Path, about: Mapping[str, Any], sections: Iterable[tuple[str, Iterable[Buffer]]]) -> None:
    """Write a file that is there whole or not at all: under another name first, on the disk, then renamed. Only its owner may read it."""
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            head = _HEAD.pack(_MAGIC, _VERSION, 0)
            file.write(head)
            table = []
            for name, buffers in sections:
                found, length = _digest(), 0
                for buffer in buffers:
                    found.update(buffer)
                    length += file.write(buffer)
                table.append([name, length, found.hexdigest()])
            listed = json.dumps({"about": about, "sections": table}).encode()
            outside = _digest()
            outside.update(head + listed)
            file.write(listed + _TAIL.pack(len(listed), outside.digest(), _MAGIC))
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            beside.unlink()
        raise
    if os.name == "posix":
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


class Sections:
    """A file that was checked from its first byte to its last: raises ``DamagedImage`` where a single one is not what was written."""

    def __init__(self, path: Path, file: FileIO) -> None:
        self._path = path
        self._file = file
        size = os.fstat(file.fileno()).st_size
        if size < _HEAD.size + _TAIL.size:
            raise self.damaged(f"it has {size:,} bytes, too few")
        head = self._take(0, _HEAD.size)
        magic, version, zero = _HEAD.unpack(head)
        if magic != _MAGIC:
            raise self.damaged("it does not begin as an image does")
        if version != _VERSION:
            raise self.damaged(f"its format is version {version}, and this program reads {_VERSION}")
        length, digest, magic = _TAIL.unpack(self._take(size - _TAIL.size, _TAIL.size))
        if magic != _MAGIC or zero or length > min(_MOST_TABLE, size - _HEAD.size - _TAIL.size):
            raise self.damaged("its end is not that of an image: it was cut off, or written over")
        listed = self._take(size - _TAIL.size - length, length)
        outside = _digest()
        outside.update(head + listed)
        if outside.digest() != digest:
            raise self.damaged("the checksum of its table is wrong")
        table = json.loads(listed)
        self.about: Mapping[str, Any] = table["about"]
        #: Where each section begins, and how long it is.
        self._places: dict[str, tuple[int, int]] = {}
        self._digests: dict[str, str] = {}
        place = _HEAD.size
        for name, part, wanted in table["sections"]:
            self._places[name] = place, part
            self._digests[name] = wanted
            place += part
        if place != size - _TAIL.size - length:
            raise self.damaged("its sections are not as long as its table says")
        for name in self._places:
            found = _digest()
            for block in self.blocks(name):
                found.update(block)
            if found.hexdigest() != self._digests[name]:
                raise self.damaged(f"the checksum of its section {name!r} is wrong")

    def damaged(self, reason: str) -> DamagedImage:
        """The error to raise."""
        return DamagedImage(reason, self._path)

    def length(self, name: str) -> int:
        """The bytes of a section."""
        if name not in self._places:
            raise self.damaged(f"it has no section {name!r}")
        return self._places[name][1]

    def __contains__(self, name: str) -> bool:
        return name in self._places

    def blocks(self, name: str) -> Iterator[bytes]:
        """A section in blocks of a megabyte."""
        length, done = self.length(name), 0
        while done < length:
            block = self._take(self._places[name][0] + done, min(_BLOCK, length - done))
            done += len(block)
            yield block

    def read_into(self, name: str, start: int, buffer: memoryview) -> None:
        """Fill a buffer of bytes from a place in a section on."""
        if start < 0 or start + len(buffer) > self.length(name):
            raise self.damaged(f"its section {name!r} is too short")
        self._fill(self._places[name][0] + start, buffer)

    def read(self, name: str, start: int = 0, length: int | None = None) -> bytes:
        """Some bytes of a section, or all."""
        buffer = bytearray(self.length(name) - start if length is None else length)
        self.read_into(name, start, memoryview(buffer))
        return bytes(buffer)

    def checked(self, name: str) -> bytes:
        """A whole section, whose very bytes in memory have been checked: for a reader that believes what it is given."""
        data = self.read(name)
        found = _digest()
        found.update(data)
        if found.hexdigest() != self._digests[name]:
            raise self.damaged(f"its section {name!r} changed while it was read")
        return data

    def _take(self, place: int, length: int) -> bytes:
        buffer = bytearray(length)
        self._fill(place, memoryview(buffer))
        return bytes(buffer)

    def _fill(self, place: int, buffer: memoryview) -> None:
        self._file.seek(place)
        done = 0
        while done < len(buffer):
            read = self._file.readinto(buffer[done : done + _BLOCK])
            if not read:
                raise self.damaged("it became shorter while it was read")
            done += read
