"""What fits a vector of a collection: whether its index is sound, and whether another would serve better, and why. Pure.

The sizes are reckoned from pgvector's page layout (0.8) and agree with what it builds to a few hundredths.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from likewise.backends.postgres._indexing import lists_for
from likewise.backends.postgres._recall import RecallCurve
from likewise.backends.postgres._table import TableIndex
from likewise.schema import Advice, Quantization, VectorField

__all__ = ["Facts", "advise", "hnsw_size"]

#: From this many rows on, comparing every row takes so long that an index is worth its upkeep.
WORTH_AN_INDEX = 20_000
#: Microseconds to compare one row of 384 dimensions on a machine of today.
COMPARE = 0.7
#: What a search finds by default should be this part of the exact answer.
WANTED = 0.95
#: A fall by so much is more than chance, with twice the standard error on top.
FALLEN = 0.02
_PAGE = 8_192
_HALF_LIMIT = 4_000


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of one vector of a collection. ``recall`` is (mean, standard error) at ``dial``, where it was measured."""

    field: VectorField
    rows: float
    dead: float
    shared_buffers: int
    index: TableIndex | None = None
    size: int = 0
    recall: tuple[float, float] | None = None
    dial: int = 0
    before: RecallCurve | None = None


def hnsw_size(field: VectorField, rows: float, quantization: Quantization = "none", m: int = 16) -> int:
    """Bytes of an HNSW index: each row has an element with its vector and a list of neighbours, as many as fit a page."""
    numbers = {"none": field.dimension * (2 if field.storage == "halfvec" else 4), "half": field.dimension * 2}.get(
        quantization, field.dimension // 8
    )
    element, neighbours = _aligned(72 + 8 + numbers) + 4, _aligned(4 + 6 * 2 * m) + 4
    # Those on higher levels, one of m, have m more neighbours on each.
    neighbours += 6 * m // max(1, m - 1)
    per_page = (_PAGE - 32) // (element + neighbours)
    # Where the two do not fit together, each has a page.
    pages = rows / per_page if per_page else 2 * rows
    return round(pages + 1) * _PAGE


def _aligned(size: int) -> int:
    return -(-size // 8) * 8


def advise(facts: Facts) -> list[Advice]:
    """What to do, the most urgent first."""
    advice = [*_without_index(facts)] if facts.index is None else [*_recall(facts), *_index(facts, facts.index)]
    if facts.dead > 10_000 and facts.dead > 0.2 * facts.rows:
        text = f"{facts.dead:,.0f} dead rows beside {facts.rows:,.0f}: VACUUM, and see whether autovacuum is on"
        advice.append(Advice("warning", text))
    return sorted(advice, key=lambda each: each.status != "warning")


def _without_index(facts: Facts) -> Iterator[Advice]:
    milliseconds = COMPARE * facts.rows * facts.field.dimension / 384 / 1_000
    slow = f"every search compares {facts.rows:,.0f} rows, which takes some {milliseconds:,.0f} ms"
    if facts.rows < WORTH_AN_INDEX:
        yield Advice(
            "note",
            f"no index, and none is needed up to some {WORTH_AN_INDEX:,} rows: every search compares all of them",
        )
        return
    field, rows = facts.field, facts.rows
    parts = []
    if field.dimension <= 2_000 and field.storage == "vector":
        parts.append(f"an HNSW index of about {_size(hnsw_size(field, rows))}")
    if field.dimension <= _HALF_LIMIT:
        quantization: Quantization = "half" if field.storage == "vector" else "none"
        plan = f"Hnsw(quantization={quantization!r})" if parts else "an HNSW index"
        parts.append(f"{plan} of about {_size(hnsw_size(field, rows, quantization))}")
    else:
        parts.append(f"an HNSW index of bits of about {_size(hnsw_size(field, rows, 'binary'))}")
    yield Advice("warning", f"no index: {slow}; ensure_indexes() builds {' or '.join(parts)}")


def _recall(facts: Facts) -> Iterator[Advice]:
    if facts.recall is None or facts.index is None:
        return
    mean, error = facts.recall
    dial = f"{'ef_search' if facts.index.method == 'hnsw' else 'probes'} {facts.dial}"
    then = 0.0 if facts.before is None else facts.before.near(facts.dial)[0]
    if facts.before is not None and then - mean > FALLEN + 2 * error:
        grown = facts.rows > 1.5 * facts.before.rows
        cure = (
            "the collection has grown, which takes more looking: recall= on searches finds out how much"
            if grown
            else f'rows were changed or deleted since: REINDEX INDEX CONCURRENTLY "{facts.index.name}"'
        )
        yield Advice(
            "warning",
            f"recall has fallen from {then:.3f} (at {facts.before.rows:,.0f} rows) to {mean:.3f} at {dial}; {cure}",
        )
    elif mean + error < WANTED:
        cure = "search with recall=0.95, or build with a larger m and ef_construction"
        if facts.index.quantization == "binary":
            cure = "one bit a number does not suffice for these vectors: use quantization='half' up to 4,000 dimensions"
        elif facts.index.method == "ivfflat":
            cure = "search with recall=0.95, or build an HNSW index"
        yield Advice("warning", f"a search finds {mean:.3f} of the exact answer at {dial}; {cure}")


def _index(facts: Facts, index: TableIndex) -> Iterator[Advice]:
    if index.method == "ivfflat":
        lists, wanted = int(index.options.get("lists", "100")), lists_for(facts.rows)
        if not lists / 4 <= wanted <= lists * 4:
            yield Advice(
                "warning",
                f"{lists:,} lists are for another number of rows than {facts.rows:,.0f}: drop it, and build "
                f"IvfFlat(lists={wanted}), or HNSW, which searches several times faster at equal recall",
            )
        return
    m = int(index.options.get("m", "16"))
    reckoned = hnsw_size(facts.field, facts.rows, index.quantization, m)
    if facts.rows >= WORTH_AN_INDEX and facts.size > 1.5 * reckoned:
        yield Advice(
            "warning",
            f"{_size(facts.size)}, about {_size(reckoned)} of which hold the rows that there are: "
            f'REINDEX INDEX CONCURRENTLY "{index.name}"',
        )
    if index.quantization == "none" and facts.field.storage == "vector" and facts.size > facts.shared_buffers / 2:
        half = hnsw_size(facts.field, facts.rows, "half", m)
        yield Advice(
            "note",
            f"{_size(facts.size)} beside shared_buffers of {_size(facts.shared_buffers)}: quantization='half' would take about "
            f"{_size(half)}, find as much within 0.003, and be searched as fast or faster; SQL of your own then has to order by "
            f"the half-precision expression too",
        )


def _size(size: float) -> str:
    for unit in ("bytes", "kB", "MB"):
        if size < 1_000:
            return f"{size:,.0f} {unit}"
        size /= 1_000
    return f"{size:,.1f} GB"
