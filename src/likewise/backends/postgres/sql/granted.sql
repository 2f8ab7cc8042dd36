-- Whether likewise_user was given what it needs here, so that it is given what has been added since.
select coalesce((
    select pg_catalog.has_schema_privilege(r.oid, 'likewise', 'usage') from pg_catalog.pg_roles as r where r.rolname = 'likewise_user'
), false)
