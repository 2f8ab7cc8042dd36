-- Internal. The function <name>_watched, which reads a watched table with the rights of its owner: rows by key, or else keys after a key, in order.
-- It reads for who knows the token, and keeps no more than its hash. The expressions mean what they mean to the caller of likewise.watch() now: names are looked up
-- in the same schemas, and dates are written in the same style. The table is given by the caller, so that it may be renamed.
create or replace function likewise.make_reader(
    source regclass, name text, key_name text, key_type text, content text, image text, image_is_bytes boolean, filter text, schemas text,
    token uuid
)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $function$
declare
    key_column text;
    schema_name text;
    alias text;
    by_key text;
    after_key text;
begin
    select n.nspname, c.relname into schema_name, alias
    from pg_class as c join pg_namespace as n on n.oid = c.relnamespace where c.oid = source;
    key_column := format('%I.%I', alias, key_name);
    by_key := format(
        E' as %I where %s operator(pg_catalog.=) any ($1::pg_catalog.text[]::%s[])%s', alias, key_column, key_type,
        case when filter is null then '' else format(E' and (%s\n)', filter) end
    );
    after_key := format(
        E' as %I where ($1 is null or %s > $1::%s) order by %s limit $2', alias, key_column, key_type, key_column
    );
    execute format(
        E'create or replace function %I.%I(token uuid, source regclass, keys text[], after text, most int)\n'
        'returns table (key text, content text, image bytea, address text)\n'
        'language plpgsql stable security definer\n'
        'set search_path = %s set timezone from current set datestyle from current set intervalstyle from current'
        ' set extra_float_digits from current set bytea_output from current\n'
        'as %L', schema_name, name || '_watched', schemas,
        format(
            E'-- Made by likewise.watch(), for the worker that embeds the rows.\n'
            'begin\n'
            '    if pg_catalog.encode(pg_catalog.sha256(pg_catalog.uuid_send(token)), ''hex'') operator(pg_catalog.<>) %L then\n'
            '        raise exception ''this function is for the worker of Likewise'' using errcode = ''insufficient_privilege'';\n'
            '    end if;\n'
            '    if keys is null then\n'
            '        return query execute pg_catalog.concat(%L, source, %L) using after, most;\n'
            '    else\n'
            '        return query execute pg_catalog.concat(%L, source, %L) using keys;\n'
            '    end if;\n'
            'end\n',
            encode(sha256(uuid_send(token)), 'hex'),
            format('select pg_catalog.format(''%%s'', %s), null::text, null::bytea, null::text from ', key_column), after_key,
            format(
                E'select pg_catalog.format(''%%s'', %s), %s::pg_catalog.text, %s::pg_catalog.bytea, %s::pg_catalog.text from ', key_column,
                case when content is null then 'null' else format(E'(%s\n)', content) end,
                case when image_is_bytes then format(E'(%s\n)', image) else 'null' end,
                case when image_is_bytes or image is null then 'null' else format(E'(%s\n)', image) end
            ), by_key
        )
    );
end
$function$;

comment on function likewise.make_reader is 'Internal: makes the function that reads a watched table';
