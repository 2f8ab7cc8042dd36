-- What is known of a collection's table and its indexes without measuring: rows, dead ones, sizes, and the memory that they share.
select
    (select s.n_dead_tup from pg_catalog.pg_stat_all_tables as s where s.relid = c.oid) as dead,
    (select setting::bigint * current_setting('block_size')::bigint from pg_catalog.pg_settings where name = 'shared_buffers') as shared_buffers,
    (
        select jsonb_object_agg(ic.relname, pg_catalog.pg_relation_size(ic.oid))
        from pg_catalog.pg_index as i join pg_catalog.pg_class as ic on ic.oid = i.indexrelid
        where i.indrelid = c.oid
    ) as sizes
from pg_catalog.pg_class as c
where c.oid = to_regclass(format('%%I.%%I', %(schema)s::text, %(name)s::text))
