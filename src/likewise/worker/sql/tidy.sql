-- Workers that are gone, and errors whose callers are.
with gone as (
    delete from likewise.worker as w where w.seen_at < now() - interval '1 minute'
)
delete from likewise.refusal as r where r.made_at < now() - interval '10 minutes'
