-- The vectors of texts that were searched for, so that processes share what a model was asked. Unlogged: after a crash it is empty, and on
-- a standby it cannot be read.
create unlogged table likewise.query_cache (
    model text not null,
    query bytea not null,
    vector real[] not null,
    last_used timestamptz not null default now(),
    primary key (model, query)
);

create index query_cache_last_used on likewise.query_cache (last_used);

comment on table likewise.query_cache is 'Vectors of texts that were searched for, remembered for all processes; written by Likewise';
comment on column likewise.query_cache.model is 'jsonb_build_array(name, revision, dimension, query prompt)::text';
comment on column likewise.query_cache.query is 'sha256(convert_to(text, ''UTF8''))';
comment on column likewise.query_cache.last_used is 'To the hour: a use within an hour of the last one changes nothing';
