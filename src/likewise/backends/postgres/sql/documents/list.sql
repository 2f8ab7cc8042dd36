-- A page of documents, in the order of their ids.
select
    d.id, d.source, d.tenant, d.owner, d.state, d.media_type, d.bytes, d.title, d.language, d.metadata, d.chunks, d.characters,
    d.embedding_model, d.error, d.error_stage, d.duplicate_of, d.created_at, d.updated_at
from likewise.documents as d
where d.schema_name = %(schema)s and d.collection = %(collection)s
    and (%(ids)s::bigint[] is null or d.id = any (%(ids)s::bigint[]))
    and (%(after)s::bigint is null or d.id > %(after)s::bigint)
    and (%(state)s::text is null or d.state = %(state)s::text)
    and (%(owner)s::text is null or d.owner = %(owner)s::text)
    and (%(tenant)s::text is null or d.tenant = %(tenant)s::text)
order by d.id
limit %(limit)s
