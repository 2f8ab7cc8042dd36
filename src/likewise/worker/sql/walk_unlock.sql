select pg_catalog.pg_advisory_unlock(pg_catalog.hashtextextended(pg_catalog.format('likewise.walk.%%s', %(watch)s::int), 0))
