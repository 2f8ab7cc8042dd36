-- Searches a collection by vector, in any SQL client:
--     select * from likewise.find_similar_multimodal('[…]', 'image', 0.8, 10, 'catalog');
-- Where the collection has a calibration, similarity is what it makes of the scores of a query of this modality, and texts and pictures,
-- searched apart, are ranked together by it. Without one, or where query_modality is null, it is the score held to 0..1. With a threshold of
-- null, nothing is too far. The collection may be left out if one multimodal collection is there.
-- Runs with the caller's rights. The collection's index is used; where it falls short, the search is answered exactly, so that a
-- result is shorter than max_results only if no more records are similar enough.
create or replace function likewise.find_similar_multimodal(
    query_embedding @extension@.vector,
    target_modality varchar default null,
    similarity_threshold float8 default 0.7,
    max_results int default 10,
    collection text default null,
    query_modality text default 'text'
)
returns table (
    content_id text, similarity float8, modality text, content text, metadata jsonb, distance float8
)
language plpgsql
stable
rows 10
set search_path = pg_catalog, pg_temp
as $function$
declare
    entry record;
    condition text;
begin
    if query_embedding is null then
        raise exception 'query_embedding is null' using errcode = 'null_value_not_allowed';
    end if;
    if query_modality is not null and query_modality not in ('text', 'image') then
        raise exception 'query_modality is %; it must be text or image, or null if it is neither', quote_literal(query_modality)
            using errcode = 'invalid_parameter_value';
    end if;
    select * into entry from likewise.find_collection(collection, 'modalities');
    condition := likewise.check_search(entry.name, entry.spec, target_modality, similarity_threshold, max_results, null);
    return query
        select f.content_id, f.similarity, f.modality, f.content, f.metadata, f.distance
        from likewise.found_rows(entry.schema_name, entry.name, entry.spec, query_embedding, query_modality, target_modality, condition,
            similarity_threshold, max_results) as f;
end
$function$;

comment on function likewise.find_similar_multimodal is
    'Records of a collection nearest to a vector, with their similarity (0..1), best first';
