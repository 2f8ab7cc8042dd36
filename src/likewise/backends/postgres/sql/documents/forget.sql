-- Deletes documents by their sources; their chunks and records go with them.
delete from likewise.documents as d
where d.schema_name = %(schema)s and d.collection = %(collection)s and d.tenant = %(tenant)s and d.source = any (%(sources)s)
