-- Documents that lack chunks that cannot be made of what is stored: they are read again at the next ingestion.
update likewise.documents as d
set settings = null, updated_at = now()
where d.schema_name = %(schema)s and d.collection = %(collection)s and d.id = any (%(ids)s)
