-- Internal. An error that says what to do, if a watch has lost its table or the function that reads it.
create or replace function likewise.check_watched(
    watch int
)
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $function$
declare
    known record;
begin
    select w.* into known from likewise.watch as w where w.id = check_watched.watch;
    if not found then
        raise exception 'the table is not watched any more' using errcode = 'undefined_object';
    end if;
    if not exists (
        select from pg_trigger as t
        where t.tgrelid = known.source and t.tgname = format('likewise_watch_%s_insert', known.id)
            and t.tgfoid = 'likewise.note_changes()'::regprocedure
    ) then
        raise exception 'the table of watch % is gone, or has lost its triggers', quote_literal(known.name)
            using errcode = 'undefined_table', hint = format('select likewise.unwatch(%L) removes what is left', known.name);
    end if;
    if not exists (
        select from pg_proc as p
        join pg_namespace as n on n.oid = p.pronamespace
        where n.nspname = known.schema_name and p.proname = known.name || '_watched'
    ) then
        raise exception 'the function %.% that reads the table of watch % is gone', known.schema_name, known.name || '_watched',
            quote_literal(known.name)
            using errcode = 'undefined_function', hint = 'call likewise.watch() again with the same arguments';
    end if;
end
$function$;

comment on function likewise.check_watched is 'Internal: says what is wrong with a watch, for the worker';

revoke execute on function likewise.check_watched from public;
