"""How the vectors of a collection are served: what the catalogue knows, what is measured, and what follows from both (``_advice``)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

from psycopg import sql

from likewise.backends.postgres import _searches as searches
from likewise.backends.postgres import _statements as statements
from likewise.backends.postgres._advice import Facts, advise
from likewise.backends.postgres._install import resource
from likewise.backends.postgres._parameters import own_sql
from likewise.backends.postgres._table import Table
from likewise.backends.postgres.connection_async import Row
from likewise.backends.postgres.tuning_async import AsyncSearchAt, AsyncTuning
from likewise.schema import VectorHealth

__all__ = ["look_at_vectors"]


async def look_at_vectors(
    table: Table,
    *,
    fetch: Callable[[statements.Statement], Awaitable[list[Row]]],
    search: AsyncSearchAt,
    tuning: AsyncTuning,
) -> list[VectorHealth]:
    """The health of each vector of the table, in the order of the specification."""
    file = sql.Composed([own_sql(resource("index_health.sql"))])
    (known,) = await fetch(statements.Statement(file, {"schema": table.schema, "name": table.spec.name}, {}))
    health = []
    for name, field in table.spec.vector_fields.items():
        index = table.vector_index(name)
        facts = Facts(field, table.rows, known["dead"] or 0, known["shared_buffers"], index)
        if index is not None:
            facts = replace(facts, size=known["sizes"][index.name])
            # An index over nothing has no recall.
            if await fetch(statements.sample_vectors(table, name, 1)):
                dial = searches.default_dial(table, index, 10)
                recall, before = await tuning.health(search, table, name, index, dial)
                facts = replace(facts, dial=dial, recall=recall, before=before)
        health.append(
            VectorHealth(
                name,
                round(table.rows),
                index.info(name) if index else None,
                facts.size,
                facts.recall[0] if facts.recall else None,
                facts.dial if facts.recall else None,
                tuple(advise(facts)),
            )
        )
    return health
