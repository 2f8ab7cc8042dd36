"""What watching a table costs: the first embedding of its rows beside embedding and COPY alone, writes with and without triggers, and how soon a change is embedded.

    python benchmarks/watch.py [--rows 50000] [--models hashing mini] [--rounds 3] [--url postgresql://…]

"Alone" reads the texts with one cursor, embeds 500 at a time and sends each vector through one binary COPY into a table without an index; a worker
goes through the queue, looks at every row twice, and keeps its place. The building of the index is the same for both, and is told apart. Rounds
are interleaved.
"""

from __future__ import annotations

import argparse
import platform
import random
import statistics
import struct
import time
from typing import Any

import numpy as np
import psycopg
from psycopg.types.numeric import Int8

import likewise
from likewise.backends.postgres._rows import BinaryParameter
from likewise.embedding import load_embedder
from likewise.testing.database import empty_database, server_url
from likewise.worker import Worker, WorkerThread
from likewise.worker.watching import Watching

WORDS = """
red blue green light warm small large round wool silk wood steel lamp chair table dress shirt kettle garden tent river paper travel evening
kitchen winter holiday children office quiet soft heavy simple modern classic with for and without of the a in
"""


def fill(connection: psycopg.Connection[Any], rows: int) -> None:
    """A table of products with texts of about a sentence."""
    draw, words = random.Random(1), WORDS.split()
    connection.execute("create table products (id bigint primary key, name text, description text, stock int)")
    with connection.cursor().copy("copy products from stdin") as copy:
        for i in range(rows):
            copy.write_row((i, " ".join(draw.choices(words, k=3)), " ".join(draw.choices(words, k=12)) + f" {i}", 1))
    connection.execute("analyze products")


def alone(url: str, model: str) -> float:
    """Seconds to embed every row and COPY the vectors."""
    embedder = load_embedder(model)
    began = time.monotonic()
    with psycopg.connect(url) as reading, psycopg.connect(url) as writing:
        writing.execute("drop table if exists plain")
        writing.execute("create table plain (id bigint primary key, vector public.vector, content text)")
        cursor = reading.cursor("texts")
        cursor.execute("select id, name || '. ' || description from products order by id")
        with writing.cursor().copy("copy plain from stdin (format binary)") as copy:
            while found := cursor.fetchmany(500):
                vectors = embedder.embed_passages([text for _, text in found])
                head = struct.pack(">HH", vectors.shape[1], 0)
                for (key, text), vector in zip(found, vectors.astype(">f4"), strict=True):
                    copy.write_row((Int8(key), BinaryParameter(head + vector.tobytes()), text))
        writing.commit()
    return time.monotonic() - began


def watched(connection: psycopg.Connection[Any], url: str, model: str) -> tuple[float, float]:
    """Seconds from when a worker has begun until it has embedded every row, and those that the index takes then."""
    with WorkerThread(Worker(url, embedders=load_embedder, watching=Watching(url, embedders=load_embedder))):
        time.sleep(1.5)  # it has found nothing to do
        connection.execute(
            "select likewise.watch('products', content => $$name || '. ' || description$$, model => %s)", (model,)
        )
        began = wait(connection, "loading", "indexing", "ready")
        embedded = wait(connection, "indexing", "ready") - began
        total = wait(connection, "ready") - began
    connection.execute("select likewise.unwatch('products')")
    return embedded, total - embedded


def wait(connection: psycopg.Connection[Any], *states: str) -> float:
    while True:
        found = connection.execute("select state, error from likewise.watches").fetchone()
        assert found is not None
        assert found[1] is None, found[1]
        if found[0] in states:
            return time.monotonic()
        time.sleep(0.01)


def writes(connection: psycopg.Connection[Any]) -> dict[str, float]:
    """Milliseconds of single writes and of one that changes all rows."""
    found: dict[str, float] = {}
    for name, statement in {
        "an update of one row": "update products set description = description || '!' where id = %s",
        "the same of a column that is not embedded": "update products set stock = stock + 1 where id = %s",
    }.items():
        seconds = []
        for i in range(300):
            began = time.perf_counter()
            connection.execute(statement, (i,))
            seconds.append(time.perf_counter() - began)
        found[name] = statistics.median(seconds) * 1_000
    began = time.perf_counter()
    connection.execute("update products set description = description || '?'")
    found["an update of all rows"] = (time.perf_counter() - began) * 1_000
    return found


def delay(connection: psycopg.Connection[Any], url: str) -> list[float]:
    """Milliseconds from the commit of a change to its vector, one change at a time."""
    found = []
    with WorkerThread(Worker(url, embedders=load_embedder, watching=Watching(url, embedders=load_embedder))):
        wait(connection, "ready")
        while connection.execute("select depth from likewise.pending").fetchone() != (0,):
            time.sleep(0.05)
        for i in range(40):
            time.sleep(random.Random(i).uniform(0.05, 1.5))
            connection.execute("update products set name = %s where id = %s", (f"changed {i}", i))
            began = time.monotonic()
            query = "select 1 from products_embeddings where id = %s and content like %s"
            while connection.execute(query, (str(i), f"changed {i}.%")).fetchone() is None:
                time.sleep(0.005)
            found.append((time.monotonic() - began) * 1_000)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--models", nargs="+", default=["hashing", "mini"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--url", help="a server on which databases may be created; by default an embedded one")
    options = parser.parse_args()
    with server_url(options.url) as server, empty_database(server) as url:
        with likewise.connect(url) as store:
            store.install()  # type: ignore[attr-defined]
            info = store.info()
        with psycopg.connect(url, autocommit=True) as connection:
            print(
                f"PostgreSQL {info.version}, pgvector {info.vector_extension}, NumPy {np.__version__}, {platform.machine()}"
            )
            fill(connection, options.rows)
            for model in options.models:
                load_embedder(model).warm_up()
                sides: list[tuple[float, float, float]] = []
                for _ in range(options.rounds):
                    plain = alone(url, model)
                    sides.append((plain, *watched(connection, url, model)))
                rate = [options.rows / statistics.median(s[i] for s in sides) for i in (0, 1)]
                ratio = statistics.median(s[0] / s[1] for s in sides)
                print(
                    f"{model}: alone {rate[0]:,.0f} rows/s, watched {rate[1]:,.0f} rows/s, {ratio:.2f} of it "
                    f"(rounds: {', '.join(f'{s[0] / s[1]:.2f}' for s in sides)}); the index {statistics.median(s[2] for s in sides):.1f} s"
                )
            before = writes(connection)
            connection.execute(
                "select likewise.watch('products', content => $$name || '. ' || description$$, model => 'hashing')"
            )
            for name, milliseconds in writes(connection).items():
                print(f"{name}: {before[name]:.2f} ms, watched {milliseconds:.2f} ms")
            delays = delay(connection, url)
            print(f"from a commit to its vector: p50 {statistics.median(delays):.0f} ms, longest {max(delays):.0f} ms")


if __name__ == "__main__":
    main()
