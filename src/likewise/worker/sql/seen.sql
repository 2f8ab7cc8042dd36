-- This worker is alive, and this is what it has counted.
insert into likewise.worker (id, host, process, version, started_at, seen_at, leads, counts)
values (%(id)s::uuid, %(host)s::text, %(process)s::int, %(version)s::text, %(started_at)s::timestamptz, now(), %(leads)s::boolean, %(counts)s::jsonb)
on conflict (id) do update
set seen_at = excluded.seen_at, leads = excluded.leads, counts = excluded.counts
