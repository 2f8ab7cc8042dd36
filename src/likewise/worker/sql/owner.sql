-- Who is to read the vectors of a watched table: its owner, if that is somebody else and may not yet.
select r.rolname as owner
from likewise.watch as w
join pg_catalog.pg_class as c on c.oid = w.source
join pg_catalog.pg_roles as r on r.oid = c.relowner
where w.id = %(watch)s and not pg_catalog.has_table_privilege(c.relowner, %(vectors)s::regclass, 'select with grant option')
