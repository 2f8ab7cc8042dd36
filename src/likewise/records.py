"""What is stored and what is found: ``Record``, ``SearchResult``, and the lists of them that calls return.

No database, model or filter enters this module. Validation against a collection is in ``likewise.abc.validation``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, overload

from likewise._json import json_equal
from likewise.errors import LikewiseError

if TYPE_CHECKING:
    import os

    import numpy as np
    import PIL.Image
    from numpy.typing import NDArray

__all__ = [
    "Include",
    "IncludeField",
    "LoadPhase",
    "LoadProgress",
    "LoadReport",
    "Page",
    "Record",
    "RejectedRecord",
    "SearchExplanation",
    "SearchResult",
    "SearchResults",
    "VectorInput",
]

#: A vector as callers may give it: a sequence of numbers or a one-dimensional numpy array.
VectorInput: TypeAlias = "Sequence[float] | NDArray[np.floating[Any]] | NDArray[np.integer[Any]]"

IncludeField: TypeAlias = Literal["vector", "metadata", "content"]
Include: TypeAlias = "Sequence[IncludeField]"


#: The empty mapping that records without metadata share.
NOTHING: Mapping[str, Any] = MappingProxyType({})


def _nothing() -> Mapping[str, Any]:
    return NOTHING


@dataclass(frozen=True, slots=True, eq=False)
class Record:
    """One stored thing: an id, one or more vectors, JSON metadata and, if wanted, its text.

    ``vector`` is the collection's own vector, ``vectors`` the named ones of a collection that has several. Records that come back
    from a collection carry float32 numpy arrays, and only when ``include`` asked for ``"vector"``; metadata and content that were
    not asked for are empty.

    ``image`` (a path, a file's bytes or a Pillow image) and ``content`` are embedded on the way in when no vector is given and
    the collection has an embedder; a record with both is placed by its picture and keeps its text. The picture itself is not
    stored. ``modality`` and ``content_id`` exist in multimodal collections: ``content_id`` names the thing that several records
    (a product's picture, its description) are about, and is the record's own id unless given.
    """

    id: str
    vector: VectorInput | None = None
    metadata: Mapping[str, Any] = field(default_factory=_nothing)
    content: str | None = None
    vectors: Mapping[str, VectorInput] = field(default_factory=_nothing, kw_only=True)
    image: bytes | str | os.PathLike[str] | PIL.Image.Image | None = field(default=None, kw_only=True)
    modality: Literal["text", "image"] | None = field(default=None, kw_only=True)
    content_id: str | None = field(default=None, kw_only=True)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Record):
            return NotImplemented
        return (
            (self.id, self.content, self.modality, self.content_id)
            == (other.id, other.content, other.modality, other.content_id)
            and self.image is other.image
            and json_equal(dict(self.metadata), dict(other.metadata))
            and _same_vector(self.vector, other.vector)
            and self.vectors.keys() == other.vectors.keys()
            and all(_same_vector(v, other.vectors[k]) for k, v in self.vectors.items())
        )

    def __hash__(self) -> int:
        return hash(self.id)


def _same_vector(left: VectorInput | None, right: VectorInput | None) -> bool:
    if left is None or right is None:
        return left is right
    return len(left) == len(right) and all(float(a) == float(b) for a, b in zip(left, right, strict=True))


@dataclass(frozen=True, slots=True)
class SearchResult:
    """One record that was found.

    ``distance`` is the metric's (smaller is nearer), ``score`` follows from it (larger is better), ``similarity`` is the score on
    a scale of 0..1 for thresholds, ``rank`` counts from 1.
    """

    record: Record
    distance: float
    score: float
    similarity: float
    rank: int

    @property
    def id(self) -> str:
        """The record's id."""
        return self.record.id


# A frozen dataclass sets each attribute by a call that looks it up first; for the records of a search that was a tenth of a
# millisecond's work. What the backend has checked is put in place directly.
_new = object.__new__
_put_id, _put_vector, _put_metadata, _put_content, _put_vectors, _put_image, _put_modality, _put_content_id = (
    getattr(Record, name).__set__
    for name in ("id", "vector", "metadata", "content", "vectors", "image", "modality", "content_id")
)
_put_record, _put_distance, _put_score, _put_similarity, _put_rank = (
    getattr(SearchResult, name).__set__ for name in ("record", "distance", "score", "similarity", "rank")
)


def stored_record(record_id: str, metadata: Mapping[str, Any], content: str | None) -> Record:
    """``Record(record_id, None, metadata, content)``, made quickly."""
    record = _new(Record)
    _put_id(record, record_id)
    _put_vector(record, None)
    _put_metadata(record, metadata)
    _put_content(record, content)
    _put_vectors(record, NOTHING)
    _put_image(record, None)
    _put_modality(record, None)
    _put_content_id(record, None)
    return record


def found_record(record: Record, distance: float, score: float, rank: int) -> SearchResult:
    """``SearchResult`` with the similarity that follows from the score, made quickly."""
    result = _new(SearchResult)
    _put_record(result, record)
    _put_distance(result, distance)
    _put_score(result, score)
    _put_similarity(result, 0.0 if score < 0.0 else min(score, 1.0))
    _put_rank(result, rank)
    return result


@dataclass(frozen=True, slots=True)
class SearchExplanation:
    """How a search was answered.

    ``plan`` is ``exact`` (every matching row was compared), ``approximate`` (an index answered), ``approximate, then exact`` (the
    index found too few, so the search was answered again exactly) or ``fused``; ``index`` names the index that was offered, which the
    server's planner may have declined for a plan that compares every matching row; ``settings`` are those of the server that were in
    force for the search; ``legs`` are the parts of a fused search by the name of their vector.

    A filtered search of an indexed vector is planned: ``estimated`` is how many records the filter was thought to match, ``matching`` how
    many do, where they were counted. ``by`` says who answered where there is a choice: ``replica``, or ``database: …``
    with the reason; of a fused search the legs say it where they differ.
    """

    plan: str
    index: str | None = None
    settings: Mapping[str, str] = field(default_factory=_nothing)
    legs: Mapping[str, SearchExplanation] = field(default_factory=_nothing)
    estimated: int | None = None
    matching: int | None = None
    by: str | None = None

    def __post_init__(self) -> None:
        # The settings are those of a statement that other searches say too.
        if not isinstance(self.settings, MappingProxyType):
            object.__setattr__(self, "settings", MappingProxyType(self.settings))


class SearchResults(Sequence[SearchResult]):
    """What a search found, best first.

    ``complete`` speaks of how many there are: it is true unless the list is shorter than ``top_k`` and the backend could not make
    sure that nothing else matches. Which records they are may still be approximate; ``Collection.recall`` measures that.
    """

    __slots__ = ("_explanation", "_results", "complete")

    def __init__(self, results: Sequence[SearchResult], *, complete: bool, explanation: SearchExplanation) -> None:
        self._results = tuple(results)
        self.complete = complete
        self._explanation = explanation

    def explain(self) -> SearchExplanation:
        """How the search was answered."""
        return self._explanation

    @overload
    def __getitem__(self, index: int) -> SearchResult: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[SearchResult]: ...
    def __getitem__(self, index: int | slice) -> SearchResult | Sequence[SearchResult]:
        return self._results[index]

    def __len__(self) -> int:
        return len(self._results)

    def __iter__(self) -> Iterator[SearchResult]:
        return iter(self._results)

    def __repr__(self) -> str:
        shown = ", ".join(f"{r.record.id!r}: {r.score:.3f}" for r in self._results[:5])
        more = ", …" if len(self._results) > 5 else ""
        return f"<SearchResults [{shown}{more}] complete={self.complete} plan={self._explanation.plan!r}>"


LoadPhase: TypeAlias = Literal["rows", "move", "index", "done"]


@dataclass(frozen=True, slots=True)
class LoadProgress:
    """How far a call that writes many records is.

    ``phase`` is ``rows`` while records are read and sent, ``move`` while the server puts what was staged in its place, ``index`` while a
    vector index is built, and ``done``; ``rows`` is how many records have been read.
    """

    phase: LoadPhase
    rows: int


@dataclass(frozen=True, slots=True)
class RejectedRecord:
    """A record that a load did not store: its place (from 0) in the input, its id where it has one, and what is wrong with it."""

    position: int
    id: str | None
    error: LikewiseError


@dataclass(frozen=True, slots=True)
class LoadReport:
    """What a load did.

    ``read`` is how many records this call took from the input, ``written`` how many ids it stored, part by part; ``rejected`` are the
    records that it did not store. ``resumed_at`` is the place in the input at which it began: 0, or where an earlier call ended.
    """

    read: int
    written: int
    rejected: tuple[RejectedRecord, ...] = ()
    resumed_at: int = 0


class Page(Sequence[Record]):
    """One page of a listing, in the order of ids; ``cursor`` asks for the next page and is None on the last one."""

    __slots__ = ("_records", "cursor")

    def __init__(self, records: Sequence[Record], *, cursor: str | None) -> None:
        self._records = tuple(records)
        self.cursor = cursor

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Record]: ...
    def __getitem__(self, index: int | slice) -> Record | Sequence[Record]:
        return self._records[index]

    def __len__(self) -> int:
        return len(self._records)

    def __repr__(self) -> str:
        return f"<Page of {len(self._records)} records, cursor={self.cursor!r}>"
