-- Keeps the rows of a table embedded, through every insert, update, delete and truncate:
--     select likewise.watch('products', content => $$name || '. ' || description$$, image => 'photo');
--     select p.*, s.similarity from products as p join products_search('red dress', 0.6) as s using (id) where p.price < 100;
-- content, image and filter are SQL expressions over the columns of the table, as in its select list and its where clause. content gives text; image
-- gives a picture (bytea), or its path or URL (text). The name, by default the table's, is that of the watch: the vectors are in the collection
-- <name>_embeddings, and <name>_search finds rows by text, both in the table's schema. It returns at once and gives the name; a worker does the rest. Called again
-- with the name of a watch of the same table, it changes the expressions. The table must be yours.
create or replace function likewise.watch(
    source regclass,
    content text default null,
    image text default null,
    model text default null,
    name text default null,
    filter text default null
)
returns text
language sql
-- Nothing is set here, for the caller's search_path is what expressions are understood by; so every name has its schema.
as $function$
    select likewise.make_watch(
        source, content, image, coalesce(model, likewise.default_model()), name, filter, pg_catalog.current_schemas(false)::pg_catalog.text[]
    )
$function$;

comment on function likewise.watch is 'Keeps the rows of a table embedded';
