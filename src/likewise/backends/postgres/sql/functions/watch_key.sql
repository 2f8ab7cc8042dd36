-- Internal. The column by which a watched table's rows are known, its primary key or else a unique column without nulls, and its type.
create or replace function likewise.watch_key(
    source oid
)
returns table (name text, type text)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $function$
declare
    key record;
    primary_columns text;
begin
    select a.attname::text as name, a.atttypid as type, i.indisprimary into key
    from pg_index as i
    join pg_class as ic on ic.oid = i.indexrelid
    join pg_attribute as a on a.attrelid = i.indrelid and a.attnum = i.indkey[0]
    where i.indrelid = watch_key.source and i.indisunique and i.indimmediate and i.indisvalid and i.indpred is null
        and i.indnkeyatts = 1 and i.indkey[0] > 0 and a.attnotnull
    order by i.indisprimary desc, ic.relname
    limit 1;
    if not found then
        select string_agg(a.attname::text, ', ' order by a.attnum) into primary_columns
        from pg_index as i
        join pg_attribute as a on a.attrelid = i.indrelid and a.attnum = any (i.indkey)
        where i.indrelid = watch_key.source and i.indisprimary;
        raise exception '% cannot be watched: %', watch_key.source::regclass,
            case
                when primary_columns is null then 'it has no primary key'
                else format('its primary key is (%s), and rows must be known by one column, checked at once', primary_columns)
            end
            using errcode = 'invalid_table_definition',
                hint = 'add a column for it: alter table … add column row_id bigint generated always as identity unique not null';
    end if;
    with recursive base as (
        select t.oid, t.typbasetype, t.typtype from pg_type as t where t.oid = key.type
        union all
        select t.oid, t.typbasetype, t.typtype from base as b join pg_type as t on b.typtype = 'd' and t.oid = b.typbasetype
    )
    select key.name, format_type(key.type, -1) into name, type
    from base as b
    where b.typtype = 'e'
        or b.oid in ('int2'::regtype, 'int4'::regtype, 'int8'::regtype, 'oid'::regtype, 'numeric'::regtype, 'uuid'::regtype, 'text'::regtype,
            'varchar'::regtype, 'bpchar'::regtype, 'name'::regtype);
    if not found then
        raise exception '% cannot be watched: its key % is of type %, of which text is not always the same', watch_key.source::regclass,
            key.name, format_type(key.type, -1)
            using errcode = 'invalid_table_definition',
                hint = 'add a column for it: alter table … add column row_id bigint generated always as identity unique not null';
    end if;
    if name in ('query', 'similarity_threshold', 'max_results', 'similarity', 'distance') then
        raise exception '% cannot be watched: a search gives its key beside a column that is called % too', watch_key.source::regclass, name
            using errcode = 'duplicate_column', hint = 'rename the column';
    end if;
    return next;
end
$function$;

comment on function likewise.watch_key is 'Internal: the key of a table to be watched';
