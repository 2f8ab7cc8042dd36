-- What embed() and the workers that answer it share. See docs/explanation/embed.md.

-- The models that were asked for, by the name they are asked for: which model that is, here and now.
create table likewise.model (
    name text primary key,
    identity jsonb not null,
    modalities text[] not null,
    updated_at timestamptz not null default now()
);

comment on table likewise.model is 'The models that workers have answered with; written by Likewise';
comment on column likewise.model.name is 'As it is named in embed(…, model)';
comment on column likewise.model.identity is 'jsonb_build_array(name, revision, dimension, query prompt)';

-- The gate at which callers wait. The worker that answers holds its advisory lock, and goes on to the next number with each batch.
create sequence likewise.turn as bigint maxvalue 2000000000 cycle;

comment on sequence likewise.turn is 'The number that callers of embed() wait for; advanced by the worker that answers';

-- Why a request could not be answered, until its caller has read it. Unlogged: after a crash there are no callers.
create unlogged table likewise.refusal (
    request uuid primary key,
    sqlstate text not null,
    message text not null,
    hint text,
    made_at timestamptz not null default now()
);

comment on table likewise.refusal is 'Errors of models on their way to the callers of embed(); written by Likewise';

-- Who answers, what they have done, and when they were last there.
create unlogged table likewise.worker (
    id uuid primary key,
    host text not null,
    process int not null,
    version text not null,
    started_at timestamptz not null,
    seen_at timestamptz not null,
    leads boolean not null,
    counts jsonb not null
);

comment on table likewise.worker is 'The workers and what they have counted, brought up to date every few seconds; written by Likewise';

-- Through it a worker reads the messages of embed(). It publishes no table.
create publication likewise;
