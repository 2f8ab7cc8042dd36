"""Rows by column, as callers give them. Nothing is checked here but that the columns are equally long."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from likewise.errors import InvalidArgument
from likewise.records import NOTHING, Record

__all__ = ["Columns"]


@dataclass(frozen=True, slots=True)
class Columns:
    """Rows by column, as a caller gives them; not checked but for their lengths.

    ``vectors`` holds two-dimensional arrays, or sequences of vectors, by name (the empty name is the collection's own vector). A column that
    is None is nowhere given.
    """

    ids: Sequence[str]
    vectors: Mapping[str, Any]
    metadata: Sequence[Mapping[str, Any]] | None = None
    content: Sequence[str | None] | None = None
    modality: Sequence[Any] | None = None
    content_id: Sequence[str | None] | None = None

    def __post_init__(self) -> None:
        if isinstance(self.ids, str | bytes):
            raise InvalidArgument("ids is one text; give a sequence of ids")
        others: dict[str, Any] = {
            "metadata": self.metadata,
            "content": self.content,
            "modality": self.modality,
            "content_id": self.content_id,
            **{f"vectors[{name!r}]" if name else "vectors": column for name, column in self.vectors.items()},
        }
        for name, column in others.items():
            if column is None:
                continue
            if isinstance(column, str | bytes | Mapping) or not hasattr(column, "__len__"):
                raise InvalidArgument(f"{name} is a {type(column).__name__}; give a column: a sequence or an array")
            if len(column) != len(self.ids):
                raise InvalidArgument(
                    f"{name} has {len(column):,} rows, ids has {len(self.ids):,}: columns are equally long"
                )

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def placed(self) -> bool:
        """Whether every row has the collection's own vector, in an array, so that nothing is left to a model."""
        kind = getattr(getattr(self.vectors.get(""), "dtype", None), "kind", "O")
        return kind != "O"

    def part(self, low: int, high: int) -> Columns:
        """The rows from ``low`` up to ``high``."""

        def cut(column: Any) -> Any:
            return None if column is None else column[low:high]

        return Columns(
            self.ids[low:high],
            {name: cut(column) for name, column in self.vectors.items()},
            cut(self.metadata),
            cut(self.content),
            cut(self.modality),
            cut(self.content_id),
        )

    def records(self) -> Iterator[Record]:
        """The rows as records."""
        named = {name: column for name, column in self.vectors.items() if name}
        own = self.vectors.get("")
        for i in range(len(self)):
            yield Record(
                _plain(self.ids[i]),
                None if own is None else own[i],
                NOTHING if self.metadata is None else _plain(self.metadata[i]),
                None if self.content is None else _plain(self.content[i]),
                vectors={name: column[i] for name, column in named.items() if column[i] is not None},
                modality=None if self.modality is None else _plain(self.modality[i]),
                content_id=None if self.content_id is None else _plain(self.content_id[i]),
            )


def _plain(value: Any) -> Any:
    """A value of a column as Python has it: numpy's text is text."""
    return str.__str__(value) if isinstance(value, str) else value
