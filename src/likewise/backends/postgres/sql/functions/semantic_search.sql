-- Searches a collection by a text, in any SQL client:
--     select * from likewise.semantic_search('something for reading in the dark', 0.7, 10, 'articles', '{"price": {"$lt": 50}}');
-- The collection's model makes a vector of the text, for which a worker has to run (likewise worker), unless the text is remembered.
-- Similarity is what the collection's calibration makes of the score; with a threshold of null, nothing is too far. The filter is the wire
-- form of a filter (filters.md), and never makes a result short: it is shorter than max_results only if no more records match and are
-- similar enough. The collection may be left out if one collection with a model is there. Runs with the caller's rights.
create or replace function likewise.semantic_search(
    query text,
    similarity_threshold float8 default 0.7,
    max_results int default 10,
    collection text default null,
    filter jsonb default null,
    target_modality text default null
)
returns table (
    content_id text, similarity float8, modality text, content text, metadata jsonb, distance float8
)
language plpgsql
volatile
rows 10
set search_path = pg_catalog, pg_temp
as $function$
declare
    entry record;
    condition text;
    query_embedding @extension@.vector;
begin
    if query is null then
        raise exception 'query is null; it must be a text' using errcode = 'null_value_not_allowed';
    end if;
    select * into entry from likewise.find_collection(collection, 'model');
    condition := likewise.check_search(entry.name, entry.spec, target_modality, similarity_threshold, max_results, filter);
    query_embedding := likewise.query_vector(query, entry.spec);
    return query
        select f.content_id, f.similarity, f.modality, f.content, f.metadata, f.distance
        from likewise.found_rows(entry.schema_name, entry.name, entry.spec, query_embedding, 'text', target_modality, condition,
            similarity_threshold, max_results) as f;
end
$function$;

comment on function likewise.semantic_search is
    'Records of a collection whose meaning is nearest to a text, with their similarity (0..1), best first';
