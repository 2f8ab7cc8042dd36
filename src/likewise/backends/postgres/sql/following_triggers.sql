-- What tells a copy that nothing has gone unnoted: the server and its history, and the triggers with the transactions that last altered them.
select
    (select count(*) from pg_catalog.pg_trigger as t where t.tgrelid = %(oid)s and t.tgname = any (%(names)s) and t.tgenabled = 'A') as enabled,
    concat_ws(
        ' ',
        (select c.system_identifier from pg_catalog.pg_control_system() as c),
        substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 1, 8),
        (select d.oid from pg_catalog.pg_database as d where d.datname = current_database()),
        (
            select string_agg(t.oid || t.tgenabled || t.xmin, ' ' order by t.tgname)
            from pg_catalog.pg_trigger as t
            where t.tgrelid = %(oid)s and t.tgname = any (%(names)s)
        )
    ) as origin
