-- Internal. Rows of a watched table by key, as its expressions make them, with a fingerprint of that; for the worker only.
-- Rows that are gone, or do not pass the filter, are left out. Without contents only keys and fingerprints are given.
create or replace function likewise.read_watched(
    watch int, keys text[], contents boolean
)
returns table (key text, content text, image bytea, address text, fingerprint bytea)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $function$
declare
    known record;
begin
    select w.* into known from likewise.watch as w where w.id = read_watched.watch;
    perform likewise.check_watched(known.id);
    return query
        select r.key, case when contents then r.content end, case when contents then r.image end, case when contents then r.address end,
            sha256(coalesce(sha256(convert_to(r.content, 'UTF8')), '') || '/' || coalesce(sha256(r.image), '') || '/'
                || coalesce(sha256(convert_to(r.address, 'UTF8')), ''))
        from likewise.call_reader(known.schema_name, known.name || '_watched', known.token, known.source, keys, null, null) as r;
end
$function$;

comment on function likewise.read_watched is 'Internal: rows of a watched table, for the worker';

revoke execute on function likewise.read_watched from public;
