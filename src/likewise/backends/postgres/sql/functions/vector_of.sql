-- Internal. The vector of a text (its UTF-8) or a picture (its file) by a model, which must be the one of this identity if that is not null.
create or replace function likewise.vector_of(kind text, content bytea, model text, identity jsonb)
returns @extension@.vector
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $function$
declare
    most constant int := case kind when 'image' then 20000000 else 1000000 end;
    -- The fifth element keeps pictures apart from texts.
    known constant jsonb := coalesce(identity, likewise.model_identity(model)) || case kind when 'image' then '["image"]'::jsonb else '[]' end;
    digest constant bytea := sha256(content);
    found record;
begin
    if content is null then
        return null;
    elsif octet_length(content) > most then
        raise exception 'the % has % bytes; at most % are embedded', case kind when 'image' then 'picture' else 'text' end,
            octet_length(content), most using errcode = 'program_limit_exceeded', hint = 'make it smaller, or embed it in a program';
    end if;
    if known is not null then
        select r.vector, r.stale into found from likewise.remembered(known, digest) as r;
        if found.vector is not null then
            if found.stale then
                perform likewise.note_use(known, digest);
            end if;
            return found.vector::@extension@.vector;
        end if;
    end if;
    return likewise.ask(
        kind, case kind when 'image' then encode(content, 'base64') else convert_from(content, 'UTF8') end, digest, model, known
    )::@extension@.vector;
end
$function$;

comment on function likewise.vector_of is 'Internal: what embed() and embed_image() share';
