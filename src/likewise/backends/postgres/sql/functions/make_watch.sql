-- Internal. What likewise.watch() does, with the rights of the caller: checks, the functions <name>_watched and <name>_search, the triggers.
-- path has the schemas in which the expressions' names are looked up, now and whenever the table is read.
create or replace function likewise.make_watch(
    source regclass, content text, image text, model text, name text, filter text, path text[]
)
returns text
language plpgsql
set search_path = pg_catalog, pg_temp
-- Triggers that are not there to be dropped are not worth a notice.
set client_min_messages = warning
as $function$
declare
    relation record;
    key record;
    known record;
    watch_name text;
    token constant uuid := gen_random_uuid();
    schemas text := (select coalesce(string_agg(format('%I, ', s), ''), '') from unnest(path) as s where s not like 'pg\_temp%') || 'pg_temp';
    image_type regtype;
    used text;
    id int;
begin
    if source is null then
        raise exception 'source is null: name the table to watch' using errcode = 'null_value_not_allowed';
    end if;
    if content is null and image is null then
        raise exception 'nothing to embed: give content, image or both' using errcode = 'null_value_not_allowed',
            hint = $$for example content => 'name || ''. '' || description'$$;
    end if;
    select c.oid, c.relname::text as name, n.nspname::text as schema, r.rolname::text as owner, c.relowner, c.relkind, c.relpersistence,
        c.relispartition, exists (select from pg_inherits as i where i.inhparent = c.oid) as has_children
    into relation
    from pg_class as c
    join pg_namespace as n on n.oid = c.relnamespace
    join pg_roles as r on r.oid = c.relowner
    where c.oid = source;
    watch_name := coalesce(make_watch.name, relation.name);
    perform likewise.check_watchable(relation.oid, watch_name);
    select * into strict key from likewise.watch_key(relation.oid);
    if not pg_has_role(relation.relowner, 'usage') then
        raise exception '% belongs to %: only its owner can have it watched', source, relation.owner using errcode = 'insufficient_privilege';
    end if;

    -- The expressions, as the caller would write them into a query.
    perform set_config('search_path', schemas, true);
    if content is not null then
        perform likewise.check_expression('content', format(E'(%s\n)::pg_catalog.text is not null', content), source, relation.name);
    end if;
    if image is not null then
        perform likewise.check_expression('image', format(E'(%s\n) is not null', image), source, relation.name);
        execute format(
            E'select pg_catalog.pg_typeof(x.image) from (select 1) as o left join (select (%s\n) as image from %s as %I limit 0) as x on true',
            image, source, relation.name
        ) into image_type;
    end if;
    if filter is not null then
        perform likewise.check_expression('filter', filter || E'\n', source, relation.name);
    end if;
    perform set_config('search_path', 'pg_catalog, pg_temp', true);
    if image_type not in ('bytea'::regtype, 'text'::regtype, 'varchar'::regtype) then
        raise exception 'image is of type %: it must give a picture as bytea, or its path or URL as text', image_type
            using errcode = 'datatype_mismatch';
    end if;

    select w.* into known from likewise.watches as w where w.name = watch_name;
    if not found then
        perform likewise.check_free(relation.schema, watch_name);
    elsif known.source is distinct from source::text or known.schema_name <> relation.schema then
        raise exception 'there is a watch % already, of the table %', quote_literal(watch_name), known.source
            using errcode = 'duplicate_object', hint = 'give this one another name: name => ''…''';
    elsif known.model <> model then
        raise exception 'watch % embeds by the model %: another model needs another collection', quote_literal(watch_name),
            quote_literal(known.model)
            using errcode = 'invalid_parameter_value',
                hint = format('select likewise.unwatch(%L) first, or give this one another name', watch_name);
    end if;

    perform likewise.make_reader(source, watch_name, key.name, key.type, content, image, image_type = 'bytea'::regtype, filter, schemas, token);
    if known.id is null then
        perform likewise.make_search(relation.schema, watch_name, key.name, key.type);
    end if;
    if relation.owner <> current_user then
        -- Whoever called this, the expressions have the rights of the table's owner.
        execute format(
            'alter function %1$I.%2$I(uuid, regclass, text[], text, int) owner to %4$I;'
            ' alter function %1$I.%3$I(text, float8, int) owner to %4$I',
            relation.schema, watch_name || '_watched', watch_name || '_search', relation.owner
        );
    end if;
    id := likewise.register_watch(relation.oid, watch_name, key.name, content, image, filter, model, token);

    used := likewise.used_columns(relation.oid, concat_ws(' ', content, image, filter));
    execute format('drop trigger if exists likewise_watch_%1$s_insert on %2$s;'
        ' drop trigger if exists likewise_watch_%1$s_update on %2$s;'
        ' drop trigger if exists likewise_watch_%1$s_delete on %2$s;'
        ' drop trigger if exists likewise_watch_%1$s_truncate on %2$s', id, source);
    execute format('create trigger likewise_watch_%1$s_insert after insert on %2$s referencing new table as new_rows'
        ' for each statement execute function likewise.note_changes(%1$L, %3$L, %4$L);'
        ' create trigger likewise_watch_%1$s_update after update on %2$s referencing old table as old_rows new table as new_rows'
        ' for each statement execute function likewise.note_changes(%1$L, %3$L, %4$L);'
        ' create trigger likewise_watch_%1$s_delete after delete on %2$s referencing old table as old_rows'
        ' for each statement execute function likewise.note_changes(%1$L, %3$L, %4$L);'
        ' create trigger likewise_watch_%1$s_truncate after truncate on %2$s'
        ' for each statement execute function likewise.note_changes(%1$L, %3$L, %4$L)', id, source, key.name, used);
    return watch_name;
end
$function$;

comment on function likewise.make_watch is 'Internal: what likewise.watch() does';
