"""What the tests of watched tables share: a worker beside the test, and the comparison of a table with its vectors."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import psycopg

from likewise.embedding import HashingEmbedder, load_embedder
from likewise.worker import Worker, WorkerThread
from likewise.worker.watching import Watching
from likewise.worker.writing import Patience

MODEL = "hashing:32"
#: Rows that fail are tried again at once, and not often.
QUICK = Patience(most=3, first=0.05, longest=0.1)

#: Stands for the search by text, which needs embed() in SQL: the vector of a query is what the table "queries" says.
STAND_IN = """
create table if not exists queries (query text primary key, vector vector);
create or replace function likewise.semantic_search(
    query text, similarity_threshold float8 default 0.7, max_results int default 10, collection text default null,
    filter jsonb default null, target_modality text default null
)
returns table (content_id text, similarity float8, modality text, content text, metadata jsonb, distance float8)
language sql
as $$
    select f.* from likewise.find_similar_multimodal(
        (select q.vector from public.queries as q where q.query = semantic_search.query), target_modality, similarity_threshold, max_results,
        collection
    ) as f
$$
"""


class Database:
    """A connection in autocommit, with few words."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.connection = psycopg.connect(url, autocommit=True)

    def run(self, statement: str, *values: Any) -> None:
        """Run a statement."""
        self.connection.execute(statement, values or None)

    def rows(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """The rows of a query."""
        return self.connection.execute(statement, values or None).fetchall()

    def one(self, statement: str, *values: Any) -> Any:
        """The only value of a query."""
        ((value,),) = self.rows(statement, *values)
        return value

    def watch(self, source: str, **arguments: Any) -> str:
        """``likewise.watch``."""
        given = {"model": MODEL, **arguments}
        names = ", ".join(f"{name} => %({name})s" for name in given)
        query: Any = "select likewise.watch(%(source)s::regclass, " + names + ")"
        ((name,),) = self.connection.execute(query, {"source": source, **given}).fetchall()
        return str(name)

    def settled(self, name: str | None = None, *, seconds: float = 60) -> None:
        """Wait until nothing is left to do, but for what has failed."""
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            left = self.rows(
                "select w.name, w.state, w.error, p.depth from likewise.watches w join likewise.pending p using (name)"
                " where (w.state <> 'ready' or p.depth > 0 or exists (select from likewise.failure f where f.watch = w.id and next_try is not null))"
                " and (%s::text is null or w.name = %s)",
                name,
                name,
            )
            if not left:
                return
            time.sleep(0.02)
        raise AssertionError(f"the worker is not done: {left}")

    def error_of(self, name: str, *, seconds: float = 20) -> str:
        """Wait for the error of a watch."""
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            if error := self.one("select error from likewise.watches where name = %s", name):
                return str(error)
            time.sleep(0.02)
        raise AssertionError("there is no error")


@contextmanager
def working(url: str, **arguments: Any) -> Iterator[Watching]:
    """A worker in a thread for the length of the block."""
    part = Watching(url, **{"embedders": load_embedder, "patience": QUICK, **arguments})
    with WorkerThread(Worker(part._conninfo, embedders=part._embedders, log=False, watching=part)):
        yield part


def stored(database: Database, collection: str) -> dict[str, np.ndarray[Any, np.dtype[np.float32]]]:
    """The vectors of a collection by id."""
    found = database.rows(f"select id, vector::real[] from {collection}")
    return {record_id: np.array(vector, np.float32) for record_id, vector in found}


def assert_embedded(database: Database, collection: str, texts: Mapping[str, str]) -> None:
    """Every text has the vector that the model makes of it, and there is nothing else."""
    have = stored(database, collection)
    assert sorted(have) == sorted(texts)
    compare(have, texts)


def compare(have: Mapping[str, Any], texts: Mapping[str, str]) -> None:
    ids: Sequence[str] = sorted(texts)
    wanted: Any = HashingEmbedder(32).embed_texts([texts[i] for i in ids]) if ids else []
    wrong = [i for i, vector in zip(ids, wanted, strict=True) if not np.allclose(have[i], vector, atol=1e-6)]
    assert not wrong, f"{len(wrong)} vectors are of something else: {wrong[:5]}"
