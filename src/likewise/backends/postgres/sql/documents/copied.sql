-- Tells copies which documents hold their content; null where one of these is gone meanwhile.
update likewise.documents as d
set duplicate_of = (select o.id from likewise.documents as o where o.id = n.original for key share)
from unnest(%(ids)s::bigint[], %(originals)s::bigint[]) as n (id, original)
where d.id = n.id
