-- Keeps other workers from writing the vectors of these rows until the transaction ends; in one order, so that two never wait in a circle.
select pg_catalog.pg_advisory_xact_lock(k.lock)
from (
    select distinct pg_catalog.hashtextextended(pg_catalog.format('likewise.watch.%%s.%%s', %(watch)s::int, key), 0) as lock
    from pg_catalog.unnest(%(keys)s::text[]) as key
    order by 1
) as k
