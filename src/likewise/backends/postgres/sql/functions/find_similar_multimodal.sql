-- Searches a collection by vector, in any SQL client:
--     select * from likewise.find_similar_multimodal('[…]', 'image', 0.8, 10, 'catalog');
-- Where the collection has a calibration, similarity is what it makes of the scores of a query of this modality, and texts and pictures,
-- searched apart, are ranked together by it. Without one, or where query_modality is null, it is the score held to 0..1.
-- Runs with the caller's rights. An index on the column itself is used (one that is
-- quantised is not: then every row is compared) and, where a filter makes it fall short, the search is answered exactly, so that a
-- result is shorter than max_results only if no more records are similar enough.
create or replace function likewise.find_similar_multimodal(
    query_embedding @extension@.vector,
    target_modality varchar default null,
    similarity_threshold float8 default 0.7,
    max_results int default 10,
    collection text default null,
    query_modality text default 'text'
)
returns table (
    content_id text, similarity float8, modality text, content text, metadata jsonb, distance float8
)
language plpgsql
stable
rows 10
set search_path = pg_catalog, pg_temp
-- The function's set clauses are undone when the function returns, so nothing leaks into the caller's transaction.
@settings@
as $function$
declare
    entry record;
    tables text[];
    storage text;
    metric text;
    operator text;
    multimodal boolean;
    curves jsonb;
    text_curve jsonb;
    image_curve jsonb;
    together boolean;
    kind text;
    part likewise.found[];
    results likewise.found[];
    scan text;
begin
    if query_embedding is null then
        raise exception 'query_embedding is null' using errcode = 'null_value_not_allowed';
    end if;
    if max_results is null or max_results < 1 then
        raise exception 'max_results is %; it must be at least 1', max_results using errcode = 'invalid_parameter_value';
    end if;
    if query_modality is not null and query_modality not in ('text', 'image') then
        raise exception 'query_modality is %; it must be text or image, or null if it is neither', quote_literal(query_modality)
            using errcode = 'invalid_parameter_value';
    end if;
    if target_modality is not null and target_modality not in ('text', 'image') then
        raise exception 'target_modality is %; it must be text or image', quote_literal(target_modality)
            using errcode = 'invalid_parameter_value';
    end if;
    -- Only tables that are there: one that was dropped by hand leaves its line in the registry.
    select array_agg(c.schema_name || '.' || c.name order by c.schema_name, c.name) into tables
    from likewise.collections as c
    where (find_similar_multimodal.collection is null and c.multimodal)
        or find_similar_multimodal.collection in (c.name, c.schema_name || '.' || c.name);
    if tables is null then
        raise exception 'there is no collection %', coalesce(quote_literal(find_similar_multimodal.collection), 'with modalities')
            using errcode = 'undefined_table', hint = 'select * from likewise.collections lists them';
    elsif cardinality(tables) > 1 then
        raise exception 'there are several collections: %', array_to_string(tables, ', ')
            using errcode = 'ambiguous_parameter', hint = 'name one of these in the parameter "collection"';
    end if;
    select r.schema_name, r.name, r.spec into entry from likewise.registry as r where r.schema_name || '.' || r.name = tables[1];
    if entry.spec ->> 'dimension' is null then
        raise exception 'collection % has named vectors only', quote_literal(entry.name) using errcode = 'feature_not_supported';
    end if;
    if (entry.spec ->> 'dimension')::int <> @extension@.vector_dims(query_embedding) then
        raise exception 'query_embedding has dimension %, collection % has %', @extension@.vector_dims(query_embedding),
            quote_literal(entry.name), entry.spec ->> 'dimension' using errcode = 'data_exception';
    end if;
    multimodal := coalesce((entry.spec ->> 'multimodal')::boolean, false);
    if target_modality is not null and not multimodal then
        raise exception 'collection % is not multimodal, so target_modality has nothing to choose from', quote_literal(entry.name)
            using errcode = 'invalid_parameter_value';
    end if;

    storage := entry.spec ->> 'storage';
    if storage = 'auto' then
        storage := case when (entry.spec ->> 'dimension')::int <= 2000 then 'vector' else 'halfvec' end;
    end if;
    metric := entry.spec ->> 'metric';
    operator := case metric when 'cosine' then '<=>' when 'l2' then '<->' else '<#>' end;
    curves := entry.spec #> '{calibration,pairs}';
    text_curve := curves -> case query_modality when 'text' then 'text-text' when 'image' then 'text-image' end;
    image_curve := curves -> case query_modality when 'text' then 'text-image' when 'image' then 'image-image' end;
    together := coalesce(multimodal and target_modality is null and text_curve is not null and image_curve is not null, false);
    perform set_config('hnsw.ef_search', least(1000, greatest(100, max_results))::text, true);
    foreach kind in array case when together then array['text', 'image'] else array[target_modality::text] end loop
        -- First as an index answers it; when that is short, with + 0 on the distance, which no index serves: every row is compared.
        foreach scan in array array['', ' + 0'] loop
            execute format(
                'select array_agg(row(s.id, s.content_id, null, s.modality, s.content, s.metadata, s.distance)::likewise.found)'
                ' from (select t.id, %s as content_id, %s as modality, t.content, t.metadata,'
                ' (t.vector operator(@extension@.%s) $1::@extension@.%s)%s as distance'
                ' from %I.%I as t where %s order by distance limit $2) as s',
                case when multimodal then 't.content_id' else 't.id' end,
                case when multimodal then 't.modality' else 'null::text' end,
                operator, storage, scan, entry.schema_name, entry.name,
                case when kind is null then 'true' else 't.modality = $3' end
            ) into part using query_embedding, max_results, kind;
            exit when cardinality(part) = max_results;
        end loop;
        results := results || part;
    end loop;
    return query
        with measured as (
            select f.*,
                case metric when 'cosine' then 1 - f.distance when 'l2' then 1 / (1 + f.distance) else -f.distance end as score,
                case metric when 'cosine' then 1 - f.distance when 'l2' then 1 - f.distance * f.distance / 2 else -f.distance end as cosine,
                case when f.modality = 'image' then image_curve else text_curve end as curve
            from unnest(results) as f
        ), placed as (
            select m.*, (m.cosine - (m.curve ->> 'midpoint')::float8) / (m.curve ->> 'width')::float8 as odds
            from measured as m
        ), best as (
            select p.content_id, case when p.odds is null then greatest(0, least(1, p.score)) else 0.5 + 0.5 * tanh(p.odds / 2) end as likeness,
                p.modality, p.content, p.metadata, p.distance,
                row_number() over (order by case when together then -p.odds end, p.distance, p.id collate "C") as place
            from placed as p
        )
        select b.content_id, b.likeness, b.modality, b.content, b.metadata, b.distance
        from best as b
        where b.place <= max_results and b.likeness >= similarity_threshold
        order by b.place;
end
$function$;

comment on function likewise.find_similar_multimodal is
    'Records of a collection nearest to a vector, with their similarity (0..1), best first';
