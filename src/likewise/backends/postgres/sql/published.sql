-- The publication by which copies follow a collection, if there is one and we may drop it; it goes with the table.
select p.pubname::text
from pg_catalog.pg_publication as p
join pg_catalog.pg_class as c on p.pubname = 'likewise_' || c.oid
where c.relnamespace = to_regnamespace(quote_ident(%s)) and c.relname = %s and c.relkind in ('r', 'p')
    and pg_catalog.pg_has_role(current_user, p.pubowner, 'usage')
