-- How far a session's build of an index is: in rows where the server counts those, else in pages.
select
    p.phase,
    case when p.tuples_total > 0 then p.tuples_done else p.blocks_done end as done,
    case when p.tuples_total > 0 then p.tuples_total else p.blocks_total end as total
from pg_catalog.pg_stat_progress_create_index as p
where p.pid = %(pid)s
