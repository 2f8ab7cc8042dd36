"""An image on disk: what is in its file, section by section. The form of the file is in ``_sections``.

For each vector of name ``n``: ``n/vectors`` (float32, dead ones too), ``n/slots`` (int32), and if some were divided by their length ``n/norms``,
``n/fixes``, ``n/whole``; ``n/graph`` is FAISS's, without the vectors. Of the rows: ``ids`` and each payload, as lengths (int32, -1 for none) and bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from likewise.abc.feeds import Payload, Position
from likewise.backends.faiss._sections import Buffer, DamagedImage, Sections, write_sections
from likewise.backends.faiss.index import Kept, VectorIndex
from likewise.backends.faiss.table import PAYLOADS, Table
from likewise.schema import CollectionSpec

__all__ = ["DamagedImage", "load_image", "save_image"]

_ROWS = 4_096


def save_image(path: Path, spec: CollectionSpec, position: Position, table: Table, indexes: Mapping[str, Kept]) -> None:
    """Write an image; ``table`` and ``indexes`` are copies that nobody changes any more."""
    about = {
        "collection": _identity(spec),
        "holds": sorted(table.payload),
        "position": position,
        "slots": table.slots,
        "vectors": {
            name: {
                "count": len(kept.slots),
                "base": kept.base,
                "longest": kept.longest,
                "uneven": kept.uneven,
                "zeros": kept.zeros.tolist(),
                "whole": [] if kept.whole is None else sorted(kept.whole),
            }
            for name, kept in indexes.items()
        },
    }
    write_sections(path, about, _written(table, indexes))


def _written(table: Table, indexes: Mapping[str, Kept]) -> Iterator[tuple[str, Iterable[Buffer]]]:
    yield "ids", _texts([None if each is None else each.encode() for each in table.ids])
    for kind, column in table.payload.items():
        yield kind, _texts(column)
    for name, kept in indexes.items():
        yield (
            f"{name}/vectors",
            (_bytes(part[i : i + _ROWS]) for part in kept.vectors for i in range(0, len(part), _ROWS)),
        )
        yield f"{name}/slots", (_bytes(kept.slots),)
        if kept.norms is not None and kept.fixes is not None and kept.whole is not None:
            yield f"{name}/norms", (_bytes(kept.norms),)
            yield f"{name}/fixes", (_bytes(kept.fixes),)
            yield f"{name}/whole", [_bytes(kept.whole[place]) for place in sorted(kept.whole)]
        if kept.graph is not None:
            yield f"{name}/graph", (kept.graph.links_bytes(),)


def _bytes(rows: NDArray[Any]) -> memoryview:
    little = np.ascontiguousarray(rows, rows.dtype.newbyteorder("<"))
    return little.reshape(-1).view(np.uint8).data


def _texts(values: Sequence[bytes | None]) -> Iterator[Buffer]:
    yield _bytes(np.array([-1 if value is None else len(value) for value in values], np.int32))
    for start in range(0, len(values), _ROWS):
        yield b"".join(value for value in values[start : start + _ROWS] if value is not None)


def load_image(
    path: Path, spec: CollectionSpec, holds: frozenset[Payload]
) -> tuple[Position, Table, dict[str, VectorIndex]]:
    """What ``save_image`` wrote. ``DamagedImage`` for anything that is not whole, or not of this collection."""
    try:
        with path.open("rb", buffering=0) as file:
            return _loaded(Sections(path, file), spec, holds)
    except FileNotFoundError as error:
        raise DamagedImage("there is no such file", path) from error
    except OSError as error:
        raise DamagedImage(f"it cannot be read ({error})", path) from error
    except (ValueError, KeyError, TypeError, IndexError, OverflowError, RuntimeError) as error:
        # Checksums are right, so that this is a program's mistake or somebody's forgery; it is not to be used all the same.
        raise DamagedImage(f"its contents do not fit each other ({type(error).__name__}: {error})", path) from error


def _loaded(
    sections: Sections, spec: CollectionSpec, holds: frozenset[Payload]
) -> tuple[Position, Table, dict[str, VectorIndex]]:
    about = sections.about
    if about["collection"] != _identity(spec):
        raise sections.damaged("it is of a collection with another specification")
    if frozenset(about["holds"]) != holds:
        raise sections.damaged(
            f"it holds {', '.join(about['holds']) or 'nothing beside vectors'}, and that is not what is wanted"
        )
    table = Table(holds)
    slots = about["slots"]
    payload: dict[Payload, list[bytes | None]] = {
        name: _read_texts(sections, name, slots, bytes) for name in PAYLOADS if name in holds
    }
    table.restore(_read_texts(sections, "ids", slots, lambda data: str(data, "utf-8")), payload)
    indexes = {name: VectorIndex(field) for name, field in spec.vector_fields.items()}
    for name, index in indexes.items():
        _read_index(sections, name, index, slots, about["vectors"][name])
    return Position(about["position"]), table, indexes


def _read_texts(sections: Sections, name: str, count: int, make: Callable[[bytes], Any]) -> list[Any]:
    lengths = np.frombuffer(sections.read(name, 0, 4 * count), "<i4").astype(np.int64)
    ends = 4 * count + np.cumsum(np.maximum(lengths, 0))
    if (lengths < -1).any() or sections.length(name) != (int(ends[-1]) if count else 0):
        raise sections.damaged(f"its section {name!r} has another length than its parts")
    found: list[Any] = []
    start = 4 * count
    for first in range(0, count, _ROWS):
        part = lengths[first : first + _ROWS].tolist()
        block = sections.read(name, start, sum(each for each in part if each > 0))
        start += len(block)
        at = 0
        for length in part:
            found.append(None if length < 0 else make(block[at : at + length]))
            at += max(length, 0)
    return found


def _read_index(sections: Sections, name: str, index: VectorIndex, slots: int, about: Mapping[str, Any]) -> None:
    count, base = about["count"], about["base"]
    size = 4 * index.dimension
    if sections.length(f"{name}/vectors") != count * size or not 0 <= base <= count:
        raise sections.damaged(f"its vectors {name!r} are not {count:,} of dimension {index.dimension}")
    graph = sections.checked(f"{name}/graph") if f"{name}/graph" in sections else None
    held = np.frombuffer(sections.read(f"{name}/slots"), "<i4").astype(np.int32)
    if len(held) != count or (count and (held.min() < -1 or held.max() >= slots)) or (graph is None) != (base == 0):
        raise sections.damaged(f"its vectors {name!r} belong to no rows")
    live = held[held >= 0]
    if len(np.unique(live)) != len(live):
        raise sections.damaged(f"two of its vectors {name!r} belong to one row")

    def fill(rows: NDArray[np.float32], first: int) -> None:
        sections.read_into(f"{name}/vectors", first * size, rows.reshape(-1).view(np.uint8).data)
        if not np.little_endian:
            rows.byteswap(inplace=True)

    norms = fixes = None
    if f"{name}/norms" in sections:
        norms = np.frombuffer(sections.read(f"{name}/norms"), "<f8").astype(np.float64)
        fixes = np.frombuffer(sections.read(f"{name}/fixes"), np.uint8).reshape(count, -1)
    whole = {}
    for number, place in enumerate(about["whole"]):
        row = np.frombuffer(sections.read(f"{name}/whole", number * size, size), "<f4").astype(np.float32)
        whole[int(place)] = row
    zeros = np.array(about["zeros"], np.int64)
    if len(zeros) and (zeros.min() < 0 or zeros.max() >= slots):
        raise sections.damaged(f"vectors {name!r} of zeros belong to no rows")
    index.restore(
        graph, base, held, fill, norms, fixes, whole, longest=about["longest"], uneven=about["uneven"], zeros=zeros
    )


def _identity(spec: CollectionSpec) -> dict[str, Any]:
    """What an image depends on of a specification."""
    return {
        "name": spec.name,
        "multimodal": bool(spec.multimodal),
        "vectors": {
            name: [field.dimension, str(field.metric), field.storage] for name, field in spec.vector_fields.items()
        },
    }
