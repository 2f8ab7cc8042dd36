-- Internal. The ids of the records whose content has at least one of these lexemes, best first. A record is worth the sum, over the words it
-- has, of how rare the word is (its inverse document frequency, by the planner's estimate) times ts_rank of that word alone, which grows
-- slower with each occurrence and falls with the length of the content: the parts of BM25 that the server can answer. (ts_rank_cd of words
-- joined by "or" counts occurrences of any of them: for red | dress it puts five times "red" before "a red dress".)
create or replace function likewise.keyword_ids(
    schema_name text, name text, condition text, language regconfig, words text[], depth int
)
returns text[]
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $function$
declare
    most int = greatest(2000, depth);
    -- In the words of an index on to_tsvector('english', content).
    document text = format('to_tsvector(%L::regconfig, t.content)', language::oid);
    indexed boolean = likewise.has_keyword_index(schema_name, name, language);
    rows float8;
    word record;
    queries tsquery[] = '{}';
    weights float8[] = '{}';
    wanted tsquery;
    total float8 = 0;
    ids text[];
begin
    if indexed then
        select greatest(w.rows, 1) into rows from likewise.vector_way(schema_name, name, '{}') as w;
    end if;
    for word in
        select q.query, least(e.matching, rows) as matching
        from unnest(words) as w(lexeme)
        -- A lexeme as a query: quotes and backslashes in it are doubled.
        cross join lateral (
            select ('''' || replace(replace(w.lexeme, E'\\', E'\\\\'), '''', '''''') || '''')::tsquery
        ) as q(query)
        left join lateral likewise.estimated_rows(schema_name, name, format('%s @@ %L::tsquery', document, q.query), rows) as e on indexed
        order by e.matching, char_length(w.lexeme) desc
    loop
        queries := queries || word.query;
        weights := weights || case when indexed then ln(1 + (rows - word.matching + 0.5) / (word.matching + 0.5)) else 1 end;
        -- Rarest first, as many as give few enough records. Without an index all words, for every content is parsed anyway.
        if wanted is null or not indexed or total + word.matching <= most then
            wanted := case when wanted is null then word.query else wanted || word.query end;
            total := total + coalesce(word.matching, 0);
        end if;
    end loop;
    execute format(
        'with found as materialized (select t.id, %1$s as document from %2$I.%3$I as t where %1$s @@ $1%4$s%5$s)'
        ' select array_agg(r.id order by r.worth desc, r.id collate "C") from ('
        'select f.id, (select sum(w.weight * ts_rank(f.document, w.query, 1)) from unnest($2, $3) as w(query, weight)) as worth'
        ' from found as f order by worth desc, f.id collate "C" limit $4) as r',
        document, schema_name, name, ' and ' || condition, case when indexed then format(' limit %s', most) end)
        into ids using wanted, queries, weights, depth;
    return ids;
end
$function$;

-- Whether the server can look words up in this language: a GIN index on to_tsvector('<language>', content), over all rows.
create or replace function likewise.has_keyword_index(schema_name text, name text, language regconfig)
returns boolean
language sql
stable
set search_path = pg_catalog, pg_temp
as $function$
    select exists (
        select
        from pg_catalog.pg_class as c
        join pg_catalog.pg_namespace as n on n.oid = c.relnamespace and n.nspname = has_keyword_index.schema_name
        join pg_catalog.pg_index as i on i.indrelid = c.oid and i.indisvalid and i.indpred is null
        join pg_catalog.pg_class as ic on ic.oid = i.indexrelid
        join pg_catalog.pg_am as am on am.oid = ic.relam and am.amname = 'gin'
        where c.relname = has_keyword_index.name
            and strpos(pg_get_expr(i.indexprs, c.oid), format('to_tsvector(%L::regconfig, content)', has_keyword_index.language)) > 0
    )
$function$;

-- The records with these ids, and their distances.
create or replace function likewise.rows_by_id(schema_name text, name text, spec jsonb, query_embedding @extension@.vector, ids text[])
returns likewise.found[]
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $function$
declare
    results likewise.found[];
    compared bigint;
begin
    execute likewise.search_statement(schema_name, name, spec, format('t.id = any (%L::text[])', ids))
        into results, compared using query_embedding, cardinality(ids);
    return results;
end
$function$;
