-- Deletes documents; their chunks and records go with them.
delete from likewise.documents as d
where d.schema_name = %(schema)s and d.collection = %(collection)s and d.id = any (%(ids)s)
