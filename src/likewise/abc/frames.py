"""Tables of other libraries as rows by column: pyarrow's Table, RecordBatch and RecordBatchReader, DataFrames of pandas and polars.

None of the three is imported: an object is known by the modules of its classes, and what is used of it are its own methods. Vectors that
lie together in memory (FixedSizeList, Array, numpy arrays of one length) become one array; no Python object is made per number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from likewise.abc.columns import Columns
from likewise.errors import InvalidArgument

__all__ = ["FRAME_ROWS", "Frame", "columns_of_frame", "frame_kind"]

#: So many rows of a table are converted together.
FRAME_ROWS = 10_000

_TEXTS = ("content", "modality", "content_id")
_ROLES = ("id", "vector", "vector_<name>", "metadata", *_TEXTS)
_KINDS = {
    ("pyarrow", "Table"): "arrow table",
    ("pyarrow", "RecordBatch"): "arrow table",
    ("pyarrow", "RecordBatchReader"): "arrow reader",
    ("pandas", "DataFrame"): "pandas",
    ("polars", "DataFrame"): "polars",
    ("polars", "LazyFrame"): "lazy",
}


class Frame(Protocol):
    """A table of pyarrow, pandas or polars: what these have in common for type checkers."""

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        """Arrow's own interface between libraries; not used here."""


class _Slice(Protocol):
    """Some rows of a table, in the words of this module."""

    def __len__(self) -> int: ...

    def names(self) -> list[Any]:
        """The names of the columns."""
        ...

    def values(self, name: Any) -> list[Any]:
        """A column as Python's own values, None where one is missing."""
        ...

    def vectors(self, name: Any) -> Any:
        """A column of vectors: an array of shape (rows, dimension), or a list of vectors with None where one is missing."""
        ...


def frame_kind(source: object) -> str | None:
    """What kind of table this is, None if it is none."""
    for kind in type(source).__mro__:
        found = _KINDS.get((kind.__module__.partition(".")[0], kind.__name__))
        if found == "lazy":
            raise InvalidArgument("a LazyFrame has no rows yet: give its collect()")
        if found is not None:
            return found
    return None


def columns_of_frame(source: Any, start: int = 0) -> Iterator[Columns]:
    """The rows of a table from the one at ``start``, a slice at a time.

    ``InvalidArgument`` for a table that lacks ``id`` or has a column that means nothing.
    """
    for rows in _slices(source, frame_kind(source), start):
        if len(rows):
            yield _as_columns(rows)


def _slices(source: Any, kind: str | None, start: int) -> Iterator[_Slice]:
    make: Callable[[Any], _Slice]
    if kind == "arrow reader":
        for batch in source:
            if start < batch.num_rows:
                yield from _slices(batch, "arrow table", start)
            start = max(0, start - batch.num_rows)
        return
    if kind == "arrow table":
        count, make = source.num_rows, _Arrow
    else:
        count, make = len(source), _Pandas if kind == "pandas" else _Polars
    # An empty table is looked at too, for its columns.
    for low in range(start, max(count, 1), FRAME_ROWS):
        cut = source.iloc[low : low + FRAME_ROWS] if kind == "pandas" else source.slice(low, FRAME_ROWS)
        yield make(cut)


def _as_columns(rows: _Slice) -> Columns:
    names = rows.names()
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InvalidArgument(f"the table has two columns {twice!r:.80}")
    if "id" not in names:
        raise InvalidArgument(f"the table has no column 'id'; its columns are: {', '.join(map(repr, names))[:300]}")
    vectors: dict[str, Any] = {}
    others: list[Any] = []
    for name in names:
        if name == "vector" or (isinstance(name, str) and name.startswith("vector_") and len(name) > 7):
            vectors[name[7:]] = rows.vectors(name)
        elif name not in ("id", "metadata", *_TEXTS):
            others.append(name)
    metadata: list[Any] | None = None
    if "metadata" in names:
        if others:
            raise InvalidArgument(
                f"the table has a column {others[0]!r:.80}, which is none of {', '.join(_ROLES)}: drop it, or put it into the metadata "
                "(without a column 'metadata' all other columns become metadata)"
            )
        metadata = [{} if m is None else m for m in rows.values("metadata")]
    elif others:
        metadata = [{} for _ in range(len(rows))]
        for name in others:
            for row, value in zip(metadata, rows.values(name), strict=True):
                if value is not None:
                    row[name] = value
    texts = {name: rows.values(name) for name in _TEXTS if name in names}
    return Columns(rows.values("id"), vectors, metadata, **texts)


def _together(vectors: Sequence[Any]) -> Any:
    """One array of vectors that are all numpy arrays of one length and type; otherwise the vectors as they are."""
    import numpy as np

    first = vectors[0] if len(vectors) else None
    if not isinstance(first, np.ndarray) or first.ndim != 1 or first.dtype.kind != "f":
        return vectors
    if any(not isinstance(v, np.ndarray) or v.shape != first.shape or v.dtype != first.dtype for v in vectors):
        return vectors
    return np.stack(vectors)


def _without_nulls(value: Any) -> Any:
    """A struct's value without the keys whose value is missing: a struct has every key in every row."""
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return value


def _plain(value: Any) -> Any:
    """A value that a column of objects holds, with numpy's own scalars and arrays as Python has them."""
    if type(value).__module__ == "numpy" and hasattr(value, "tolist"):
        return value.tolist()
    return value


class _Arrow:
    def __init__(self, rows: Any) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return int(self._rows.num_rows)

    def names(self) -> list[Any]:
        return list(self._rows.schema.names)

    def values(self, name: Any) -> list[Any]:
        column = self._rows.column(name)
        values: list[Any] = column.to_pylist()
        kind = str(column.type)
        if kind.startswith("map<"):
            return [v if v is None else dict(v) for v in values]
        return [_without_nulls(v) for v in values] if kind.startswith("struct<") else values

    def vectors(self, name: Any) -> Any:
        column = self._rows.column(name)
        parts = [self._part(chunk) for chunk in getattr(column, "chunks", [column])]
        if len(parts) == 1:
            return parts[0]
        import numpy as np

        if all(isinstance(part, np.ndarray) and part.shape[1:] == parts[0].shape[1:] for part in parts):
            return np.concatenate(parts)
        return [vector for part in parts for vector in part]

    @staticmethod
    def _part(array: Any) -> Any:
        """The vectors of one array of Arrow's."""
        import numpy as np

        array = getattr(array, "storage", array)  # of an extension type, such as a tensor of fixed shape
        kind = str(array.type)
        if not kind.startswith(("fixed_size_list<", "list<", "large_list<")):
            return array.to_pylist()
        numbers = array.flatten()  # what lies in missing rows is not among them
        if numbers.null_count or not str(numbers.type).startswith(("float", "double", "halffloat", "int", "uint")):
            return array.to_pylist()
        flat = numbers.to_numpy(zero_copy_only=False)
        if kind.startswith("fixed_size_list<"):
            lengths = np.full(len(array), array.type.list_size)
        else:
            lengths = np.diff(array.offsets.to_numpy(zero_copy_only=False))
        if not array.null_count and len(array) and (lengths == lengths[0]).all():
            return flat.reshape(len(array), lengths[0])
        here = array.is_valid().to_numpy(zero_copy_only=False)
        ends = np.cumsum(np.where(here, lengths, 0))
        return [flat[end - n : end] if is_here else None for end, n, is_here in zip(ends, lengths, here, strict=True)]


class _Pandas:
    def __init__(self, rows: Any) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def names(self) -> list[Any]:
        return list(self._rows.columns)

    def values(self, name: Any) -> list[Any]:
        column = self._rows[name]
        missing = column.isna().tolist()
        return [None if gone else _plain(v) for v, gone in zip(column.tolist(), missing, strict=True)]

    def vectors(self, name: Any) -> Any:
        column = self._rows[name]
        missing = column.isna().tolist()
        return _together([None if gone else v for v, gone in zip(column.tolist(), missing, strict=True)])


class _Polars:
    def __init__(self, rows: Any) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return int(self._rows.height)

    def names(self) -> list[Any]:
        return list(self._rows.columns)

    def values(self, name: Any) -> list[Any]:
        column = self._rows.get_column(name)
        values: list[Any] = column.to_list()
        if str(column.dtype).startswith("Struct"):
            return [_without_nulls(v) for v in values]
        return [_plain(v) for v in values] if str(column.dtype) == "Object" else values

    def vectors(self, name: Any) -> Any:
        column = self._rows.get_column(name)
        kind = str(column.dtype)
        if kind.startswith("Array") and not column.null_count():
            return column.to_numpy()
        if kind.startswith(("Array", "List")):
            return _together([None if v is None else v.to_numpy() for v in column])
        return _together(column.to_list())
