-- Which of these are remembered already.
select q.model, q.query
from likewise.query_cache as q
where (q.model, q.query) in (select g.model, g.query from unnest(%(models)s::text[], %(queries)s::bytea[]) as g (model, query))
