-- What is known of some files: by source, and whether each of its chunks still has its record.
select
    d.id, d.source, d.sha256, d.media_type, d.settings, d.state, d.error, d.chunks,
    (
        select count(*) from likewise.vector_metadata as m join {table} as t on t.id = m.record_id
        where m.document_id = d.id
    ) as present,
    o.sha256 as original_sha256
from likewise.documents as d
left join likewise.documents as o on o.id = d.duplicate_of and o.state = 'stored' and o.owner = d.owner
    and o.settings -> 'metadata' is not distinct from d.settings -> 'metadata'
where d.schema_name = %(schema)s and d.collection = %(collection)s and d.tenant = %(tenant)s and d.source = any (%(sources)s)
