-- Internal. Which collection a search is of, and what is wrong with its arguments, before a model is asked for anything.
-- suits: what a collection must have: 'modalities' to be the one meant where none is named, 'model' or 'vector' in any case.
create or replace function likewise.find_collection(
    collection text, suits text, out schema_name text, out name text, out spec jsonb
)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $function$
declare
    found record;
begin
    -- Only tables that are there: one that was dropped by hand leaves its line in the registry.
    select array_agg(r.schema_name || '.' || r.name order by r.schema_name, r.name) as names,
        min(r.schema_name) as schema_name, min(r.name) as name, (array_agg(r.spec))[1] as spec
    into found
    from likewise.registry as r
    join pg_catalog.pg_namespace as n on n.nspname = r.schema_name
    join pg_catalog.pg_class as c on c.relnamespace = n.oid and c.relname = r.name and c.relkind in ('r', 'p')
    where case
        when collection is not null then collection in (r.name, r.schema_name || '.' || r.name)
        when suits = 'modalities' then (r.spec ->> 'multimodal')::boolean
        when suits = 'model' then r.spec ->> 'embedder' is not null
        else r.spec ->> 'dimension' is not null
    end;
    if found.names is null then
        raise exception 'there is no collection %',
            coalesce(quote_literal(collection), case suits when 'vector' then 'with a vector of its own' else 'with ' || case suits when 'model' then 'a model' else suits end end)
            using errcode = 'undefined_table', hint = 'select * from likewise.collections lists them';
    elsif cardinality(found.names) > 1 then
        raise exception 'there are several collections: %', array_to_string(found.names, ', ')
            using errcode = 'ambiguous_parameter', hint = 'name one of these in the parameter "collection"';
    end if;
    if suits = 'model' and found.spec ->> 'embedder' is null then
        raise exception 'collection % has no model, so it cannot be searched by a text', quote_literal(found.name)
            using errcode = 'object_not_in_prerequisite_state',
            hint = 'search it by a vector with likewise.find_similar_multimodal, or create it with a model';
    end if;
    if found.spec ->> 'dimension' is null then
        raise exception 'collection % has named vectors only', quote_literal(found.name) using errcode = 'feature_not_supported';
    end if;
    schema_name := found.schema_name;
    name := found.name;
    spec := found.spec;
end
$function$;

-- Refuses what no search takes; the condition of those that it does, on a table under the alias t, null for every row.
create or replace function likewise.check_search(
    name text, spec jsonb, target_modality text, similarity_threshold float8, max_results int, filter jsonb
)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $function$
begin
    if max_results is null or max_results < 1 then
        raise exception 'max_results is %; it must be at least 1', max_results using errcode = 'invalid_parameter_value';
    end if;
    if similarity_threshold = 'NaN' then
        raise exception 'similarity_threshold is NaN; it must be a number, or null for no threshold'
            using errcode = 'invalid_parameter_value';
    end if;
    if target_modality is not null then
        if target_modality not in ('text', 'image') then
            raise exception 'target_modality is %; it must be text or image', quote_literal(target_modality)
                using errcode = 'invalid_parameter_value';
        elsif not (spec ->> 'multimodal')::boolean then
            raise exception 'collection % is not multimodal, so target_modality has nothing to choose from', quote_literal(name)
                using errcode = 'invalid_parameter_value';
        end if;
    end if;
    return likewise.filter_condition(filter, coalesce((spec ->> 'multimodal')::boolean, false));
end
$function$;
