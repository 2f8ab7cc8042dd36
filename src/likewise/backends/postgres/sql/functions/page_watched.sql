-- Internal. The keys of a watched table after a key, in order; for the worker only.
create or replace function likewise.page_watched(
    watch int, after text, most int
)
returns setof text
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $function$
declare
    known record;
begin
    select w.* into known from likewise.watch as w where w.id = page_watched.watch;
    perform likewise.check_watched(known.id);
    return query
        select r.key
        from likewise.call_reader(known.schema_name, known.name || '_watched', known.token, known.source, null, after, most) as r;
end
$function$;

comment on function likewise.page_watched is 'Internal: keys of a watched table, for the worker';

revoke execute on function likewise.page_watched from public;
