-- Documents as they are now, in the order of their sources, so that two of us cannot wait for each other.
insert into likewise.documents (
    schema_name, collection, tenant, owner, source, sha256, bytes, media_type, title, language, metadata, settings, embedding_model,
    state, chunks, characters
)
select
    %(schema)s, %(collection)s, %(tenant)s, %(owner)s, n.source, n.sha256, n.bytes, n.media_type, n.title, n.language, n.metadata, n.settings,
    %(model)s, n.state, n.chunks, n.characters
from unnest(
    %(sources)s::text[], %(sha256)s::bytea[], %(bytes)s::bigint[], %(media_types)s::text[], %(titles)s::text[], %(languages)s::text[],
    %(metadata)s::jsonb[], %(settings)s::jsonb[], %(states)s::text[], %(chunks)s::int[], %(characters)s::bigint[]
) as n (source, sha256, bytes, media_type, title, language, metadata, settings, state, chunks, characters)
order by n.source
on conflict (schema_name, collection, tenant, source) do update set
    owner = excluded.owner, sha256 = excluded.sha256, bytes = excluded.bytes, media_type = excluded.media_type, title = excluded.title,
    language = excluded.language, metadata = excluded.metadata, settings = excluded.settings, embedding_model = excluded.embedding_model,
    state = excluded.state, duplicate_of = null, chunks = excluded.chunks, characters = excluded.characters,
    error = null, error_stage = null, updated_at = now()
returning id, source
