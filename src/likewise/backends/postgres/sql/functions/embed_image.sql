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
declare
    wanted constant text := coalesce(model, likewise.default_model());
    -- The fifth element keeps pictures apart from texts.
    known constant jsonb := likewise.model_identity(wanted) || '["image"]';
    digest bytea;
    found record;
begin
    if input is null then
        return null;
    elsif octet_length(input) > 20000000 then
        raise exception 'the picture has % bytes; embed_image() takes 20,000,000', octet_length(input)
            using errcode = 'program_limit_exceeded', hint = 'make it smaller: models look at a few hundred pixels';
    end if;
    digest := sha256(input);
    if known is not null then
        select r.vector, r.stale into found from likewise.remembered(known, digest) as r;
        if found.vector is not null then
            if found.stale then
                perform likewise.note_use(known, digest);
            end if;
            return found.vector::@extension@.vector;
        end if;
    end if;
    return likewise.ask('image', encode(input, 'base64'), digest, wanted, known)::@extension@.vector;
end
$function$;

comment on function likewise.embed_image is 'The vector of a picture, embedded while the statement runs';
