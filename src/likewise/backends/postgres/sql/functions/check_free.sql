-- Internal. An error if one of the names that a new watch gives is taken.
create or replace function likewise.check_free(
    schema_name text, name text
)
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $function$
declare
    taken text := (
        select format('function %s', p.oid::regprocedure)
        from pg_proc as p
        join pg_namespace as n on n.oid = p.pronamespace
        where n.nspname = schema_name and p.proname in (name || '_search', name || '_watched')
        union all
        select format('relation %s', c.oid::regclass)
        from pg_class as c
        join pg_namespace as n on n.oid = c.relnamespace
        where n.nspname = schema_name and c.relname = name || '_embeddings'
        limit 1
    );
begin
    if taken is not null then
        raise exception 'the % is there already', taken
            using errcode = 'duplicate_object', hint = 'give the watch another name: name => ''…''';
    end if;
end
$function$;

comment on function likewise.check_free is 'Internal: whether the names of a watch are free';
