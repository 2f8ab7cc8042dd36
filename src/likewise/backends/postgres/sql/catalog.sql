-- Everything about one collection's table in one statement: the server, pgvector, the registered specification, columns, indexes.
select
    current_setting('server_version_num')::int as server_version,
    current_setting('server_version') as server_version_text,
    (
        select case to_jsonb(d) ->> 'datlocprovider'
            when 'b' then true when 'i' then false else d.datcollate in ('C', 'POSIX')
        end
        from pg_catalog.pg_database as d
        where d.datname = current_database()
    ) as code_point_order,
    -- Before PostgreSQL 17 there is no collation of its own that lowers all of Unicode. A database whose character type is plain C
    -- lowers ASCII only and needs another; in any other the database's own will do.
    case when current_setting('server_version_num')::int >= 170000 then 'pg_c_utf8' else (
        select l.collname
        from pg_catalog.pg_database as d, pg_catalog.pg_collation as l
        where d.datname = current_database() and d.datctype in ('C', 'POSIX')
            and l.collnamespace = 'pg_catalog'::regnamespace and l.collencoding in (-1, d.encoding)
            and l.collname in ('C.utf8', 'C.UTF-8', 'en_US.utf8', 'en_US.UTF-8', 'und-x-icu')
        order by l.collname
        limit 1
    ) end as lower_collation,
    (
        select jsonb_build_object(
            'schema', n.nspname,
            'version', e.extversion,
            'oids', (
                select jsonb_object_agg(t.typname, t.oid::bigint)
                from pg_catalog.pg_type as t
                where t.typnamespace = e.extnamespace and t.typname in ('vector', 'halfvec')
            )
        )
        from pg_catalog.pg_extension as e
        join pg_catalog.pg_namespace as n on n.oid = e.extnamespace
        where e.extname = 'vector'
    ) as extension,
    c.oid is not null as table_exists,
    -- As the planner reckons: the density at the last count, times the pages there are now.
    case when c.reltuples > 0 and c.relpages > 0
        then c.reltuples::float8 / c.relpages * pg_catalog.pg_relation_size(c.oid) / current_setting('block_size')::int
        else pg_catalog.pg_relation_size(c.oid) / 2000.0
    end as rows,
    to_regclass('likewise.registry') is not null as registry_exists,
    (
        select jsonb_agg(jsonb_build_object(
            'name', a.attname,
            'type', case when tn.nspname = 'pg_catalog' then pg_catalog.format_type(a.atttypid, null) else t.typname end,
            'dimension', a.atttypmod,
            'not_null', a.attnotnull,
            'has_default', a.atthasdef or a.attidentity <> '' or a.attgenerated <> ''
        ) order by a.attnum)
        from pg_catalog.pg_attribute as a
        join pg_catalog.pg_type as t on t.oid = a.atttypid
        join pg_catalog.pg_namespace as tn on tn.oid = t.typnamespace
        where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
    ) as columns,
    (
        select array_agg(a.attname::text order by a.attnum)
        from pg_catalog.pg_index as i
        join pg_catalog.pg_attribute as a on a.attrelid = c.oid and a.attnum = any (i.indkey)
        where i.indrelid = c.oid and i.indisprimary
    ) as primary_key,
    (
        select jsonb_agg(jsonb_build_object(
            'name', ic.relname,
            'method', am.amname,
            'operator_class', oc.opcname,
            'definition', pg_catalog.pg_get_indexdef(i.indexrelid),
            'valid', i.indisvalid,
            'partial', i.indpred is not null,
            'rows', ic.reltuples,
            'comment', pg_catalog.obj_description(ic.oid, 'pg_class'),
            'options', to_jsonb(ic.reloptions),
            'column', a.attname
        ) order by ic.relname)
        from pg_catalog.pg_index as i
        join pg_catalog.pg_class as ic on ic.oid = i.indexrelid
        join pg_catalog.pg_am as am on am.oid = ic.relam
        join pg_catalog.pg_opclass as oc on oc.oid = i.indclass[0]
        left join pg_catalog.pg_attribute as a on a.attrelid = c.oid and a.attnum = i.indkey[0] and i.indkey[0] > 0
        where i.indrelid = c.oid and not i.indisprimary
    ) as indexes
from (select 1) as one
left join pg_catalog.pg_class as c
    on c.relnamespace = to_regnamespace(quote_ident(%(schema)s)) and c.relname = %(name)s and c.relkind in ('r', 'p')
