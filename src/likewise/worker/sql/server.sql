-- What a worker must know of the server.
select
    current_setting('server_version_num')::int as version,
    current_setting('wal_level') as wal_level,
    pg_catalog.pg_is_in_recovery() as standby,
    exists (
        select from pg_catalog.pg_class as c join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
        where n.nspname = 'likewise' and c.relname = 'refusal'
    ) as installed,
    inet_client_addr() is not null as over_tcp
