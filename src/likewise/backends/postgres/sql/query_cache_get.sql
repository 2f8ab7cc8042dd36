-- The vector of a text that was searched for, and whether its last use should be noted.
select q.vector, q.last_used < now() - interval '1 hour' as stale
from likewise.query_cache as q
where q.model = %(model)s::text and q.query = %(query)s::bytea
