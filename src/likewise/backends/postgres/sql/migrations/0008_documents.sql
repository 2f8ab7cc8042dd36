-- Documents and their chunks: where each record of an ingested file comes from. Deleting a document deletes its records.
create table likewise.documents (
    id bigint generated always as identity primary key,
    schema_name text not null,
    collection text not null,
    tenant text not null default '',
    owner text not null default '',
    source text not null,
    sha256 bytea not null check (octet_length(sha256) = 32),
    bytes bigint not null,
    media_type text,
    title text,
    language text,
    metadata jsonb not null default '{}',
    settings jsonb,
    embedding_model text,
    state text not null check (state in ('stored', 'failed', 'duplicate')),
    duplicate_of bigint references likewise.documents on delete set null,
    chunks int not null default 0,
    characters bigint not null default 0,
    error text,
    error_stage text,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    unique (schema_name, collection, tenant, source),
    foreign key (schema_name, collection) references likewise.registry (schema_name, name) on delete cascade
);

create index documents_sha256 on likewise.documents (schema_name, collection, sha256);
create index documents_owner on likewise.documents (schema_name, collection, tenant, owner);
create index documents_duplicate_of on likewise.documents (duplicate_of) where duplicate_of is not null;

comment on table likewise.documents is 'The files that were ingested; deleting one deletes its chunks and their records';
comment on column likewise.documents.source is 'The name that the file goes by, of which the ids of its records are made';
comment on column likewise.documents.settings is 'How it was parsed and cut; with others it is cut again';
comment on column likewise.documents.error is 'Why the file could not be read last; what was stored before is still there';

create table likewise.vector_metadata (
    document_id bigint not null references likewise.documents on delete cascade,
    chunk_index int not null,
    schema_name text not null,
    collection text not null,
    record_id text not null,
    text text,
    content_hash bytea not null,
    faiss_index bigint generated always as identity unique,
    embedding_model text,
    chunk_length int not null,
    prefix_length int not null default 0,
    tokens int,
    page int,
    start_character int,
    end_character int,
    headings text[],
    created_at timestamptz not null default now(),
    primary key (document_id, chunk_index),
    unique (schema_name, collection, record_id)
);

create index vector_metadata_content_hash on likewise.vector_metadata (schema_name, collection, content_hash);
create index vector_metadata_created_at on likewise.vector_metadata (created_at);
-- Of very long texts the beginning: a tsvector has at most a megabyte.
create index vector_metadata_words on likewise.vector_metadata using gin (to_tsvector('simple', left(text, 100000)));

comment on table likewise.vector_metadata is 'The chunks of documents: each is one record of a collection';
comment on column likewise.vector_metadata.record_id is 'The id of its record in the collection';
comment on column likewise.vector_metadata.text is 'What was embedded; null for a picture';
comment on column likewise.vector_metadata.content_hash is 'SHA-256 of the text or picture: what is equal is embedded once';
comment on column likewise.vector_metadata.faiss_index is 'A number of its own, for indexes whose keys are numbers';
comment on column likewise.vector_metadata.prefix_length is 'The characters at the beginning of its text that are not in the document there';
comment on column likewise.vector_metadata.chunk_length is 'The characters of its text; 0 for a picture';

create function likewise.delete_records()
returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $function$
declare
    part record;
begin
    for part in
        select g.schema_name, g.collection, array_agg(g.record_id) as ids from gone as g group by g.schema_name, g.collection
    loop
        -- Not where the whole collection goes, or has gone.
        if to_regclass(format('%I.%I', part.schema_name, part.collection)) is not null then
            execute format('delete from %I.%I where id = any ($1)', part.schema_name, part.collection) using part.ids;
        end if;
    end loop;
    return null;
end
$function$;

comment on function likewise.delete_records is 'Internal: the trigger that deletes the records of chunks that are deleted';

create trigger delete_records
after delete on likewise.vector_metadata
referencing old table as gone
for each statement execute function likewise.delete_records();

create table likewise.ingestion (
    schema_name text not null,
    collection text not null,
    config jsonb not null,
    updated_at timestamptz not null default now(),
    primary key (schema_name, collection),
    foreign key (schema_name, collection) references likewise.registry (schema_name, name) on delete cascade
);

comment on table likewise.ingestion is 'How files are parsed and cut for a collection, where that was chosen';
