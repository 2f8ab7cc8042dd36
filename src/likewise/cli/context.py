"""What every command is given: its options, where to print, and the way to the database."""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import likewise
from likewise.abc.stores import Collection
from likewise.abc.vector_stores import VectorStore
from likewise.cli.output import Output
from likewise.errors import CollectionNotFound, InvalidArgument, InvalidFilter

__all__ = ["DEFAULT_COLLECTION", "Context", "parse_where"]

#: Searched when no collection is named and there are several.
DEFAULT_COLLECTION = "demo"


@dataclass(frozen=True)
class Context:
    """One call of the command."""

    options: argparse.Namespace
    output: Output

    @property
    def database(self) -> str | None:
        """The database's URL, None for the embedded one."""
        url: str | None = self.options.database
        return url or None

    @contextmanager
    def store(self, url: str | None = None) -> Iterator[VectorStore]:
        """The store, of this URL or the database's, open for the block; what takes long, and what the database is warned of, is said on stderr."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            store = likewise.connect(url or self.database, progress=self.output.note)
        for warning in caught:
            self.output.note(f"warning: {warning.message}", style="yellow")
        with store:
            yield store

    def collection(self, store: VectorStore, name: str | None) -> Collection:
        """The collection of this name; without a name the only one, or ``demo``."""
        if name is not None:
            return store.collection(name)
        names = [spec.name for spec in store.collections()]
        if DEFAULT_COLLECTION in names:
            return store.collection(DEFAULT_COLLECTION)
        if len(names) == 1:
            return store.collection(names[0])
        if not names:
            raise CollectionNotFound(DEFAULT_COLLECTION)
        raise InvalidArgument(f"there are several collections, say which with -c: {', '.join(names)}")


def parse_where(text: str | None) -> Mapping[str, Any] | None:
    """The filter that ``--where`` holds; ``InvalidFilter`` if it is not a JSON object."""
    if text is None:
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidFilter(
            f"""--where is not JSON ({error}); an example: --where '{{"price": {{"$lt": 20}}}}'"""
        ) from error
    if not isinstance(value, dict):
        raise InvalidFilter(f'--where is a JSON {type(value).__name__}; it must be an object such as {{"lang": "en"}}')
    return value
