-- The vector of a text that searches a collection, whose registered specification this is.
create or replace function likewise.query_vector(query text, spec jsonb)
returns @extension@.vector
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $function$
declare
    model constant jsonb := spec -> 'model';
begin
    if spec ->> 'embedder' is null then
        raise exception 'collection % has no embedding model', quote_literal(spec ->> 'name') using errcode = 'invalid_parameter_value',
            hint = 'search it by vector: likewise.find_similar_multimodal';
    end if;
    return likewise.vector_of(
        'text',
        convert_to(query, 'UTF8'),
        spec ->> 'embedder',
        case when model is not null then
            jsonb_build_array(model -> 'name', model -> 'revision', model -> 'dimension', coalesce(model -> 'query_prompt', '""'))
        end
    );
end
$function$;

comment on function likewise.query_vector is 'Internal: The vector of a text that searches a collection';
