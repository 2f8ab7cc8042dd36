-- The vector indexes of collections and what is known of them: size, whether they are valid, rows, dead rows, and what was measured last of
-- recall@10 (lists of ef_search or probes, recall, standard error; a search with recall=… measures, and so does likewise doctor).
create or replace view likewise.index_health as
select
    r.schema_name,
    r.name as collection,
    ic.relname as index_name,
    substr(coalesce(a.attname, substring(pg_catalog.pg_get_expr(i.indexprs, i.indrelid) from 'vector_?\w*')), 8) as vector,
    am.amname as method,
    i.indisvalid as valid,
    pg_catalog.pg_relation_size(ic.oid) as index_bytes,
    greatest(ic.reltuples, 0)::bigint as estimated_rows,
    s.n_dead_tup as dead_rows,
    s.last_autovacuum,
    s.last_vacuum,
    m.points as recall_points,
    m.measured_at
from likewise.registry as r
join pg_catalog.pg_namespace as n on n.nspname = r.schema_name
join pg_catalog.pg_class as c on c.relnamespace = n.oid and c.relname = r.name and c.relkind in ('r', 'p')
join pg_catalog.pg_index as i on i.indrelid = c.oid
join pg_catalog.pg_class as ic on ic.oid = i.indexrelid
join pg_catalog.pg_am as am on am.oid = ic.relam and am.amname in ('hnsw', 'ivfflat')
left join pg_catalog.pg_attribute as a on a.attrelid = c.oid and a.attnum = i.indkey[0] and i.indkey[0] > 0
left join pg_catalog.pg_stat_all_tables as s on s.relid = c.oid
left join likewise.recall as m
    on m.schema_name = r.schema_name and m.name = r.name and m.k = 10
    and m.vector = coalesce(substr(coalesce(a.attname, substring(pg_catalog.pg_get_expr(i.indexprs, i.indrelid) from 'vector_?\w*')), 8), '');
