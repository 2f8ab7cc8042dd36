-- Ends a watch and removes all that belongs to it: its triggers and functions, what is queued, and the collection of vectors unless keep_vectors.
-- The table must be yours.
create or replace function likewise.unwatch(
    name text,
    keep_vectors boolean default false
)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $function$
declare
    known record;
begin
    select w.id, w.name, w.schema_name into known from likewise.watches as w where w.name = unwatch.name;
    if not found then
        raise exception 'there is no watch %', coalesce(quote_literal(unwatch.name), 'without a name')
            using errcode = 'undefined_object', hint = 'select name from likewise.watches lists them';
    end if;
    execute coalesce((
        select string_agg(format('drop trigger %I on %s', t.tgname, t.tgrelid::regclass), '; ')
        from pg_trigger as t
        where t.tgfoid = 'likewise.note_changes()'::regprocedure and t.tgname like format('likewise\_watch\_%s\_%%', known.id)
    ), 'select');
    execute coalesce((
        select string_agg(format('drop function %s', f), '; ')
        from unnest(array[
            to_regprocedure(format('%I.%I(uuid, regclass, text[], text, int)', known.schema_name, known.name || '_watched')),
            to_regprocedure(format('%I.%I(text, float8, int)', known.schema_name, known.name || '_search'))
        ]) as f
        where f is not null
    ), 'select');
    perform likewise.forget_watch(known.id, keep_vectors);
end
$function$;

comment on function likewise.unwatch is 'Ends a watch and removes all that belongs to it';
