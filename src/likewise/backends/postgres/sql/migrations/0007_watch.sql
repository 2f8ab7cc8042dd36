-- Watched tables: what is watched, the keys of rows that changed, how far a comparison of all rows is, and what could not be embedded.
create table likewise.watch (
    id int generated always as identity primary key,
    name text not null unique,
    source regclass not null,
    schema_name text not null,
    key_column text not null,
    content text,
    image text,
    filter text,
    model text not null,
    token uuid not null,
    error text,
    error_at timestamptz,
    created_at timestamptz not null default now()
);

comment on table likewise.watch is 'The tables that are watched, written by likewise.watch(); read likewise.watches';
comment on column likewise.watch.schema_name is 'Where the functions <name>_search and <name>_watched and the collection <name>_embeddings are';
comment on column likewise.watch.token is 'What <name>_watched wants to see before it reads the table; nobody else may know it';

-- Appended to by the triggers of watched tables, and nothing in it is unique, so that writers wait neither for each other nor for a worker.
-- A key of null asks for a comparison of all rows.
create table likewise.queue (
    watch int not null,
    id bigint generated always as identity,
    key text,
    attempt int not null default 0,
    enqueued_at timestamptz not null default now(),
    primary key (watch, id)
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_insert_scale_factor = 0.2);

comment on table likewise.queue is 'Keys of rows of watched tables that are to be embedded again; read likewise.pending';
comment on column likewise.queue.attempt is 'How often the row has failed, where a worker queued it to try again';

create table likewise.walk (
    watch int primary key references likewise.watch on delete cascade,
    round bigint not null default 1,
    stage text not null default 'rows' check (stage in ('rows', 'orphans', 'index')),
    place text,
    done bigint not null default 0,
    started_at timestamptz not null default now()
);

comment on table likewise.walk is 'How far the comparison of all rows of a watched table with their vectors is; it goes on from there';
comment on column likewise.walk.round is '1 for the first embedding of a table; more each time it is begun again';
comment on column likewise.walk.place is 'The last key (of stage orphans: the last id) that is done';

create table likewise.failure (
    watch int not null references likewise.watch on delete cascade,
    key text not null,
    attempts int not null,
    error text not null,
    failed_at timestamptz not null default now(),
    next_try timestamptz,
    primary key (watch, key)
);

create index failure_next_try on likewise.failure (next_try) where next_try is not null;

comment on table likewise.failure is 'Rows of watched tables that could not be embedded; read likewise.watch_errors';
comment on column likewise.failure.next_try is 'Null where the row is queued again, or was tried too often';
