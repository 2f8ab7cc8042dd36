-- Searches a collection by the meaning of a text and by its words at once, in any SQL client:
--     select * from likewise.hybrid_search('reading lamp', 10, 'articles', language => 'english');
-- Two rankings, each of the best max(100, 5 * max_results), are fused by reciprocal rank: semantic_weight / (60 + semantic_rank) +
-- (1 - semantic_weight) / (60 + keyword_rank), divided so that 1 is the first of both. A rank is null where that ranking has not got the
-- record. The semantic ranking is that of likewise.semantic_search.
-- The keyword ranking is of records whose content has at least one of the words, the more and the rarer the better. It is made for an index
-- by the user: create index on articles using gin (to_tsvector('english', content)), in the language of the call. With that, at most 2,000
-- records are ranked (or the depth above), those with the rarest words, as far as the statistics of ANALYZE know which are rare; of
-- a word that more of them have, those that are met first. Without it every content is parsed in each search, and all words are equally rare. Of a query with more than 32 different words the 32 longest count. A query of nothing but stop words is
-- answered by meaning alone. Row security keeps the server from using that index. Runs with the caller's rights.
create or replace function likewise.hybrid_search(
    query text,
    max_results int default 10,
    collection text default null,
    filter jsonb default null,
    target_modality text default null,
    semantic_weight float8 default 0.5,
    language regconfig default 'pg_catalog.simple'
)
returns table (
    content_id text, similarity float8, modality text, content text, metadata jsonb, distance float8,
    score float8, semantic_rank int, keyword_rank int
)
language plpgsql
volatile
rows 10
set search_path = pg_catalog, pg_temp
as $function$
declare
    entry record;
    condition text;
    query_embedding @extension@.vector;
    depth int;
    words text[];
    by_meaning text[];
    by_words text[];
    best record;
    results likewise.found[];
begin
    if query is null then
        raise exception 'query is null; it must be a text' using errcode = 'null_value_not_allowed';
    end if;
    if language is null then
        raise exception 'language is null; it must be a text search configuration, such as simple or english'
            using errcode = 'null_value_not_allowed';
    end if;
    -- NaN is greater than any number.
    if semantic_weight is null or semantic_weight < 0 or semantic_weight > 1 then
        raise exception 'semantic_weight is %; it must be from 0 to 1', semantic_weight using errcode = 'invalid_parameter_value';
    end if;
    select * into entry from likewise.find_collection(collection, 'model');
    condition := likewise.check_search(entry.name, entry.spec, target_modality, null, max_results, filter);
    query_embedding := likewise.query_vector(query, entry.spec);
    depth := greatest(100, least(2147483647, 5 * max_results::bigint));

    by_meaning := array(
        select f.id
        from likewise.found_rows(entry.schema_name, entry.name, entry.spec, query_embedding, 'text', target_modality, condition, null, depth) as f);
    words := array(
        select w.lexeme from unnest(to_tsvector(language, query)) as w order by char_length(w.lexeme) desc, w.lexeme collate "C" limit 32);
    if cardinality(words) = 0 then
        semantic_weight := 1;
    else
        by_words := likewise.keyword_ids(entry.schema_name, entry.name,
            nullif(concat_ws(' and ', 't.modality = ' || quote_literal(target_modality), condition), ''), language, words, depth);
    end if;

    select array_agg(f.id order by f.score desc, f.id collate "C") as ids, array_agg(f.score order by f.score desc, f.id collate "C") as scores,
        array_agg(f.semantic_rank order by f.score desc, f.id collate "C") as semantic_ranks,
        array_agg(f.keyword_rank order by f.score desc, f.id collate "C") as keyword_ranks
    into best
    from (
        select id, m.place as semantic_rank, k.place as keyword_rank,
            61 * (coalesce(semantic_weight / (60 + m.place), 0) + coalesce((1 - semantic_weight) / (60 + k.place), 0)) as score
        from unnest(by_meaning) with ordinality as m(id, place)
        full join unnest(by_words) with ordinality as k(id, place) using (id)
        order by 4 desc, id collate "C"
        limit max_results
    ) as f;
    results := likewise.rows_by_id(entry.schema_name, entry.name, entry.spec, query_embedding, best.ids);
    return query
        select f.content_id, f.similarity, f.modality, f.content, f.metadata, f.distance, b.score, b.semantic_rank::int, b.keyword_rank::int
        from likewise.measured(results, entry.spec, 'text') as f
        join unnest(best.ids, best.scores, best.semantic_ranks, best.keyword_ranks) as b(id, score, semantic_rank, keyword_rank) on b.id = f.id
        order by b.score desc, f.id collate "C";
end
$function$;

comment on function likewise.hybrid_search is
    'Records of a collection found by meaning and by words, two rankings fused, best first';
