-- Whether the table of vectors, which must be locked already, belongs to this role, a superuser or who installed Likewise. In the schema of a
-- watched table its owner may have put another in its place, whose triggers would run with our rights.
select r.rolname = current_user or r.rolsuper or r.oid = l.nspowner as trusted
from pg_catalog.pg_class as c
join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
join pg_catalog.pg_roles as r on r.oid = c.relowner
join pg_catalog.pg_namespace as l on l.nspname = 'likewise'
where n.nspname = %(schema)s and c.relname = %(name)s
