-- How far loads are that were given a token: the place reached in their input, stored in the transaction that stores the records.
create table likewise.load (
    schema_name text not null,
    name text not null,
    token text not null,
    position bigint not null,
    last_id text,
    finished boolean not null,
    updated_at timestamptz not null default now(),
    primary key (schema_name, name, token),
    foreign key (schema_name, name) references likewise.registry on delete cascade
);

comment on table likewise.load is 'How far loads into collections are, so that one that was broken off can go on; written by Likewise';
comment on column likewise.load.position is 'How many records of the input are done';
comment on column likewise.load.last_id is 'The id of the last of them';
