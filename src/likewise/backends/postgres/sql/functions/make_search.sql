-- Internal. The function <name>_search of a watched table: the keys of the rows most like a text, best first, each as it is in the table.
-- It is there at once, so that what uses it can be made together with the watch, and runs with the rights of its caller.
create or replace function likewise.make_search(
    schema_name text, name text, key_name text, key_type text
)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $function$
declare
    collection constant text := name || '_embeddings';
begin
    execute format(
        E'create function %I.%I(query text, similarity_threshold float8 default 0.7, max_results int default 10)\n'
        'returns table (%I %s, similarity float8, distance float8)\n'
        'language plpgsql volatile rows 10\n'
        'set search_path = pg_catalog, pg_temp\n'
        'as %L', schema_name, name || '_search', key_name, key_type,
        format(
            E'-- Made by likewise.watch().\n'
            '#variable_conflict use_column\n'
            'begin\n'
            '    if to_regclass(%L) is null then\n'
            '        raise exception ''no worker has begun to embed the rows of watch %%'', %L\n'
            '            using errcode = ''object_not_in_prerequisite_state'', hint = ''start one with: likewise worker'';\n'
            '    end if;\n'
            '    -- A row may be found by its text and by its picture: the better one counts.\n'
            '    return query\n'
            '        select best.key::%s, best.similarity, best.distance\n'
            '        from (\n'
            '            select distinct on (s.content_id) s.content_id as key, s.similarity, s.distance\n'
            '            from likewise.semantic_search(\n'
            '                query, similarity_threshold, least(max_results::bigint * %s, 2147483647)::int, collection => %L\n'
            '            ) as s\n'
            '            order by s.content_id, s.similarity desc, s.distance\n'
            '        ) as best\n'
            '        order by best.similarity desc, best.distance, best.key\n'
            '        limit max_results;\n'
            'end\n',
            format('%I.%I', schema_name, collection), name, key_type, 2, schema_name || '.' || collection
        )
    );
    execute format(
        'comment on function %I.%I is %L', schema_name, name || '_search', 'Rows most like a text, best first; made by likewise.watch()'
    );
end
$function$;

comment on function likewise.make_search is 'Internal: makes the function that searches a watched table';
