-- What the recall of vector indexes was when it was measured, so that a search can be told which recall it is to have.
create table likewise.recall (
    schema_name text not null,
    name text not null,
    vector text not null,
    k int not null,
    index_definition text not null,
    rows float8 not null,
    points jsonb not null,
    measured_at timestamptz not null default now(),
    primary key (schema_name, name, vector, k),
    foreign key (schema_name, name) references likewise.registry on delete cascade
);

comment on table likewise.recall is 'Measured recall of vector indexes by ef_search; written by Likewise';
comment on column likewise.recall.vector is 'The name of the vector, empty for the collection''s own';
comment on column likewise.recall.points is 'Lists of ef_search, recall@k and its standard error';
