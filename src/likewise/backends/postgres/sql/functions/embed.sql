-- The vector of a text, as a query of this model (null: the one that likewise install was told, else mini), in any SQL client:
--     select * from articles order by vector <=> (select likewise.embed('travelling while asleep')) limit 5;
-- What was embedded before is remembered; else a worker is asked (likewise worker), for likewise.embed_timeout at the longest, 10 s unless
-- set. Errors: LW001 no worker is there, LW002 it did not answer in time, LW003 a transaction whose snapshot is fixed cannot see the answer,
-- LW004 the server does not let requests out, LW005 the model is not offered or not to be had, LW006 the worker failed; what a model refuses is invalid_parameter_value.
create or replace function likewise.embed(
    input text,
    model text default null
)
returns @extension@.vector
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $function$
begin
    return likewise.vector_of('text', convert_to(input, 'UTF8'), coalesce(model, likewise.default_model()), null);
end
$function$;

comment on function likewise.embed is 'The vector of a text, embedded while the statement runs';

-- Tells a worker that something remembered was used, so that it stays remembered.
create or replace function likewise.note_use(identity jsonb, digest bytea)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $function$
begin
    if not pg_is_in_recovery() and current_setting('wal_level') = 'logical' then
        perform pg_logical_emit_message(
            false, 'likewise.used', jsonb_build_object('model', identity::text, 'query', encode(digest, 'hex'))::text
        );
    end if;
end
$function$;

comment on function likewise.note_use is 'Internal: Notes that something remembered was used';

-- The model that embed() uses when none is named.
create or replace function likewise.default_model()
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $function$
    select coalesce((select s.value from likewise.setting as s where s.name = 'model'), 'mini')
$function$;

comment on function likewise.default_model is 'Internal: the model of embed() when none is named; set by likewise install --model';
