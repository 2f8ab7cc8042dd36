-- Has a worker compare every row of a watched table with its vectors, for changes that triggers do not see: in a partition
-- itself, with triggers disabled, in files and pages that a column names, or in other tables that an expression reads.
-- What has not changed is not embedded again.
create or replace function likewise.resync(
    name text
)
returns void
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $function$
declare
    id int;
begin
    select w.id into id from likewise.watch as w where w.name = resync.name;
    if not found then
        raise exception 'there is no watch %', quote_literal(resync.name)
            using errcode = 'undefined_object', hint = 'select name from likewise.watches lists them';
    end if;
    insert into likewise.queue (watch, key) values (id, null);
end
$function$;

comment on function likewise.resync is 'Compares every row of a watched table with its vectors';
