-- What a worker must know of the server.
select
    current_setting('server_version_num')::int as version,
    current_setting('wal_level') as wal_level,
    pg_catalog.pg_is_in_recovery() as standby,
    to_regclass('likewise.refusal') is not null as installed,
    inet_client_addr() is not null as over_tcp
