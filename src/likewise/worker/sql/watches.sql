-- What there is to do for each watched table.
select
    w.id,
    w.name,
    w.schema_name,
    w.model,
    w.image is not null as pictures,
    w.error is not null as troubled,
    k.stage,
    k.round,
    exists (select from likewise.queue as q where q.watch = w.id) as waiting
from likewise.watch as w
left join likewise.walk as k on k.watch = w.id
where %(only)s::text[] is null or w.name = any (%(only)s)
order by w.id
