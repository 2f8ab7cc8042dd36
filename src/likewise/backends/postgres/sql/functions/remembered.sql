-- The vector of something that was embedded before: of a text by the SHA-256 of its UTF-8, of a picture by that of its bytes.
-- With the rights of the owner, so that who may call embed() cannot read what others have searched for.
create or replace function likewise.remembered(identity jsonb, digest bytea, request uuid default null)
returns table (vector real[], stale boolean, refusal jsonb)
language sql
stable
rows 1
security definer
set search_path = pg_catalog, pg_temp
as $function$
    select q.vector, q.last_used < now() - interval '1 hour', to_jsonb(r)
    from (select 1) as one
    left join likewise.query_cache as q on q.model = identity::text and q.query = digest
    left join likewise.refusal as r on r.request = remembered.request
    where q.model is not null or r.request is not null
$function$;

comment on function likewise.remembered is 'Internal: A vector that is remembered, or why a request was refused';
