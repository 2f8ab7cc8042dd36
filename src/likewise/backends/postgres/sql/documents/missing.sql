-- Chunks whose record is gone, or says something else, or was made by another model; a page of them.
select
    m.document_id, m.chunk_index, m.record_id, m.text, m.chunk_length, m.prefix_length, m.tokens, m.page, m.start_character, m.end_character,
    m.headings, t.id is null as gone, d.source, d.tenant, d.owner, d.metadata, d.chunks
from likewise.vector_metadata as m
join likewise.documents as d on d.id = m.document_id
left join {table} as t on t.id = m.record_id
where m.schema_name = %(schema)s and m.collection = %(collection)s
    and (m.document_id, m.chunk_index) > (%(document)s, %(chunk)s)
    and (
        t.id is null or (m.text is not null and t.content is distinct from m.text)
        or m.embedding_model is distinct from %(model)s::text
    )
order by m.document_id, m.chunk_index
limit %(limit)s
