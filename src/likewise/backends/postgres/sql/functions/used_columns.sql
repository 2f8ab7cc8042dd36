-- Internal. The columns that expressions may use, with commas between them; '' for all. A column is taken for used where its name is found in the text, so there may be
-- some too many, and never one too few: a table's name may stand for its whole row, and odd names are not looked for.
create or replace function likewise.used_columns(
    source oid, expressions text
)
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $function$
    select case
        when expressions ~* 'u&"' or (
            select c.relname !~ '^\w+$' or expressions ~* ('\m' || c.relname || '\M') from pg_class as c where c.oid = used_columns.source
        ) then ''
        when bool_or(a.attgenerated <> '' and found.used) or not coalesce(bool_or(found.used), false) then ''
        when bool_or(found.used and a.attname ~ ',') then ''
        else string_agg(a.attname, ',' order by a.attnum) filter (where found.used)
    end
    from pg_attribute as a
    cross join lateral (select a.attname !~ '^\w+$' or expressions ~* ('\m' || a.attname || '\M') as used) as found
    where a.attrelid = used_columns.source and a.attnum > 0 and not a.attisdropped
$function$;

comment on function likewise.used_columns is 'Internal: the columns that a watch''s expressions use';
