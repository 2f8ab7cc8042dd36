-- Finds what is like a stored record, in any SQL client:
--     select content_id, similarity, content from likewise.similar_to('lamp', 10, 'articles');
-- By the vector of the record with this id, else by that of a record with this content_id, a text's before a picture's. The record itself is
-- left out, and in a multimodal collection everything of the same content_id. The filter is the wire form of a filter (filters.md). The
-- collection may be left out if there is only one that has a vector of its own. Runs with the caller's rights.
-- A row is id, content_id, similarity, modality, content, metadata, distance.
create or replace function likewise.similar_to(
    content_id text,
    max_results int default 10,
    collection text default null,
    filter jsonb default null,
    target_modality text default null,
    similarity_threshold float8 default 0
)
returns setof likewise.found
language plpgsql
stable
rows 10
set search_path = pg_catalog, pg_temp
as $function$
declare
    entry record;
    condition text;
    like_record record;
    by_column text;
begin
    if content_id is null then
        raise exception 'content_id is null; it must be the id of a record' using errcode = 'null_value_not_allowed';
    end if;
    select * into entry from likewise.find_collection(collection, 'vector');
    condition := likewise.check_search(entry.name, entry.spec, target_modality, similarity_threshold, max_results, filter);
    foreach by_column in array case when (entry.spec ->> 'multimodal')::boolean then array['id', 'content_id'] else array['id'] end loop
        execute format('select t.id, t.vector::@extension@.vector as query_embedding, %s from %I.%I as t where t.%I = $1 order by 4, 1 limit 1',
            case when (entry.spec ->> 'multimodal')::boolean
                then 'coalesce(t.content_id, t.id) as content_id, t.modality = ''image'' as is_image'
                else 't.id as content_id, false as is_image' end,
            entry.schema_name, entry.name, by_column) into like_record using content_id;
        exit when like_record.id is not null;
    end loop;
    if like_record.id is null then
        raise exception 'collection % has no record %', quote_literal(entry.name), quote_literal(left(content_id, 80))
            using errcode = 'no_data_found';
    end if;
    condition := concat_ws(' and ', case when (entry.spec ->> 'multimodal')::boolean
        then format('coalesce(t.content_id, t.id) <> %L', like_record.content_id) else format('t.id <> %L', like_record.id) end, condition);
    return query
        select f.*
        from likewise.found_rows(entry.schema_name, entry.name, entry.spec, like_record.query_embedding,
            case when like_record.is_image then 'image' else 'text' end, target_modality, condition, similarity_threshold, max_results) as f;
end
$function$;

comment on function likewise.similar_to is
    'Records of a collection that are like a stored one, with their similarity (0..1), best first';
