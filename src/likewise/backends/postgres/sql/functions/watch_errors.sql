-- The rows of your watched tables that could not be embedded, and why. They are tried again at next_try; where that is null they were tried too often, or
-- wait in the queue. A change of the row, or likewise.retry(), has them tried anew.
create or replace view likewise.watch_errors as
select
    w.name,
    f.key,
    f.attempts,
    f.error,
    f.failed_at,
    f.next_try
from likewise.failure as f
join likewise.watch as w on w.id = f.watch
join pg_catalog.pg_class as c on c.oid = w.source
where pg_catalog.pg_has_role(c.relowner, 'usage');

comment on view likewise.watch_errors is 'Rows of watched tables that could not be embedded';
