-- Deletes those of some records that are of no chunk.
delete from {table} as t
where t.id = any (%(records)s) and not exists (
    select from likewise.vector_metadata as m
    where m.schema_name = %(schema)s and m.collection = %(collection)s and m.record_id = t.id
)
returning t.id
