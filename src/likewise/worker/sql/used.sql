-- Notes that these were searched for again.
update likewise.query_cache as q
set last_used = now()
from unnest(%(models)s::text[], %(queries)s::bytea[]) as u (model, query)
where q.model = u.model and q.query = u.query and q.last_used < now() - interval '1 hour'
