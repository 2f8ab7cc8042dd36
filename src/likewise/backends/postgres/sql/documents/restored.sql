-- Chunks whose records are there again, by this model.
update likewise.vector_metadata as m
set embedding_model = %(model)s, created_at = now()
where m.schema_name = %(schema)s and m.collection = %(collection)s and m.record_id = any (%(records)s)
