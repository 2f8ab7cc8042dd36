-- How many seconds embed() waits for a worker: the setting likewise.embed_timeout, with a unit as in '5s' or '500ms', else in
-- milliseconds as the server's own time-outs; 10 s unless set.
create or replace function likewise.embed_seconds()
returns float8
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $function$
declare
    text_ constant text := coalesce(nullif(trim(current_setting('likewise.embed_timeout', true)), ''), '10s');
    parts constant text[] := regexp_match(text_, '^(\d{1,9}(?:\.\d{1,9})?) *(ms|s|min)?$');
    seconds float8;
begin
    seconds := parts[1]::float8 * case coalesce(parts[2], 'ms') when 'ms' then 0.001 when 's' then 1 else 60 end;
    if seconds is null or not seconds between 0.001 and 3600 then
        raise exception 'likewise.embed_timeout is %; it is a time from 1ms to 60min, such as 5s', quote_literal(text_)
            using errcode = 'invalid_parameter_value';
    end if;
    return seconds;
end
$function$;

comment on function likewise.embed_seconds is 'Internal: how long embed() waits for a worker: the setting likewise.embed_timeout';
