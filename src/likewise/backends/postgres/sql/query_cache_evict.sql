-- Keeps the texts that were searched for last; two who do so at once do not wait for each other.
delete from likewise.query_cache as q
using (
    select o.model, o.query
    from likewise.query_cache as o
    order by o.last_used desc, o.model, o.query
    offset %(most)s::bigint
    for update skip locked
) as old
where (q.model, q.query) = (old.model, old.query)
