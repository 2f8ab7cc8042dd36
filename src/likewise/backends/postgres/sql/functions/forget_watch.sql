-- Internal. Removes what is stored of a watch, with the rights of who installed Likewise. That the caller may is proved by <name>_watched, which only the owner of
-- the table can have dropped.
create or replace function likewise.forget_watch(
    watch int, keep_vectors boolean
)
returns void
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $function$
declare
    known record;
    vectors regclass;
begin
    select w.* into known from likewise.watch as w where w.id = forget_watch.watch;
    if not found then
        return;
    end if;
    if to_regprocedure(format('%I.%I(uuid, regclass, text[], text, int)', known.schema_name, known.name || '_watched')) is not null then
        raise exception 'only likewise.unwatch() forgets a watch' using errcode = 'insufficient_privilege';
    end if;
    if not keep_vectors and exists (
        select from likewise.registry as r where r.schema_name = known.schema_name and r.name = known.name || '_embeddings'
    ) then
        vectors := to_regclass(format('%I.%I', known.schema_name, known.name || '_embeddings'));
    end if;
    -- In the order in which a worker takes them, so that the two cannot wait for each other.
    delete from likewise.queue as q where q.watch = known.id;
    if vectors is not null then
        execute format('drop table %s', vectors);
        delete from likewise.registry as r where r.schema_name = known.schema_name and r.name = known.name || '_embeddings';
    end if;
    delete from likewise.watch as w where w.id = known.id;
    delete from likewise.queue as q where q.watch = known.id;
end
$function$;

comment on function likewise.forget_watch is 'Internal: removes what is stored of a watch';
