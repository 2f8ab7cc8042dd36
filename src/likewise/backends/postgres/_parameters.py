"""The bound parameters of one statement: every value goes through here, none into the text of the SQL."""

from __future__ import annotations

from typing import Any

from psycopg import sql

__all__ = ["Literals", "Parameters", "own_sql"]


def own_sql(text: str) -> sql.SQL:
    """Text of our own files and tables as SQL. Nothing that a caller gave may pass here."""
    return sql.SQL(text)  # pyright: ignore[reportArgumentType]


class Parameters:
    """Collects values and hands out their placeholders."""

    __slots__ = ("values",)

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}

    def add(self, value: object, cast: sql.Composable | None = None, *, name: str | None = None) -> sql.Composed:
        """The placeholder of a value, with a cast to the given type where the server could not tell it."""
        name = name or f"p{len(self.values)}"
        self.values[name] = value
        placeholder = sql.Composed([sql.Placeholder(name)])
        return placeholder if cast is None else sql.SQL("{}::{}").format(placeholder, cast)


class Literals(Parameters):
    """Writes values out as literals, quoted by the driver: for definitions of indexes, and ``beside`` parameters in what repeats those."""

    __slots__ = ("_beside",)

    def __init__(self, *, beside: bool = False) -> None:
        super().__init__()
        self._beside = beside

    def add(self, value: object, cast: sql.Composable | None = None, *, name: str | None = None) -> sql.Composed:
        text = sql.Literal(value).as_string(None)
        # In a statement with parameters the driver takes a percent sign for the beginning of one.
        literal = sql.Composed([own_sql(text.replace("%", "%%") if self._beside else text)])
        return literal if cast is None else sql.SQL("{}::{}").format(literal, cast)
