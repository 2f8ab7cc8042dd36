-- What decides how an index is built: memory, whether the table is partitioned, and whether others use the database (and so may write).
select
    (select setting::bigint * 1024 from pg_catalog.pg_settings where name = 'maintenance_work_mem') as allowed,
    (select setting::bigint * current_setting('block_size')::bigint from pg_catalog.pg_settings where name = 'shared_buffers') as shared_buffers,
    (select c.relkind = 'p' from pg_catalog.pg_class as c where c.oid = to_regclass(format('%%I.%%I', %(schema)s::text, %(name)s::text)))
        as partitioned,
    exists (
        select from pg_catalog.pg_stat_activity as a
        where a.datname = current_database() and a.pid <> pg_backend_pid()
            -- Another role's sessions are seen without details.
            and coalesce(a.backend_type, 'client backend') = 'client backend'
            and (a.state is distinct from 'idle' or a.state_change > now() - interval '5 minutes')
    ) as used_by_others
