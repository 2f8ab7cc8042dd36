-- Internal. An error if an expression cannot be evaluated on the rows of a table. As part of a where clause it can neither aggregate nor give several rows.
-- Like likewise.watch() it sets nothing: names are looked up by the search_path that make_watch has set.
create or replace function likewise.check_expression(
    what text, condition text, source regclass, alias text
)
returns void
language plpgsql
as $function$
begin
    execute pg_catalog.format(E'select from %s as %I where (%s) limit 0', source, alias, condition);
exception
    when others then
        raise exception '% cannot be evaluated on %: %', what, source, sqlerrm using errcode = sqlstate;
end
$function$;

comment on function likewise.check_expression is 'Internal: whether an expression can be evaluated';
