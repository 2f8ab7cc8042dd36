-- Taken before locks on rows, and beside others who do.
select pg_catalog.pg_advisory_xact_lock_shared(pg_catalog.hashtextextended(pg_catalog.format('likewise.watch.%%s', %(watch)s::int), 0))
