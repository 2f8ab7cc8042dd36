"""What a vector was embedded from, in a digest: so that what has not changed is not embedded again.

A digest is stored beside the vector that a model made. It is the first 16 bytes of a SHA-256 over the model (name, revision, dimension,
prompt), the text or picture, and the vector itself as it is stored. Whoever changes the vector by another way than this, and leaves the digest,
makes a digest that does not hold any more; then the model is asked again. Pure functions, but for reading the pictures that are files.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG
from typing import TYPE_CHECKING, Any, Literal

from likewise.abc.embedder import Embedder, ImageInput
from likewise.abc.models import model_key
from likewise.records import Record
from likewise.schema import VectorField

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["DIGEST_BYTES", "StoredVector", "Wanted", "digest_of", "reusable", "take_digests", "wanted_of"]

#: Enough that no two contents have one by chance.
DIGEST_BYTES = 16
#: Files and pictures beyond this are left to the model, which refuses them.
_MOST_BYTES = 64 * 1024 * 1024
_MOST_PIXELS = 50_000_000


@dataclass(frozen=True, slots=True)
class StoredVector:
    """A collection's own vector as it is stored, and the digest beside it."""

    digest: bytes
    vector: NDArray[np.float32]


@dataclass(slots=True)
class Wanted:
    """A record without a vector: its place in the batch, and what is to be embedded for it.

    ``source`` is a digest of the model and the text or picture, None where there is none (a picture that cannot be read, say).
    """

    place: int
    kind: Literal["text", "image"]
    value: Any
    source: bytes | None = None
    #: A file's state when its digest was taken.
    state: tuple[int, ...] | None = None

    def take_digest(self, embedder: Embedder) -> None:
        """Reckon ``source``; a picture is read for it, which may take a while."""
        card = embedder.card
        content: bytes | None
        if self.kind == "text":
            key = model_key(card, card.passage_prompt)
            try:
                content = hashlib.sha256(str.__str__(self.value).encode()).digest()
            except UnicodeEncodeError:
                return  # for the model to refuse
        else:
            key = model_key(card, "")
            content, self.state = _picture(self.value)
        if content is not None:
            self.source = hashlib.sha256(b"\x00".join([key.encode(), self.kind.encode(), content])).digest()

    def is_as_it_was(self) -> bool:
        """Whether a picture's file is the one that the digest is of."""
        return self.state is None or _state(self.value) == self.state


def wanted_of(batch: Sequence[Record]) -> list[Wanted]:
    """What of a batch a model has to embed: of records without a vector the picture, or else the text."""
    found = []
    for place, record in enumerate(batch):
        if isinstance(record, Record) and record.vector is None:
            if record.image is not None:
                found.append(Wanted(place, "image", record.image))
            elif isinstance(record.content, str):
                found.append(Wanted(place, "text", record.content))
    return found


def take_digests(wanted: Sequence[Wanted], embedder: Embedder) -> None:
    """Reckon what each is embedded from; reads the pictures."""
    for one in wanted:
        one.take_digest(embedder)


def digest_of(source: bytes, vector: NDArray[np.float32], field: VectorField) -> bytes:
    """The digest that is stored beside the vector."""
    import numpy as np

    if vector.dtype != np.float32 or field.storage == "halfvec":
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            vector = vector.astype(np.float32)  # a model may give numbers of another kind
            if field.storage == "halfvec":
                vector = vector.astype(np.float16).astype(np.float32)
    return hashlib.sha256(source + vector.astype(">f4").tobytes()).digest()[:DIGEST_BYTES]


def reusable(wanted: Wanted, stored: StoredVector | None, field: VectorField) -> bool:
    """Whether what is stored is the vector that the model would make."""
    return (
        stored is not None
        and wanted.source is not None
        and stored.vector.shape == (field.dimension,)
        and digest_of(wanted.source, stored.vector, field) == stored.digest
    )


def _picture(image: ImageInput) -> tuple[bytes | None, tuple[int, ...] | None]:
    """A digest of a picture's bytes, and the state of its file if it is one; None for what cannot be read here."""
    if isinstance(image, bytes | bytearray | memoryview):
        return hashlib.sha256(image).digest(), None
    if isinstance(image, str | os.PathLike):
        before = _state(image)
        if before is None or before[1] > _MOST_BYTES:
            return None, None
        try:
            with Path(image).open("rb") as file:
                content = hashlib.file_digest(file, "sha256").digest()
        except OSError:
            return None, None  # for the model to refuse, which says why
        return content, before
    return _pixels(image), None


def _state(path: Any) -> tuple[int, ...] | None:
    """What changes when a file does; None if it is none."""
    try:
        found = Path(path).stat()
    except (OSError, ValueError):
        return None
    return (found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns) if S_ISREG(found.st_mode) else None


def _pixels(image: Any) -> bytes | None:
    """A digest of all that decides how a picture of Pillow's looks: its pixels, palette, transparency and which way is up."""
    try:
        if image.width * image.height > _MOST_PIXELS:
            return None
        pixels = image.tobytes()
        palette = image.palette.tobytes() if image.palette is not None else b""
        rest = repr((image.mode, image.size, image.info.get("transparency"), image.getexif().get(0x0112)))
    except (
        AttributeError,
        OSError,
        ValueError,
        SyntaxError,
        EOFError,
        LookupError,
        TypeError,
        ArithmeticError,
        MemoryError,
    ):
        return None  # no picture, or a damaged one: for the model to refuse
    digest = hashlib.sha256()
    for part in (rest.encode(), palette, pixels):
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.digest()
