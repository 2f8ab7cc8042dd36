-- Chunks that have words, best first: the words as a search engine takes them ("in quotes" for phrases, or, -without).
create or replace function likewise.search_chunks(
    words text, max_results int default 10, collection text default null
)
returns table (document_id bigint, source text, chunk_index int, record_id text, rank float4, text text, page int, headings text[])
language sql
stable
set search_path = pg_catalog, pg_temp
as $function$
    select m.document_id, d.source, m.chunk_index, m.record_id, ts_rank(to_tsvector('simple', left(m.text, 100000)), q.query) as rank, m.text, m.page, m.headings
    from websearch_to_tsquery('simple', words) as q (query)
    join likewise.vector_metadata as m on to_tsvector('simple', left(m.text, 100000)) @@ q.query
    join likewise.documents as d on d.id = m.document_id
    where search_chunks.collection is null or m.collection = search_chunks.collection
    order by rank desc, m.document_id, m.chunk_index
    limit max_results
$function$;

comment on function likewise.search_chunks is 'Chunks of documents that have words, by rank: search_chunks(''"red dress" -silk'', 10, ''notes'')';
