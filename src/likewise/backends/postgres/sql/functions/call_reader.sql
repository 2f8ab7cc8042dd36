-- Internal. Calls the function that reads a watched table, as a role that may do nothing.
-- That function belongs to the table's owner, runs with the owner's rights, and can be altered by the owner at any time, into one that
-- runs with those of the caller, too. A worker may be a superuser, so it must not be the caller. This function belongs to likewise_nobody,
-- a role without any rights that exists for this; from inside a function like this one nobody can change roles. Who installed Likewise without
-- being a superuser cannot give a function away; then it stays theirs, and likewise.watch() takes their own tables only.
create or replace function likewise.call_reader(
    schema_name text, function_name text, token uuid, source regclass, keys text[], after text, most int
)
returns table (key text, content text, image bytea, address text)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $function$
begin
    return query execute format('select r.key, r.content, r.image, r.address from %I.%I($1, $2, $3, $4, $5) as r', schema_name, function_name)
        using token, source, keys, after, most;
end
$function$;

comment on function likewise.call_reader is 'Internal: calls the function that reads a watched table, with no rights of its own';

revoke execute on function likewise.call_reader from public;

do $$
begin
    if not (select r.rolsuper from pg_catalog.pg_roles as r where r.rolname = current_user) then
        return;
    end if;
    begin
        create role likewise_nobody nologin noinherit;
    exception when duplicate_object or unique_violation then
        null;
    end;
    alter function likewise.call_reader(text, text, uuid, regclass, text[], text, int) owner to likewise_nobody;
    execute pg_catalog.format(
        'grant execute on function likewise.call_reader(text, text, uuid, regclass, text[], text, int) to %I',
        (select n.nspowner::regrole::text from pg_catalog.pg_namespace as n where n.nspname = 'likewise')
    );
end
$$;
