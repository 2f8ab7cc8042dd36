-- Which model a name stands for.
insert into likewise.model (name, identity, modalities)
values (%(name)s::text, %(identity)s::jsonb, %(modalities)s::text[])
on conflict (name) do update
set identity = excluded.identity, modalities = excluded.modalities, updated_at = now()
where (model.identity, model.modalities) is distinct from (excluded.identity, excluded.modalities)
