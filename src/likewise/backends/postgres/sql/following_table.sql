-- Everything that following a table needs to know of it and of the server, in one statement; no row where there is no such table.
select
    c.oid::bigint as oid,
    c.relkind::text as kind,
    c.relpersistence::text as persistence,
    c.relreplident::text as identity,
    pg_catalog.row_security_active(c.oid) as row_security,
    pg_catalog.pg_is_in_recovery() as in_recovery,
    current_setting('wal_level') as wal_level,
    current_setting('server_version_num')::int as server_version,
    current_user::text as role,
    -- Where the provider keeps the right to itself, being a member of its role is as good.
    exists (
        select from pg_catalog.pg_roles as r
        where (r.rolname = current_user and (r.rolreplication or r.rolsuper))
            or (r.rolname = 'rds_replication' and pg_catalog.pg_has_role(current_user, r.oid, 'member'))
    ) as may_replicate,
    (
        select jsonb_agg(jsonb_build_object(
            'name', a.attname, 'type', t.typname, 'oid', t.oid::bigint, 'modifier', a.atttypmod
        ) order by a.attnum)
        from pg_catalog.pg_attribute as a
        join pg_catalog.pg_type as t on t.oid = a.atttypid
        where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
    ) as columns,
    coalesce((
        select array_agg(a.attname::text order by a.attnum)
        from pg_catalog.pg_index as i
        join pg_catalog.pg_attribute as a on a.attrelid = c.oid and a.attnum = any (i.indkey)
        where i.indrelid = c.oid and i.indisprimary
    ), '{}') as primary_key,
    p.oid::bigint as publication,
    -- Whether the publication has the whole of the table, and each kind of change.
    coalesce(
        pr.oid is not null and p.pubinsert and p.pubupdate and p.pubdelete and p.pubtruncate
        and to_jsonb(pr) ->> 'prqual' is null and to_jsonb(pr) ->> 'prattrs' is null,
        false
    ) as published
from pg_catalog.pg_class as c
left join pg_catalog.pg_publication as p on p.pubname = 'likewise_' || c.oid
left join pg_catalog.pg_publication_rel as pr on pr.prpubid = p.oid and pr.prrelid = c.oid
where c.relnamespace = to_regnamespace(quote_ident(%(schema)s)) and c.relname = %(name)s and c.relkind in ('r', 'p')
