-- What there is of the way to a worker: the schema of dblink, and the options of the foreign server; null where there is none.
select
    (select n.nspname from pg_catalog.pg_extension as e join pg_catalog.pg_namespace as n on n.oid = e.extnamespace where e.extname = 'dblink')
        as schema,
    (select array(select o.option_name from pg_catalog.pg_options_to_table(s.srvoptions) as o)
        from pg_catalog.pg_foreign_server as s where s.srvname = 'likewise_worker') as options
