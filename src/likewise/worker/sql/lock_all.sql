-- In place of locks on many rows, of which a server has few.
select pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended(pg_catalog.format('likewise.watch.%%s', %(watch)s::int), 0))
