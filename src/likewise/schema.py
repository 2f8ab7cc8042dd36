"""What a collection looks like: ``CollectionSpec``, its vectors, and the plans of its indexes. No database enters here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Literal, TypeAlias, get_args

from likewise._json import text_problem
from likewise.calibration import Calibration
from likewise.errors import InvalidArgument
from likewise.metrics import Metric

__all__ = [
    "Advice",
    "Btree",
    "CollectionSpec",
    "EnsureMode",
    "Gin",
    "Hnsw",
    "IndexInfo",
    "IndexProgress",
    "IvfFlat",
    "MetadataIndex",
    "MetricName",
    "Quantization",
    "Storage",
    "VectorField",
    "VectorHealth",
    "VectorIndex",
    "check_name",
]

MetricName: TypeAlias = Literal["cosine", "l2", "inner_product"]
EnsureMode: TypeAlias = Literal["strict", "auto_migrate"]
#: How a vector is stored: float32 or half-precision numbers; "auto" is float32 up to 2,000 dimensions, half above.
Storage: TypeAlias = Literal["auto", "vector", "halfvec"]
#: What an index holds of each vector: all of it, half-precision numbers, or one bit a number with exact re-ranking.
Quantization: TypeAlias = Literal["none", "half", "binary"]

MAX_DIMENSION = 16_000
#: Above this many dimensions pgvector indexes half-precision vectors only.
MAX_FULL_PRECISION_INDEXED = 2_000
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_MAX_NAME = 63


def check_name(name: object, what: str, *, longest: int = _MAX_NAME) -> str:
    """The name, if it can name a collection or vector on every backend; ``InvalidArgument`` otherwise."""
    if not isinstance(name, str) or not _NAME.match(name) or len(name) > longest:
        raise InvalidArgument(
            f"{name!r:.80} cannot name a {what}: use letters of the English alphabet, digits and underscores, "
            f"a letter or an underscore first, at most {longest} in all"
        )
    return name


def _check_choice(value: object, choices: tuple[str, ...], what: str) -> None:
    if value not in choices:
        raise InvalidArgument(f"{what} is {value!r:.80}; it must be one of: {', '.join(choices)}")


def _check_int(value: object, low: int, high: int, what: str) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise InvalidArgument(f"{what} is {value!r:.80}; it must be a whole number from {low:,} to {high:,}")


@dataclass(frozen=True, slots=True)
class VectorField:
    """One vector of a collection's records: its dimension, metric and storage."""

    dimension: int
    metric: MetricName | Metric = "cosine"
    storage: Storage = "auto"

    def __post_init__(self) -> None:
        _check_int(self.dimension, 1, MAX_DIMENSION, "dimension")
        _check_choice(self.metric, tuple(Metric), "metric")
        _check_choice(self.storage, get_args(Storage), "storage")
        object.__setattr__(self, "metric", Metric(self.metric))
        if self.storage == "auto":
            storage: Storage = "vector" if self.dimension <= MAX_FULL_PRECISION_INDEXED else "halfvec"
            object.__setattr__(self, "storage", storage)


@dataclass(frozen=True, slots=True)
class CollectionSpec:
    """A collection as it should be.

    Either ``dimension`` (one vector, in the column ``vector``), or ``vectors`` (named ones, in ``vector_<name>``), or both, or
    an ``embedder``, whose dimension is then the collection's. Every record has the first; named vectors may be missing from a
    record, as long as it has one vector. ``multimodal`` collections store each record's ``modality`` and ``content_id``; by default they
    are those whose embedder knows both text and images.

    ``calibration`` makes similarities of the scores of the collection's own vector (``docs/explanation/similarity.md``). ``"model"`` takes that of the
    embedder's card when the collection is created, and what is stored after that; None keeps to scores.

    ``mode`` says what ``ensure_collection`` does with a table that differs: ``strict`` raises ``SchemaMismatch``, ``auto_migrate``
    adds the optional columns that are missing. A different dimension or metric is an error in both.
    """

    name: str
    dimension: int | None = None
    metric: MetricName | Metric = "cosine"
    mode: EnsureMode = "strict"
    vectors: Mapping[str, VectorField] = field(default_factory=lambda: MappingProxyType({}), kw_only=True)
    embedder: str | None = field(default=None, kw_only=True)
    storage: Storage = field(default="auto", kw_only=True)
    multimodal: bool | None = field(default=None, kw_only=True)
    calibration: Calibration | Literal["model"] | None = field(default="model", kw_only=True)
    _fields: Mapping[str, VectorField] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_name(self.name, "collection")
        _check_choice(self.metric, tuple(Metric), "metric")
        object.__setattr__(self, "metric", Metric(self.metric))
        _check_choice(self.mode, get_args(EnsureMode), "mode")
        _check_choice(self.storage, get_args(Storage), "storage")
        if self.dimension is not None:
            _check_int(self.dimension, 1, MAX_DIMENSION, "dimension")
        for name, vector in self.vectors.items():
            check_name(name, "vector", longest=_MAX_NAME - len("vector_"))
            if not isinstance(vector, VectorField):
                raise InvalidArgument(f"vectors[{name!r}] is a {type(vector).__name__}; it must be a VectorField")
        object.__setattr__(self, "vectors", MappingProxyType(dict(self.vectors)))
        if self.embedder is not None and (not isinstance(self.embedder, str) or not self.embedder):
            raise InvalidArgument(f"embedder is {self.embedder!r:.80}; it must be a model's name")
        calibration: object = self.calibration
        if calibration is not None and calibration != "model" and not isinstance(calibration, Calibration):
            raise InvalidArgument(f"calibration is {calibration!r:.80}; it must be a Calibration, 'model' or None")
        own = {} if self.dimension is None else {"": VectorField(self.dimension, self.metric, self.storage)}
        object.__setattr__(self, "_fields", MappingProxyType({**own, **self.vectors}))
        if isinstance(calibration, Calibration) and self.dimension is None and self.embedder is None:
            raise InvalidArgument(
                f"collection {self.name!r} has named vectors only; a calibration is for the vector that is the collection's own"
            )
        if self.dimension is None and not self.vectors and self.embedder is None:
            raise InvalidArgument(
                f"collection {self.name!r} has no vector: give a dimension, named vectors, or an embedder (for example 'mini')"
            )

    @property
    def vector_fields(self) -> Mapping[str, VectorField]:
        """Every vector by name; the collection's own vector has the empty name and comes first."""
        return self._fields

    def vector_field(self, using: str | None) -> tuple[str, VectorField]:
        """The name and field of the vector to search: the named one, else the collection's own, else the only one."""
        fields = self.vector_fields
        if using is not None:
            if using not in fields or not using:
                known = ", ".join(repr(n) for n in fields if n) or "none: leave `using` out"
                raise InvalidArgument(f"collection {self.name!r} has no vector named {using!r}; there are: {known}")
            return using, fields[using]
        if "" in fields:
            return "", fields[""]
        if len(fields) == 1:
            return next(iter(fields.items()))
        raise InvalidArgument(
            f"collection {self.name!r} has several vectors; say which with using=: {', '.join(repr(n) for n in fields)}"
        )

    def resolved(self, *, dimension: int, multimodal: bool) -> CollectionSpec:
        """This specification with what its embedder's card adds; ``InvalidArgument`` where the two disagree."""
        if self.dimension is not None and self.dimension != dimension:
            raise InvalidArgument(
                f"collection {self.name!r} asks for dimension {self.dimension}, but its embedder {self.embedder!r} makes vectors "
                f"of dimension {dimension}; leave the dimension out"
            )
        return replace(self, dimension=dimension, multimodal=multimodal if self.multimodal is None else self.multimodal)

    def to_json(self) -> dict[str, Any]:
        """The specification as JSON, as it is stored beside the collection."""
        return {
            "name": self.name,
            "dimension": self.dimension,
            "metric": str(self.metric),
            "storage": self.storage,
            "embedder": self.embedder,
            "multimodal": bool(self.multimodal),
            "calibration": self.calibration.to_dict() if isinstance(self.calibration, Calibration) else None,
            "vectors": {
                name: {"dimension": v.dimension, "metric": str(v.metric), "storage": v.storage}
                for name, v in self.vectors.items()
            },
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> CollectionSpec:
        """The specification that ``to_json`` wrote."""
        return cls(
            data["name"],
            dimension=data["dimension"],
            metric=data["metric"],
            storage=data["storage"],
            embedder=data["embedder"],
            multimodal=data["multimodal"],
            calibration=None if (found := data.get("calibration")) is None else Calibration.from_dict(found),
            vectors={name: VectorField(**v) for name, v in data["vectors"].items()},
        )


@dataclass(frozen=True, slots=True)
class Hnsw:
    """A hierarchical navigable small world index (Malkov and Yashunin, 2016), with pgvector's defaults.

    ``quantization`` says what the index holds: ``none`` the numbers as stored, ``half`` half-precision numbers, ``binary`` one bit
    a number, whose nearest are re-ranked by their true distance.
    """

    m: int = 16
    ef_construction: int = 64
    quantization: Quantization = "none"
    name: str | None = None

    def __post_init__(self) -> None:
        _check_int(self.m, 2, 100, "m")
        _check_int(self.ef_construction, 4, 1000, "ef_construction")
        if self.ef_construction < 2 * self.m:
            raise InvalidArgument(
                f"ef_construction is {self.ef_construction}; it must be at least twice m ({2 * self.m})"
            )
        _check_choice(self.quantization, get_args(Quantization), "quantization")
        if self.name is not None:
            check_name(self.name, "index")


@dataclass(frozen=True, slots=True)
class IvfFlat:
    """An inverted-file index: faster to build than HNSW, slower to search at equal recall. Build it when the data is there.

    ``lists="auto"`` takes one list for every 1,000 rows that there are when it is built, and the square root of the rows from a million
    on, as pgvector's authors advise.
    """

    lists: int | Literal["auto"] = 100
    quantization: Quantization = "none"
    name: str | None = None

    def __post_init__(self) -> None:
        if self.lists != "auto":
            _check_int(self.lists, 1, 32_768, "lists")
        _check_choice(self.quantization, get_args(Quantization), "quantization")
        if self.name is not None:
            check_name(self.name, "index")


@dataclass(frozen=True, slots=True)
class Gin:
    """A GIN index on the metadata: for equality, membership (up to 16 values) and containment.

    With ``path_ops`` it is smaller and quicker to search, and does not serve ``Exists``.
    """

    path_ops: bool = False
    name: str | None = None

    def __post_init__(self) -> None:
        if self.name is not None:
            check_name(self.name, "index")


@dataclass(frozen=True, slots=True, init=False)
class Btree:
    """An index on one key of the metadata, for comparisons of numbers: ``Btree("price")``, or ``Btree("size", "height")`` for a key within.

    Rows where the key holds something else are not in it.
    """

    path: tuple[str, ...]
    name: str | None

    def __init__(self, *path: str, name: str | None = None) -> None:
        if not path or not all(isinstance(key, str) and key for key in path):
            raise InvalidArgument(f"Btree needs the name of a key, or several that lead to it; got {path!r:.80}")
        for key in path:
            if problem := text_problem(key):
                raise InvalidArgument(f"the key {key!r:.80} {problem}")
        if name is not None:
            check_name(name, "index")
        object.__setattr__(self, "path", path)
        object.__setattr__(self, "name", name)


VectorIndex: TypeAlias = Hnsw | IvfFlat
MetadataIndex: TypeAlias = Gin | Btree


@dataclass(frozen=True, slots=True)
class IndexProgress:
    """How far the building of an index is.

    ``phase`` is the server's word for what it does (``building index: loading tuples``), and ``done`` at the end; ``done`` and ``total``
    count pages of the table, or rows, as the phase has it, and are 0 where the server does not count.
    """

    index: str
    phase: str
    done: int = 0
    total: int = 0


@dataclass(frozen=True, slots=True)
class Advice:
    """A sentence about an index: a ``warning`` says what to do, a ``note`` what could be done or need not be."""

    status: Literal["note", "warning"]
    text: str


@dataclass(frozen=True, slots=True)
class IndexInfo:
    """An index that exists: its name, method (``hnsw``, ``ivfflat``, ``gin``, ``btree``), and for a vector index its field and quantisation."""

    name: str
    method: str
    vector: str | None = None
    quantization: Quantization = "none"
    valid: bool = True
    definition: str = ""


@dataclass(frozen=True, slots=True)
class VectorHealth:
    """How one vector of a collection is served: its index and the bytes that takes, and what a search finds by it.

    ``vector`` is the vector's name, empty for the collection's own. ``recall`` is recall@10 as searched by default, measured on stored
    vectors, and ``dial`` the ``ef_search`` or ``probes`` of that; None where there is no index. ``rows`` is about how many there are.
    """

    vector: str
    rows: int
    index: IndexInfo | None = None
    size: int = 0
    recall: float | None = None
    dial: int | None = None
    advice: tuple[Advice, ...] = ()
