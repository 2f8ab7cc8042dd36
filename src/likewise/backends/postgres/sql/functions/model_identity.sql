-- Which model a name stands for, as jsonb_build_array(name, revision, dimension, query prompt); null if no worker has said yet.
create or replace function likewise.model_identity(model text)
returns jsonb
language sql
stable
parallel safe
set search_path = pg_catalog, pg_temp
as $function$
    select m.identity from likewise.model as m where m.name = model_identity.model
$function$;

comment on function likewise.model_identity is 'Internal: Which model a name stands for here';
