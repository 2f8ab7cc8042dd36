-- The watched tables, and how far their rows are embedded. While state is "loading", "comparing" or "indexing" a worker goes over all rows:
-- done counts them, estimated is about how many there are.
create or replace view likewise.watches as
select
    w.name,
    w.source::regclass::text as source,
    w.schema_name,
    w.name || '_embeddings' as collection,
    w.model,
    w.key_column,
    w.content,
    w.image,
    w.filter,
    s.state,
    k.done,
    s.estimated,
    w.error,
    w.error_at,
    w.created_at,
    w.id
from likewise.watch as w
left join likewise.walk as k on k.watch = w.id
left join pg_catalog.pg_class as c on c.oid = w.source
cross join lateral (
    select
        case
            when c.oid is null then 'gone'
            when not exists (select from likewise.registry as r where r.schema_name = w.schema_name and r.name = w.name || '_embeddings') then 'new'
            when k.stage = 'index' then 'indexing'
            when k.stage is not null and exists (
                select from pg_catalog.pg_index as i
                join pg_catalog.pg_class as ic on ic.oid = i.indexrelid
                join pg_catalog.pg_am as am on am.oid = ic.relam
                join pg_catalog.pg_class as t on t.oid = i.indrelid
                join pg_catalog.pg_namespace as n on n.oid = t.relnamespace
                where n.nspname = w.schema_name and t.relname = w.name || '_embeddings' and am.amname in ('hnsw', 'ivfflat')
            ) then 'comparing'
            when k.stage is not null then 'loading'
            else 'ready'
        end as state,
        case
            when c.relkind = 'p' then (
                select pg_catalog.sum(p.reltuples) filter (where p.reltuples >= 0)
                from pg_catalog.pg_partition_tree(c.oid) as tree
                join pg_catalog.pg_class as p on p.oid = tree.relid and p.relkind = 'r'
            )
            when c.reltuples >= 0 then c.reltuples
        end::bigint as estimated
) as s;

comment on view likewise.watches is 'The watched tables, and how far their rows are embedded';
