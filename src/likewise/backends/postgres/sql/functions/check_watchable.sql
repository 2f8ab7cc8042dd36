-- Internal. An error that says what to do, if a table cannot be watched under this name.
create or replace function likewise.check_watchable(
    source oid, name text
)
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $function$
declare
    relation record;
    what text;
begin
    select c.oid::regclass as name, n.nspname::text as schema, c.relkind, c.relpersistence, c.relispartition,
        exists (select from pg_inherits as i where i.inhparent = c.oid and c.relkind = 'r') as has_children
    into relation
    from pg_class as c
    join pg_namespace as n on n.oid = c.relnamespace
    where c.oid = check_watchable.source;
    what := case relation.relkind
        when 'v' then 'a view: watch the table that it reads'
        when 'm' then 'a materialized view: watch the table that it reads'
        when 'f' then 'a foreign table: watch it in its own database'
        when 'r' then null
        when 'p' then null
        else 'no table'
    end;
    if what is null and relation.relpersistence = 't' then
        what := 'a temporary table, which no worker can see';
    elsif what is null and relation.relispartition then
        what := 'a partition, of whose changes through the parent triggers do not hear: watch the partitioned table';
    elsif what is null and relation.has_children then
        what := 'inherited from, and its triggers do not hear of changes in its children: watch a partitioned table, or one without children';
    elsif what is null and relation.schema in ('likewise', 'pg_catalog', 'information_schema') then
        what := 'one of the system''s own';
    end if;
    if what is not null then
        raise exception '% cannot be watched: it is %', relation.name, what using errcode = 'wrong_object_type';
    end if;
    if name !~ '^[A-Za-z_][A-Za-z0-9_]*$' or length(name) > 52 then
        raise exception '% cannot name a watch: use letters of the English alphabet, digits and underscores, at most 52', quote_literal(name)
            using errcode = 'invalid_name', hint = 'give it a name of its own: name => ''…''';
    end if;
    if relation.schema !~ '^[A-Za-z_][A-Za-z0-9_]*$' then
        raise exception 'the schema % cannot hold a collection: its name may have letters of the English alphabet, digits and underscores only',
            quote_literal(relation.schema) using errcode = 'invalid_name';
    end if;
end
$function$;

comment on function likewise.check_watchable is 'Internal: whether a table can be watched';
