-- Internal. What all searches share: the records of one collection nearest to a vector, among those that a condition holds for
-- (SQL over the table under the alias t, from likewise.filter_condition), with their similarities, best first.
-- Where the calibration has a curve for texts and one for pictures, the two are searched apart and ranked together.
create or replace function likewise.found_rows(
    schema_name text, name text, spec jsonb, query_embedding @extension@.vector, query_modality text, target_modality text,
    condition text, similarity_threshold float8, max_results int
)
returns setof likewise.found
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $function$
declare
    results likewise.found[];
begin
    if query_embedding is null then
        raise exception 'query_embedding is null' using errcode = 'null_value_not_allowed';
    end if;
    if (spec ->> 'dimension')::int <> @extension@.vector_dims(query_embedding) then
        raise exception 'query_embedding has dimension %, collection % has %', @extension@.vector_dims(query_embedding),
            quote_literal(name), spec ->> 'dimension' using errcode = 'data_exception';
    end if;
    if spec ->> 'metric' = 'cosine' and @extension@.vector_norm(query_embedding) = 0 then
        raise exception 'query_embedding has only zeros, and so no direction, which the metric cosine compares'
            using errcode = 'data_exception';
    end if;
    results := likewise.nearest_rows(schema_name, name, spec, query_embedding, array(
        select nullif(concat_ws(' and ', 't.modality = ' || quote_literal(leg.modality), condition), '')
        from unnest(case when target_modality is null and likewise.ranked_together(spec, query_modality)
            then array['text', 'image'] else array[target_modality] end) as leg(modality)
    ), max_results);
    return query
        select m.*
        from likewise.measured(results, spec, query_modality) as m
        where similarity_threshold is null or m.similarity >= similarity_threshold
        limit max_results;
end
$function$;

-- Whether texts and pictures can be ranked by similarity together: the calibration has a curve for both.
create or replace function likewise.ranked_together(spec jsonb, query_modality text)
returns boolean
language sql
immutable
parallel safe
set search_path = pg_catalog, pg_temp
as $function$
    select coalesce((spec ->> 'multimodal')::boolean, false)
        and spec #>> '{calibration,pairs,text-image,midpoint}' is not null
        and spec #>> array['calibration', 'pairs', query_modality || '-' || query_modality, 'midpoint'] is not null
$function$;

-- The rows with their similarities for a query of this modality, best first. Without a curve, or where the modality is null, it is the score
-- held to 0..1.
create or replace function likewise.measured(results likewise.found[], spec jsonb, query_modality text)
returns setof likewise.found
language plpgsql
immutable
parallel safe
set search_path = pg_catalog, pg_temp
as $function$
declare
    metric text = spec ->> 'metric';
    pairs jsonb = spec #> '{calibration,pairs}';
    text_curve jsonb = pairs -> case query_modality when 'text' then 'text-text' when 'image' then 'text-image' end;
    image_curve jsonb = pairs -> case query_modality when 'text' then 'text-image' when 'image' then 'image-image' end;
    together boolean = likewise.ranked_together(spec, query_modality);
begin
    return query
        with scored as (
            select f.*,
                case metric when 'cosine' then 1 - f.distance when 'l2' then 1 / (1 + f.distance) else -f.distance end as score,
                case metric when 'cosine' then 1 - f.distance when 'l2' then 1 - f.distance * f.distance / 2 else -f.distance end as cosine,
                case when f.modality = 'image' then image_curve else text_curve end as curve
            from unnest(results) as f
        ), placed as (
            select s.*, (s.cosine - (s.curve ->> 'midpoint')::float8) / (s.curve ->> 'width')::float8 as odds
            from scored as s
        )
        select p.id, p.content_id,
            case when p.odds is null then greatest(0, least(1, p.score)) else 0.5 + 0.5 * tanh(p.odds / 2) end,
            p.modality, p.content, p.metadata, p.distance
        from placed as p
        order by case when together then -p.odds end, p.distance, p.id collate "C";
end
$function$;
