-- The registered specifications, of one collection or (name null) of all, whose tables are still there.
select r.name, r.spec
from likewise.registry as r
join pg_catalog.pg_class as c
    on c.relnamespace = to_regnamespace(quote_ident(r.schema_name)) and c.relname = r.name and c.relkind in ('r', 'p')
where r.schema_name = %(schema)s and (%(name)s::text is null or r.name = %(name)s)
order by r.name collate "C"
