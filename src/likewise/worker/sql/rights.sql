-- What of Likewise's this session's role may not read or write, as a worker does, and whose that is.
select
    pg_catalog.quote_ident(current_user) as role,
    pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(n.nspowner)) as owner,
    pg_catalog.has_schema_privilege(n.oid, 'usage') as enters,
    array(
        select distinct c.relname::text
        from pg_catalog.pg_class as c
        cross join unnest(
            case
                when c.relname in ('registry', 'setting') then array['select']
                when c.relname in ('model', 'query_cache', 'refusal', 'worker') then array['select', 'insert', 'update', 'delete']
                when c.relname = 'turn' then array['usage']
            end
        ) as p (privilege)
        where
            c.relnamespace = n.oid
            and not case c.relkind
                when 'S' then pg_catalog.has_sequence_privilege(c.oid, p.privilege)
                else pg_catalog.has_table_privilege(c.oid, p.privilege)
            end
        order by 1
    ) as closed
from pg_catalog.pg_namespace as n
where n.nspname = 'likewise'
