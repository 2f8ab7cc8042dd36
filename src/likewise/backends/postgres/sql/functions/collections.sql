-- What collections there are, for any SQL client.
create or replace view likewise.collections as
select
    r.schema_name,
    r.name,
    r.spec ->> 'embedder' as embedder,
    (r.spec ->> 'dimension')::int as dimension,
    r.spec ->> 'metric' as metric,
    coalesce((r.spec ->> 'multimodal')::boolean, false) as multimodal,
    array(select jsonb_object_keys(r.spec -> 'vectors')) as named_vectors,
    pg_catalog.pg_total_relation_size(c.oid) as total_bytes,
    greatest(c.reltuples, 0)::bigint as estimated_records,
    r.created_at
from likewise.registry as r
join pg_catalog.pg_namespace as n on n.nspname = r.schema_name
join pg_catalog.pg_class as c on c.relnamespace = n.oid and c.relname = r.name and c.relkind in ('r', 'p');
