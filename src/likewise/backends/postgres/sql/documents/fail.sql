-- A file that could not be read or stored. What was stored of it before stays, and is searched.
insert into likewise.documents (schema_name, collection, tenant, owner, source, sha256, bytes, state, error, error_stage)
select %(schema)s, %(collection)s, %(tenant)s, %(owner)s, n.source, n.sha256, n.bytes, 'failed', n.error, n.stage
from unnest(%(sources)s::text[], %(sha256)s::bytea[], %(bytes)s::bigint[], %(errors)s::text[], %(stages)s::text[])
    as n (source, sha256, bytes, error, stage)
order by n.source
on conflict (schema_name, collection, tenant, source) do update set
    error = excluded.error, error_stage = excluded.error_stage, updated_at = now()
