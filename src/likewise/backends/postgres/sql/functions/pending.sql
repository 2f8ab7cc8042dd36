-- What waits for a worker: of each watched table the entries in the queue, since when the oldest waits, and how many rows could not be embedded.
create or replace view likewise.pending as
select
    w.name,
    q.depth,
    q.oldest,
    f.failed
from likewise.watch as w
cross join lateral (
    select pg_catalog.count(*) as depth, pg_catalog.min(e.enqueued_at) as oldest from likewise.queue as e where e.watch = w.id
) as q
cross join lateral (select pg_catalog.count(*) as failed from likewise.failure as e where e.watch = w.id) as f;

comment on view likewise.pending is 'The depth of the queue of each watched table';
