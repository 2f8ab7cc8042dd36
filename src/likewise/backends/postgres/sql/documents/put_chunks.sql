-- The chunks of documents as they are now. One that says what it said keeps the moment in which it was made.
insert into likewise.vector_metadata as m (
    document_id, chunk_index, schema_name, collection, record_id, text, content_hash, embedding_model, chunk_length, prefix_length, tokens,
    page, start_character, end_character, headings
)
select
    n.document_id, n.chunk_index, %(schema)s, %(collection)s, n.record_id, n.text, n.content_hash, %(model)s, n.chunk_length, n.prefix_length,
    n.tokens, n.page, n.start_character, n.end_character, array(select jsonb_array_elements_text(n.headings))
from unnest(
    %(documents)s::bigint[], %(indexes)s::int[], %(records)s::text[], %(texts)s::text[], %(hashes)s::bytea[], %(lengths)s::int[],
    %(prefixes)s::int[], %(tokens)s::int[], %(pages)s::int[], %(starts)s::int[], %(ends)s::int[], %(headings)s::jsonb[]
) as n (
    document_id, chunk_index, record_id, text, content_hash, chunk_length, prefix_length, tokens, page, start_character, end_character, headings
)
on conflict (document_id, chunk_index) do update set
    record_id = excluded.record_id, text = excluded.text, content_hash = excluded.content_hash, embedding_model = excluded.embedding_model,
    chunk_length = excluded.chunk_length, prefix_length = excluded.prefix_length, tokens = excluded.tokens, page = excluded.page, start_character = excluded.start_character,
    end_character = excluded.end_character, headings = excluded.headings,
    created_at = case
        when (m.content_hash, m.embedding_model) is distinct from (excluded.content_hash, excluded.embedding_model) then now()
        else m.created_at
    end
