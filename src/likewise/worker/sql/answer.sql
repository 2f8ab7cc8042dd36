-- Stores vectors for their callers and for everybody after them. The vectors come in one row of numbers, each as long as its dimension says.
insert into likewise.query_cache (model, query, vector)
select a.model, a.query, (%(numbers)s::real[])[a.last - a.dimension + 1 : a.last]
from (
    select
        g.model,
        g.query,
        g.dimension,
        sum(g.dimension) over (order by g.place) as last
    from unnest(%(models)s::text[], %(queries)s::bytea[], %(dimensions)s::int[]) with ordinality as g (model, query, dimension, place)
) as a
on conflict (model, query) do nothing
