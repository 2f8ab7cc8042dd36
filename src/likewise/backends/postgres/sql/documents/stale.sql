-- Deletes the chunks that documents no longer have; their records go with them.
delete from likewise.vector_metadata as m
where m.document_id = any (%(documents)s) and m.record_id <> all (%(records)s)
