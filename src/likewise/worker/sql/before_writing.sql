-- Whether the table of vectors, which must be locked already, belongs to this role, a superuser or who installed Likewise: in the schema of a
-- watched table its owner may have put another in its place, whose triggers would run with our rights. And whether any row has failed.
select
    exists (
        select
        from pg_catalog.pg_class as c
        join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
        join pg_catalog.pg_roles as r on r.oid = c.relowner
        where n.nspname = %(schema)s and c.relname = %(name)s and (
            r.rolname = current_user or r.rolsuper or r.oid = (select l.nspowner from pg_catalog.pg_namespace as l where l.nspname = 'likewise')
        )
    ) as trusted,
    exists (select from likewise.failure as f where f.watch = %(watch)s) as failing
