-- The vector of a picture (the bytes of its file) by a model that knows pictures, in any SQL client:
--     select * from likewise.find_similar_multimodal(likewise.embed_image(pg_read_binary_file('shoe.jpg')), query_modality => 'image');
-- As embed() in everything else.
create or replace function likewise.embed_image(
    input bytea,
    model text default null
)
returns @extension@.vector
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $function$
begin
    return likewise.vector_of('image', input, coalesce(model, likewise.default_model()), null);
end
$function$;

comment on function likewise.embed_image is 'The vector of a picture, embedded while the statement runs';
