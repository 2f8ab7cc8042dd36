-- Notes that a text was searched for again.
update likewise.query_cache as q
set last_used = now()
where q.model = %(model)s::text and q.query = %(query)s::bytea and q.last_used < now() - interval '1 hour'
