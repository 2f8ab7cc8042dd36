-- Vectors that a model made of some texts or pictures, by their hashes, wherever in the collection they are.
select distinct on (m.content_hash) m.content_hash, t.embedded, t.vector
from likewise.vector_metadata as m
join {table} as t on t.id = m.record_id
where m.schema_name = %(schema)s and m.collection = %(collection)s and m.content_hash = any (%(hashes)s) and t.embedded is not null
order by m.content_hash, m.document_id, m.chunk_index
