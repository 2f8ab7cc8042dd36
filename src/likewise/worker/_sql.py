"""The statements of the worker: the files under ``sql/``."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from psycopg import sql

from likewise.backends.postgres._parameters import own_sql

__all__ = ["statement"]


@cache
def statement(name: str) -> sql.SQL:
    """The text of ``sql/<name>.sql``."""
    return own_sql(files("likewise.worker").joinpath("sql", f"{name}.sql").read_text(encoding="utf-8"))
