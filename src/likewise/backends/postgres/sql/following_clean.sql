-- Deletes the notes of one table that every copy of it has passed. Copies that were not seen for 55 minutes do not count and begin anew: five
-- minutes before the triggers stop noting, so that none is taken for one that missed nothing.
with forgotten as (
    delete from likewise.feed as f
    where f.seen_at <= clock_timestamp() - interval '55 minutes'
        or not exists (select from pg_catalog.pg_class as c where c.oid = f.source)
)
delete from likewise.change as c
where c.source = %(oid)s and c.xid < coalesce(
    (
        select pg_catalog.pg_snapshot_xmin(f.passed) as least
        from likewise.feed as f
        where f.source = %(oid)s and f.seen_at > clock_timestamp() - interval '55 minutes'
        order by least
        limit 1
    ),
    '18446744073709551615'
)
