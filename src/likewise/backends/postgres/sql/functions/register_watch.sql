-- Internal. Writes a watch into likewise.watch, with the rights of who installed Likewise. That the caller may is proved by <name>_watched: it belongs
-- to the table's owner and knows the token.
create or replace function likewise.register_watch(
    source oid, name text, key_column text, content text, image text, filter text, model text, token uuid
)
returns int
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $function$
declare
    relation record;
    caller name := (select r.rolname from pg_proc as p join pg_roles as r on r.oid = p.proowner where p.oid =
        'likewise.call_reader(text, text, uuid, regclass, text[], text, int)'::regprocedure);
    id int;
begin
    select n.nspname::text as schema, r.rolname as owner, exists (
        select from pg_proc as p
        where p.pronamespace = c.relnamespace and p.proname = register_watch.name || '_watched' and p.proowner = c.relowner and p.prosecdef
            and position(encode(sha256(uuid_send(token)), 'hex') in p.prosrc) > 0
    ) as proved
    into relation
    from pg_class as c
    join pg_namespace as n on n.oid = c.relnamespace
    join pg_roles as r on r.oid = c.relowner
    where c.oid = register_watch.source;
    if not coalesce(relation.proved, false) then
        raise exception 'only likewise.watch() registers a watch' using errcode = 'insufficient_privilege';
    end if;
    if caller <> 'likewise_nobody' and caller <> relation.owner then
        raise exception '% belongs to %, and Likewise was installed by %, who is no superuser: then only tables of % can be watched',
            register_watch.source::regclass, relation.owner, caller, caller
            using errcode = 'insufficient_privilege', hint = 'have a superuser run: likewise install';
    end if;
    if not has_schema_privilege(caller, relation.schema, 'usage') then
        raise exception 'the worker may not look into the schema %', quote_ident(relation.schema)
            using errcode = 'insufficient_privilege', hint = format('grant usage on schema %I to %I', relation.schema, caller);
    end if;
    insert into likewise.watch (name, source, schema_name, key_column, content, image, filter, model, token)
    values (register_watch.name, register_watch.source, relation.schema, key_column, content, image, filter, model, token)
    on conflict on constraint watch_name_key do update
        set key_column = excluded.key_column, content = excluded.content, image = excluded.image, filter = excluded.filter,
            token = excluded.token, error = null, error_at = null
        where watch.source = excluded.source and watch.schema_name = excluded.schema_name and watch.model = excluded.model
    returning watch.id into id;
    if not found then
        raise exception 'there is a watch % already', quote_literal(register_watch.name) using errcode = 'duplicate_object';
    end if;
    -- Every row is to be compared with what is stored of it; of a new watch that is nothing.
    insert into likewise.walk (watch, round)
    values (id, case when exists (
        select from likewise.registry as r where r.schema_name = relation.schema and r.name = register_watch.name || '_embeddings'
    ) then 2 else 1 end)
    on conflict (watch) do update set round = walk.round + 1, stage = 'rows', place = null, done = 0, started_at = now();
    return id;
end
$function$;

comment on function likewise.register_watch is 'Internal: registers a watch';
