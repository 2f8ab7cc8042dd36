-- The registry of collections. Migrations are numbered, applied once, and never changed after a release.
create table likewise.registry (
    schema_name text not null,
    name text not null,
    spec jsonb not null,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    primary key (schema_name, name)
);

comment on table likewise.registry is 'The collections of this database and their specifications, written by Likewise';

-- One row of the search functions, so that they can hold a result before they return it.
create type likewise.found as (
    id text, content_id text, similarity float8, modality text, content text, metadata jsonb, distance float8
);
