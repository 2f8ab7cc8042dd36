"""Draws a collection's records and embeds the queries that a calibration is fitted to; ``pairs`` has the numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeAlias

from likewise.abc.embedder import MODALITIES, ImageInput, Modality
from likewise.abc.pairs import Asked, Drawn, fit_pairs
from likewise.calibration import Calibration
from likewise.errors import InvalidArgument, RecordNotFound
from likewise.filters import And, Column, Eq, In
from likewise.metrics import Metric
from likewise.records import Record

if TYPE_CHECKING:
    from likewise.abc.stores_async import AsyncCollection

__all__ = ["Match", "fit_to_collection"]

#: A query, a text (``str``) or a picture (anything else), and the id of a record that it should find.
Match: TypeAlias = "tuple[str | ImageInput, str]"


async def fit_to_collection(
    collection: AsyncCollection, matches: Iterable[Match], *, sample: int, prior: float
) -> Calibration:
    """The calibration that fits the collection's records, and the matches that are given; see ``AsyncCollection.calibrate``."""
    _, field = collection.spec.vector_field(None)
    dimension, metric = field.dimension, Metric(field.metric)
    given = _checked(matches)
    drawn: dict[Modality, Drawn] = {}
    texts: Drawn | None = None
    if collection.spec.multimodal:
        for kind in MODALITIES:
            records = await collection._sample(sample, kind)
            drawn[kind] = Drawn.of(records, dimension)
        texts = Drawn.of(await _texts_about(collection, drawn["image"].things), dimension)
    else:
        drawn["text"] = Drawn.of(await collection._sample(sample, None), dimension)
    asked = await _asked(collection, given, dimension)
    total = sum(len(side.things) for side in drawn.values())
    return fit_pairs(
        drawn,
        asked,
        metric,
        texts=texts,
        prior=prior,
        source=f"{len(given):,} matches and {total:,} records of {collection.name}",
        fitted=datetime.now(UTC).date().isoformat(),
    )


def _checked(matches: Iterable[Match]) -> list[Match]:
    given = list(matches)
    for place, match in enumerate(given):
        if not isinstance(match, tuple) or len(match) != 2 or not isinstance(match[1], str):
            raise InvalidArgument(
                f"matches[{place}] is {match!r:.80}; it must be a query (a text, or a picture as a Path, bytes or a Pillow image) and the "
                "id of a record that it should find"
            )
    return given


async def _texts_about(collection: AsyncCollection, things: Sequence[str]) -> list[Record]:
    """The texts about these things, with their vectors, at most as many as things."""
    if not things:
        return []
    where = And(Eq(Column("modality"), "text"), In(Column("content_id"), tuple(dict.fromkeys(things))))
    return list(await collection.scan(where, limit=len(things), include=("vector",)))


async def _asked(collection: AsyncCollection, matches: Sequence[Match], dimension: int) -> list[Asked]:
    """The queries by their modality and that of the records they should find, embedded."""
    ids = list(dict.fromkeys(record_id for _, record_id in matches))
    known = {record.id: record for record in await collection.get_many(ids, include=("vector",))}
    for record_id in ids:
        if record_id not in known:
            raise RecordNotFound(record_id, collection=collection.name)
    groups: dict[tuple[Modality, Modality], list[Match]] = {}
    for match in matches:
        modality: Modality = "text" if isinstance(match[0], str) else "image"
        groups.setdefault((modality, known[match[1]].modality or "text"), []).append(match)
    asked: list[Asked] = []
    for (modality, found), group in groups.items():
        queries = await collection._embedding.queries(modality, [query for query, _ in group])
        records = Drawn.of([known[record_id] for _, record_id in group], dimension)
        asked.append(Asked(modality, found, queries, records))
    return asked
