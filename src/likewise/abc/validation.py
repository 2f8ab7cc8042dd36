"""Checks what callers give, once, for every backend: records against a collection's specification, and search arguments.

Pure functions over values; no database enters here. Each refusal names the record, the place and the cure.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, cast, get_args

from likewise._json import JsonValue, dumps, normalise, text_problem
from likewise.abc.columns import Columns
from likewise.abc.embedder import Modality
from likewise.abc.frames import columns_of_frame, frame_kind
from likewise.errors import DimensionMismatch, InvalidArgument, InvalidRecord
from likewise.metrics import Metric
from likewise.records import Include, IncludeField, Record, VectorInput
from likewise.schema import CollectionSpec, VectorField

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "MAX_ID_LENGTH",
    "MAX_TOP_K",
    "Prepared",
    "as_ids",
    "as_records",
    "check_ef_search",
    "check_include",
    "check_limit",
    "check_query",
    "check_recall",
    "check_top_k",
    "check_weights",
    "chunks",
    "distance_limit",
    "prepare",
]

#: The longest id, in characters: what the shortest key of any backend holds.
MAX_ID_LENGTH = 450
MAX_TOP_K = 100_000
#: Numbers are float32; beyond this their squares overflow, and below it they vanish, inside the distance functions.
LARGEST = 1e15
SMALLEST_NORM = 1e-15
LARGEST_HALF = 65_504.0

_USUAL: Include = ("metadata", "content")
_USUAL_SET: frozenset[IncludeField] = frozenset({"metadata", "content"})

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Prepared:
    """A record that has passed every check: vectors are float32 arrays by name, metadata is plain JSON and its text."""

    id: str
    vectors: Mapping[str, NDArray[np.float32]]
    metadata: dict[str, JsonValue]
    metadata_json: str
    content: str | None
    modality: Modality | None
    content_id: str | None
    #: What the collection's own vector was embedded from, as ``digests`` has it; None if it was given.
    embedded: bytes | None = None


def chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """The items in lists of at most ``size``."""
    batch: list[T] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def as_records(records: object) -> Iterable[Record]:
    """Records, where one record alone may be given too, or rows by column, or a table of another library."""
    if isinstance(records, Record):
        return (records,)
    if isinstance(records, Columns):
        return records.records()
    if frame_kind(records) is not None:
        return (record for columns in columns_of_frame(records) for record in columns.records())
    if isinstance(records, str | bytes | Mapping) or not isinstance(records, Iterable):
        raise InvalidArgument(
            f"expected records, got {type(records).__name__}: give Record objects, one or any iterable of them, or a table of pyarrow, "
            "pandas or polars"
        )
    return records


def as_ids(ids: str | Iterable[str]) -> list[str]:
    """Ids, where one id alone may be given too; each once, in the order given."""
    if isinstance(ids, str):
        ids = (ids,)
    elif not isinstance(ids, Iterable):
        raise InvalidArgument(f"ids is a {type(ids).__name__}; give an id or any iterable of ids")
    unique = dict.fromkeys(ids)
    for record_id in unique:
        if not isinstance(record_id, str):
            raise InvalidArgument(f"an id is text, not {type(record_id).__name__}")
        if problem := text_problem(record_id):
            raise InvalidArgument(f"the id {record_id!r:.80} {problem}")
    return list(unique)


def prepare(record: object, spec: CollectionSpec, position: int) -> Prepared:
    """The record, checked against the specification and normalised. ``position`` counts from 0 in the records of the call."""
    if not isinstance(record, Record):
        raise InvalidRecord(f"record {position} is a {type(record).__name__}, not a Record", position=position)
    record_id = _check_id(record.id, position)

    def refuse(problem: str) -> NoReturn:
        raise InvalidRecord(
            f"record {record_id!r:.80} (number {position}): {problem}", record_id=record_id, position=position
        )

    if not isinstance(record.metadata, Mapping):
        refuse(f"metadata is a {type(record.metadata).__name__}; it must be a mapping such as {{'lang': 'en'}}")
    try:
        metadata = cast("dict[str, JsonValue]", normalise(record.metadata, where="metadata"))
    except ValueError as error:
        raise InvalidRecord(
            f"record {record_id!r:.80} (number {position}): {error}", record_id=record_id, position=position
        ) from error
    for name, value in (("content", record.content), ("content_id", record.content_id)):
        if value is not None and not isinstance(value, str):
            refuse(f"{name} is a {type(value).__name__}; it must be text or None")
        if value is not None and (problem := text_problem(value)):
            refuse(f"{name} {problem}")
    modality, content_id = _multimodal(record, spec, refuse)
    return Prepared(
        id=record_id,
        vectors=_vectors(record, spec, record_id, position, refuse),
        metadata=metadata,
        metadata_json=dumps(metadata),
        content=_plain(record.content),
        modality=modality,
        content_id=_plain(content_id),
    )


def _plain(text: str | None) -> str | None:
    """The text without what a subclass of str adds: such texts may have a hash, or a form, of their own."""
    return None if text is None else str.__str__(text)


def _check_id(record_id: object, position: int) -> str:
    if not isinstance(record_id, str):
        raise InvalidRecord(
            f"record {position} has an id of type {type(record_id).__name__}; an id is text", position=position
        )
    problem = None
    if not record_id:
        problem = "has an empty id"
    elif len(record_id) > MAX_ID_LENGTH:
        problem = f"has an id of {len(record_id):,} characters; at most {MAX_ID_LENGTH} are allowed"
    elif what := text_problem(record_id):
        problem = f"has an id that {what}"
    if problem:
        raise InvalidRecord(f"record {position} {problem}", record_id=record_id[:80], position=position)
    return str.__str__(record_id)


def _multimodal(record: Record, spec: CollectionSpec, refuse: Any) -> tuple[Modality | None, str | None]:
    if not spec.multimodal:
        if record.modality is not None or record.content_id is not None:
            refuse(
                f"collection {spec.name!r} is not multimodal, so modality and content_id cannot be stored; put them in metadata"
            )
        return None, None
    modality: Modality = record.modality or ("image" if record.image is not None else "text")
    known: tuple[Modality, ...] = get_args(Modality)
    if modality not in known:
        refuse(f"modality is {modality!r:.80}; it must be 'text' or 'image'")
    return known[known.index(modality)], record.content_id if record.content_id is not None else record.id


def _vectors(
    record: Record, spec: CollectionSpec, record_id: str, position: int, refuse: Any
) -> dict[str, NDArray[np.float32]]:
    fields = spec.vector_fields
    given: dict[str, VectorInput] = dict(record.vectors)
    if "" in given:
        refuse("vectors has an empty name; the collection's own vector goes in `vector`")
    if record.vector is not None:
        given[""] = record.vector
    for name in given:
        if name not in fields:
            known = ", ".join(repr(n) if n else "`vector`" for n in fields)
            refuse(
                f"collection {spec.name!r} has no {f'vector {name!r:.80}' if name else 'unnamed `vector`'}; it has: {known}"
            )
    if "" in fields and "" not in given:
        cure = "" if spec.embedder is None else " and neither content nor image to embed"
        refuse(f"it has no vector{cure}")
    if not given:
        refuse(f"it has none of the collection's vectors: {', '.join(repr(n) for n in fields)}")
    result = {}
    for name, value in given.items():
        what = f"vector {name!r}" if name else "vector"
        array, problem = _as_array(value, fields[name])
        if problem:
            refuse(f"its {what} {problem}")
        if array.shape[0] != fields[name].dimension:
            raise DimensionMismatch(
                f"record {record_id!r:.80} (number {position}): its {what} has dimension {array.shape[0]}, "
                f"collection {spec.name!r} has {fields[name].dimension}",
                expected=fields[name].dimension,
                actual=int(array.shape[0]),
                record_id=record_id,
                position=position,
            )
        result[name] = array
    return result


def _as_array(value: object, field: VectorField) -> tuple[NDArray[np.float32], str | None]:
    """The numbers as float32 and what is wrong with them, if anything is. The dimension is checked by the caller."""
    import numpy as np

    if type(value) is np.ndarray and value.dtype == np.float32 and value.ndim == 1 and field.storage == "vector":
        # The usual case in one pass: a sum of squares in range proves that every number is finite and none too large or all too small.
        array: NDArray[np.float32] = value.astype(np.float32)
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            squares = float(np.dot(array, array))
        if SMALLEST_NORM**2 < squares < LARGEST**2:
            array.flags.writeable = False
            return array, None
    nothing = np.empty(0, np.float32)
    if isinstance(value, str | bytes | Mapping):
        return nothing, f"is a {type(value).__name__}; it must be a sequence of numbers"
    try:
        given = np.asarray(value)
    except (TypeError, ValueError, OverflowError) as error:
        return nothing, f"is not a sequence of numbers ({error})"
    if given.ndim != 1:
        return nothing, f"has {given.ndim} dimensions of array; one is needed"
    if given.dtype.kind not in "fiu" and given.size:
        return nothing, f"holds {given.dtype.name} values; it must hold numbers"
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        array = given.astype(np.float32)
        squares = float(array @ array)  # proves the same as above
        if field.storage == "vector" and SMALLEST_NORM**2 < squares < LARGEST**2:
            array.flags.writeable = False
            return array, None
        if not np.isfinite(array).all():
            at = int(np.flatnonzero(~np.isfinite(array))[0])
            return nothing, f"has {given[at]!s} at position {at}; numbers must be finite and fit float32"
        largest = float(np.abs(array).max(initial=0.0))
        if field.storage == "halfvec":
            if largest > LARGEST_HALF:
                return (
                    nothing,
                    f"has a number of {largest:g}; half precision holds up to {LARGEST_HALF:g}: use storage='vector'",
                )
            array = array.astype(np.float16).astype(np.float32)
        if largest > LARGEST:
            return nothing, f"has a number of {largest:g}; beyond {LARGEST:g} distances overflow"
        if field.metric == Metric.COSINE and array.size and float(np.linalg.norm(array)) < SMALLEST_NORM:
            return nothing, "is zero (or too near it), and the cosine of a zero vector is not defined"
    array.flags.writeable = False
    return array, None


def check_query(
    vector: VectorInput, spec: CollectionSpec, using: str | None
) -> tuple[str, VectorField, NDArray[np.float32]]:
    """The vector field to search, its name, and the query vector as float32."""
    name, field = spec.vector_field(using)
    array, problem = _as_array(vector, field)
    if problem:
        raise InvalidArgument(f"the query vector {problem}")
    if array.shape[0] != field.dimension:
        raise DimensionMismatch(
            f"the query vector has dimension {array.shape[0]}, "
            f"{f'vector {name!r} of ' if name else ''}collection {spec.name!r} has {field.dimension}",
            expected=field.dimension,
            actual=int(array.shape[0]),
        )
    return name, field, array


def check_top_k(top_k: object) -> int:
    """``top_k``, if it is a whole number from 1 to ``MAX_TOP_K``."""
    return _check_count(top_k, "top_k", MAX_TOP_K)


def check_limit(limit: object, what: str = "limit") -> int:
    """The number, if it is a whole one from 1 to ``MAX_TOP_K``."""
    return _check_count(limit, what, MAX_TOP_K)


def _check_count(value: object, what: str, most: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
        raise InvalidArgument(f"{what} is {value!r:.80}; it must be a whole number from 1 to {most:,}")
    return value


def check_ef_search(ef_search: object) -> int | None:
    """``ef_search``, if it is None or a whole number from 1 to 1,000, which is what pgvector allows."""
    return None if ef_search is None else _check_count(ef_search, "ef_search", 1_000)


def check_recall(recall: object, ef_search: object) -> float | None:
    """``recall``, if it is None or a number above 0 and up to 1, and ``ef_search`` does not say the same in other words."""
    if recall is None:
        return None
    if isinstance(recall, bool) or not isinstance(recall, int | float) or not 0 < recall <= 1:
        raise InvalidArgument(f"recall is {recall!r:.80}; it must be a number above 0 and up to 1, such as 0.95")
    if ef_search is not None:
        raise InvalidArgument("recall and ef_search both say how hard to look: give one of them")
    return float(recall)


def distance_limit(metric: Metric, max_distance: float | None, min_score: float | None) -> float | None:
    """The largest distance that both limits allow, None without a limit."""
    limits = []
    for name, value in (("max_distance", max_distance), ("min_score", min_score)):
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
            raise InvalidArgument(f"{name} is {value!r:.80}; it must be a number")
        limits.append(float(value) if name == "max_distance" else metric.max_distance(float(value)))
    return min(limits) if limits else None


def check_weights(vectors: Mapping[str, VectorInput], weights: Mapping[str, float] | None) -> dict[str, float]:
    """The weight of each ranking of a fused search: 1 unless given, positive and finite."""
    if not isinstance(vectors, Mapping) or not vectors:
        raise InvalidArgument("search_by_vectors needs at least one vector by its name: {'text': […], 'picture': […]}")
    given = dict(weights or {})
    if unknown := [name for name in given if name not in vectors]:
        raise InvalidArgument(f"weights name {unknown[0]!r:.80}, for which no vector is given")
    for name, weight in given.items():
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight < math.inf:
            raise InvalidArgument(f"the weight of {name!r:.80} is {weight!r:.80}; it must be a positive number")
    return {name: float(given.get(name, 1.0)) for name in vectors}


def check_include(include: Include) -> frozenset[IncludeField]:
    """What to return with each record, if it is a selection of ``vector``, ``metadata`` and ``content``."""
    if include == _USUAL:
        return _USUAL_SET
    known = get_args(IncludeField)
    if (
        isinstance(include, str)
        or not isinstance(include, Sequence | set | frozenset)
        or any(i not in known for i in include)
    ):
        raise InvalidArgument(f"include is {include!r:.80}; it must be a list of some of: {', '.join(known)}")
    return frozenset(include)
