-- One worker at a time compares the rows of a table; it is freed when the connection ends.
select pg_catalog.pg_try_advisory_lock(pg_catalog.hashtextextended(pg_catalog.format('likewise.walk.%%s', %(watch)s::int), 0)) as free
