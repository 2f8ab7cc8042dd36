-- The vector indexes of a table that a load may drop and build again: valid, over every row, ours to drop and to build, and with nothing
-- about them (a comment, a tablespace, something that depends on them) that their definition does not say.
select ic.relname as name, pg_catalog.pg_get_indexdef(i.indexrelid) as definition
from pg_catalog.pg_class as c
join pg_catalog.pg_index as i on i.indrelid = c.oid
join pg_catalog.pg_class as ic on ic.oid = i.indexrelid
join pg_catalog.pg_am as am on am.oid = ic.relam
where c.relnamespace = to_regnamespace(quote_ident(%(schema)s)) and c.relname = %(name)s and c.relkind = 'r'
    and am.amname in ('hnsw', 'ivfflat') and i.indisvalid and i.indpred is null
    and ic.reltablespace = 0
    and pg_catalog.obj_description(ic.oid, 'pg_class') is null
    and not exists (
        select from pg_catalog.pg_depend as d
        where (d.refclassid, d.refobjid) = ('pg_catalog.pg_class'::regclass, ic.oid)
    )
    and pg_catalog.pg_has_role(c.relowner, 'usage')
    and pg_catalog.has_schema_privilege(c.relnamespace, 'create')
order by ic.relname
