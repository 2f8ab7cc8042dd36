-- Copies of collections where the log cannot be read: triggers note the ids of rows that change, and by which transaction, and each copy
-- asks which of those transactions it has not seen yet.
create table likewise.change (
    source oid not null,
    id text,
    xid xid8 not null default pg_catalog.pg_current_xact_id()
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_insert_scale_factor = 0.2);

create index change_source_xid on likewise.change (source, xid);

comment on table likewise.change is 'Ids of rows that changed in collections that are copied, until every copy has seen them';
comment on column likewise.change.id is 'Null where every row was deleted by TRUNCATE';
comment on column likewise.change.xid is 'The transaction, at its top level, that changed the row';

create table likewise.feed (
    source oid not null,
    name text not null,
    origin text not null,
    passed pg_snapshot not null,
    seen_at timestamptz not null default now(),
    primary key (source, name)
);

comment on table likewise.feed is 'Copies of collections that follow likewise.change';
comment on column likewise.feed.origin is 'The server and its triggers, by what is another after a restore or when they were altered';
comment on column likewise.feed.passed is 'What the copy has seen, so that it needs no note of it';

-- When a copy was last seen, in seconds since 1970: a sequence, so that a writer with an old snapshot reads what it is now.
create sequence likewise.copies_seen minvalue 0 start 0;
