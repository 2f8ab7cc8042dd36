-- Whether anybody holds the advisory lock of this number: 0 is held by the worker that answers, -1 by every worker that could.
create or replace function likewise.worker_lock_held(number int)
returns boolean
language sql
volatile
set search_path = pg_catalog, pg_temp
as $function$
    select exists (
        select from pg_locks as l
        where l.locktype = 'advisory' and l.classid = 1818848101 and l.objid::bigint = (number::bigint & 4294967295) and l.objsubid = 2 and l.granted
            and l.database = (select d.oid from pg_database as d where d.datname = current_database())
    )
$function$;

comment on function likewise.worker_lock_held is 'Internal: Whether a worker is there';
