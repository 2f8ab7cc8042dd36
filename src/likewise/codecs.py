"""How a domain object becomes a ``Record`` and comes back: ``Codec``, and codecs for dataclasses and pydantic models.

Used by ``TypedCollection``. No database, model or network enters here; pydantic is imported only by its own codec.
"""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import types
import typing
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, TypeVar, Union, get_args, get_origin, overload

from likewise.errors import InvalidArgument, InvalidRecord, OptionalDependencyError
from likewise.records import Record, SearchExplanation

if TYPE_CHECKING:
    from pydantic import BaseModel

__all__ = ["Codec", "DataclassCodec", "PydanticCodec", "TypedPage", "TypedResult", "TypedResults"]

T = TypeVar("T")
ModelT = TypeVar("ModelT", bound="BaseModel")


class Codec(Protocol[T]):
    """Turns objects into records and records into objects; ``decode(encode(x))`` equals ``x`` in every field that is stored."""

    def encode(self, item: T, /) -> Record:
        """The record that stores the object; ``InvalidRecord`` if it cannot be stored."""
        ...

    def decode(self, record: Record, /) -> T:
        """The object that the record stores; ``InvalidRecord`` if the record is not of this shape."""
        ...


@dataclasses.dataclass(frozen=True, slots=True)
class TypedResult(Generic[T]):
    """One object that was found; the numbers are those of ``SearchResult``, and ``record`` is what is stored."""

    item: T
    record: Record
    distance: float
    score: float
    similarity: float
    rank: int


class TypedResults(Sequence[TypedResult[T]]):
    """What a search found, best first; ``complete`` and ``explain()`` as in ``SearchResults``."""

    __slots__ = ("_explanation", "_results", "complete")

    def __init__(self, results: Sequence[TypedResult[T]], *, complete: bool, explanation: SearchExplanation) -> None:
        self._results = tuple(results)
        self.complete = complete
        self._explanation = explanation

    @property
    def items(self) -> list[T]:
        """The objects alone, best first."""
        return [result.item for result in self._results]

    def explain(self) -> SearchExplanation:
        """How the search was answered."""
        return self._explanation

    @overload
    def __getitem__(self, index: int) -> TypedResult[T]: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[TypedResult[T]]: ...
    def __getitem__(self, index: int | slice) -> TypedResult[T] | Sequence[TypedResult[T]]:
        return self._results[index]

    def __len__(self) -> int:
        return len(self._results)

    def __iter__(self) -> Iterator[TypedResult[T]]:
        return iter(self._results)

    def __repr__(self) -> str:
        shown = ", ".join(f"{r.record.id!r}: {r.score:.3f}" for r in self._results[:5])
        return f"<TypedResults [{shown}{', …' if len(self) > 5 else ''}] complete={self.complete}>"


class TypedPage(Sequence[T]):
    """One page of objects in the order of their ids; ``cursor`` asks for the next page and is None on the last one."""

    __slots__ = ("_items", "cursor")

    def __init__(self, items: Sequence[T], *, cursor: str | None) -> None:
        self._items = tuple(items)
        self.cursor = cursor

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[T]: ...
    def __getitem__(self, index: int | slice) -> T | Sequence[T]:
        return self._items[index]

    def __len__(self) -> int:
        return len(self._items)

    def __repr__(self) -> str:
        return f"<TypedPage of {len(self)}, cursor={self.cursor!r}>"


class _Fields(Generic[T]):
    """What both codecs share: which field is the id, which the content, which the vector or the picture."""

    def __init__(
        self,
        model: type[T],
        names: Sequence[str],
        *,
        id: str,  # noqa: A002 - it is the record's own word
        content: str | Callable[[T], str | None] | None,
        vector: str | None,
        image: str | None,
    ) -> None:
        self.model = model
        wanted = {"id": id, "content": content, "vector": vector, "image": image}
        for role, name in wanted.items():
            if isinstance(name, str) and name not in names:
                raise InvalidArgument(
                    f"{model.__name__} has no field {name!r:.80} for {role}=; its fields are: {', '.join(names)}"
                )
        self._id = id
        self._content = content
        self._vector = vector
        self._image = image
        #: Fields that have a place of their own in the record, and so none in the metadata. A computed content has none.
        self._placed = {name for name in wanted.values() if isinstance(name, str)}
        self.metadata_fields = tuple(name for name in names if name not in self._placed)

    def _record(self, item: T, metadata: Mapping[str, Any]) -> Record:
        content = self._content(item) if callable(self._content) else self._get(item, self._content)
        record_id = getattr(item, self._id)
        return Record(
            id=str(record_id) if isinstance(record_id, int | uuid.UUID) else record_id,
            vector=self._get(item, self._vector),
            metadata=metadata,
            content=content,
            image=self._get(item, self._image),
        )

    @staticmethod
    def _get(item: T, name: str | None) -> Any:
        return None if name is None else getattr(item, name)

    def _own(self, record: Record) -> dict[str, Any]:
        """The fields that live beside the metadata; a vector or picture that was not loaded is left to the model's default."""
        own: dict[str, Any] = {self._id: record.id}
        if isinstance(self._content, str):
            own[self._content] = record.content
        if self._vector is not None and record.vector is not None:
            own[self._vector] = record.vector
        return own


class DataclassCodec(_Fields[T]):
    """Stores dataclasses: one field is the id, one (or a function) the text, the rest is metadata.

    ``content`` names the field that holds the text, or is a function that makes it (title and body, for example); the text is
    embedded if the collection has an embedder. ``vector`` names a field with a vector of your own, ``image`` one with a picture,
    which is embedded and not stored. The other fields are stored as JSON and checked on the way back: text, numbers, booleans,
    None, lists, tuples, mappings with text keys, enumerations, dates, times, ``Decimal``, ``UUID``, ``Literal``, unions, and
    dataclasses within. A field that is missing from an older record takes its default.
    """

    def __init__(
        self,
        model: type[T],
        *,
        id: str = "id",  # noqa: A002 - it is the record's own word
        content: str | Callable[[T], str | None] | None = None,
        vector: str | None = None,
        image: str | None = None,
    ) -> None:
        given: object = model
        if not (isinstance(given, type) and dataclasses.is_dataclass(given)):
            raise InvalidArgument(f"DataclassCodec takes a dataclass, not {model!r:.80}")
        fields = [f.name for f in dataclasses.fields(given) if f.init]
        super().__init__(model, fields, id=id, content=content, vector=vector, image=image)
        self._types = typing.get_type_hints(model)

    def encode(self, item: T, /) -> Record:
        """The record that stores the object."""
        if not isinstance(item, self.model):
            raise InvalidRecord(f"expected a {self.model.__name__}, got {type(item).__name__}")
        try:
            metadata = {name: _to_json(getattr(item, name), name) for name in self.metadata_fields}
        except ValueError as error:
            raise InvalidRecord(f"{self.model.__name__} {getattr(item, self._id)!r:.80}: {error}") from error
        return self._record(item, metadata)

    def decode(self, record: Record, /) -> T:
        """The object that the record stores."""
        values = {name: record.metadata[name] for name in self.metadata_fields if name in record.metadata}
        values.update(self._own(record))
        try:
            return self.model(
                **{
                    name: value if name in (self._vector, self._image) else _from_json(value, self._types[name], name)
                    for name, value in values.items()
                }
            )
        except (TypeError, ValueError) as error:
            raise InvalidRecord(
                f"record {record.id!r:.80} is not a {self.model.__name__}: {error}", record_id=record.id
            ) from error


class PydanticCodec(_Fields[ModelT], Generic[ModelT]):
    """Stores pydantic models: one field is the id, one (or a function) the text, the rest is metadata, as pydantic serialises it.

    Parameters as for ``DataclassCodec``. Records are validated by the model when they come back.
    """

    def __init__(
        self,
        model: type[ModelT],
        *,
        id: str = "id",  # noqa: A002 - it is the record's own word
        content: str | Callable[[ModelT], str | None] | None = None,
        vector: str | None = None,
        image: str | None = None,
    ) -> None:
        try:
            import pydantic
        except ImportError as error:
            raise OptionalDependencyError("pydantic", extra="server") from error
        given: object = model
        if not (isinstance(given, type) and issubclass(given, pydantic.BaseModel)):
            raise InvalidArgument(f"PydanticCodec takes a pydantic model, not {model!r:.80}")
        super().__init__(model, list(model.model_fields), id=id, content=content, vector=vector, image=image)
        self._validation_error = pydantic.ValidationError

    def encode(self, item: ModelT, /) -> Record:
        """The record that stores the object."""
        if not isinstance(item, self.model):
            raise InvalidRecord(f"expected a {self.model.__name__}, got {type(item).__name__}")
        return self._record(item, item.model_dump(mode="json", include=set(self.metadata_fields), by_alias=False))

    def decode(self, record: Record, /) -> ModelT:
        """The object that the record stores."""
        values = {name: record.metadata[name] for name in self.metadata_fields if name in record.metadata}
        try:
            return self.model.model_validate({**values, **self._own(record)}, by_name=True, by_alias=True)
        except self._validation_error as error:
            raise InvalidRecord(
                f"record {record.id!r:.80} is not a {self.model.__name__}: {error}", record_id=record.id
            ) from error


# --- JSON for the fields of dataclasses --------------------------------------------------------------------------------------------


def _to_json(value: object, where: str) -> Any:
    """The field's value in JSON types; what JSON cannot hold and is not listed is left for the collection to refuse."""
    if isinstance(value, enum.Enum):
        return _to_json(value.value, where)
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, decimal.Decimal | uuid.UUID):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            f.name: _to_json(getattr(value, f.name), f"{where}.{f.name}") for f in dataclasses.fields(value) if f.init
        }
    if isinstance(value, Mapping):
        return {key: _to_json(item, f"{where}[{key!r}]") for key, item in value.items()}
    if isinstance(value, set | frozenset):
        return sorted((_to_json(item, where) for item in value), key=repr)
    if isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray | memoryview):
        return [_to_json(item, f"{where}[{i}]") for i, item in enumerate(value)]
    return value


_PARSERS: Mapping[type, Callable[[str], Any]] = {
    datetime.datetime: datetime.datetime.fromisoformat,
    datetime.date: datetime.date.fromisoformat,
    datetime.time: datetime.time.fromisoformat,
    decimal.Decimal: decimal.Decimal,
    uuid.UUID: uuid.UUID,
}


def _from_json(value: Any, kind: Any, where: str) -> Any:
    """The value as the field's type says; TypeError or ValueError, naming the place, if it is not."""
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is Any or isinstance(kind, TypeVar):
        return value
    if origin in (Union, types.UnionType):
        return _from_union(value, arguments, where)
    if origin is typing.Annotated:
        return _from_json(value, arguments[0], where)
    if origin is Literal:
        if not any(value == a and type(value) is type(a) for a in arguments):
            raise ValueError(f"{where} is {value!r:.80}, not one of {', '.join(map(repr, arguments))}")
        return value
    if kind is None or kind is type(None):
        return _expect(value, value is None, "null", where)
    container = origin or kind
    if isinstance(container, type):
        return _from_class(value, container, arguments, where)
    return value


def _from_union(value: Any, kinds: Sequence[Any], where: str) -> Any:
    problems = []
    for kind in kinds:
        try:
            return _from_json(value, kind, where)
        except (TypeError, ValueError) as error:
            problems.append(str(error))
    raise ValueError("; ".join(problems))


def _from_class(value: Any, kind: type, arguments: Sequence[Any], where: str) -> Any:
    if issubclass(kind, enum.Enum):
        return kind(value)
    if kind in _PARSERS:
        return _PARSERS[kind](_expect(value, isinstance(value, str), kind.__name__, where))
    if dataclasses.is_dataclass(kind):
        fields = _expect(value, isinstance(value, Mapping), kind.__name__, where)
        hints = typing.get_type_hints(kind)
        return kind(
            **{
                f.name: _from_json(fields[f.name], hints[f.name], f"{where}.{f.name}")
                for f in dataclasses.fields(kind)
                if f.init and f.name in fields
            }
        )
    if kind is float:
        return float(_expect(value, isinstance(value, int | float) and not isinstance(value, bool), "a number", where))
    if kind is int:
        return _expect(value, isinstance(value, int) and not isinstance(value, bool), "a whole number", where)
    if kind in (str, bool):
        return _expect(value, isinstance(value, kind), {str: "text", bool: "true or false"}[kind], where)
    if issubclass(kind, Mapping) or kind is dict:
        mapping = _expect(value, isinstance(value, Mapping), "an object", where)
        item_kind = arguments[1] if len(arguments) == 2 else Any
        return {key: _from_json(item, item_kind, f"{where}[{key!r}]") for key, item in mapping.items()}
    if kind in (list, tuple, set, frozenset) or issubclass(kind, Sequence):
        return _from_list(value, kind, arguments, where)
    return value


def _from_list(value: Any, kind: type, arguments: Sequence[Any], where: str) -> Any:
    items = _expect(value, isinstance(value, list), "a list", where)
    make: Callable[[list[Any]], Any] = kind if kind in (tuple, set, frozenset) else list
    if kind is tuple and arguments and arguments[-1] is not Ellipsis:
        _expect(value, len(items) == len(arguments), f"a list of {len(arguments)}", where)
        kinds: Sequence[Any] = arguments
    else:
        kinds = [arguments[0] if arguments else Any] * len(items)
    return make([_from_json(item, k, f"{where}[{i}]") for i, (item, k) in enumerate(zip(items, kinds, strict=True))])


def _expect(value: Any, holds: bool, what: str, where: str) -> Any:
    if not holds:
        raise TypeError(f"{where} is {value!r:.80}, not {what}")
    return value
