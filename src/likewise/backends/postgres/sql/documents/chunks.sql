-- The chunks of a document, in order.
select
    m.record_id, m.chunk_index, m.text, m.chunk_length, m.faiss_index, m.embedding_model, m.page, m.start_character, m.end_character,
    m.headings, m.created_at
from likewise.vector_metadata as m
where m.document_id = %(document)s and m.schema_name = %(schema)s and m.collection = %(collection)s
order by m.chunk_index
