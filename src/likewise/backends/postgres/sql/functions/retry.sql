-- Has a worker try the rows of a watched table again that could not be embedded; gives how many there are.
create or replace function likewise.retry(
    name text
)
returns bigint
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $function$
declare
    id int;
    retried bigint;
begin
    select w.id into id from likewise.watch as w where w.name = retry.name;
    if not found then
        raise exception 'there is no watch %', quote_literal(retry.name)
            using errcode = 'undefined_object', hint = 'select name from likewise.watches lists them';
    end if;
    insert into likewise.queue (watch, key) select f.watch, f.key from likewise.failure as f where f.watch = id;
    get diagnostics retried = row_count;
    return retried;
end
$function$;

comment on function likewise.retry is 'Tries the rows of a watched table again that could not be embedded';
