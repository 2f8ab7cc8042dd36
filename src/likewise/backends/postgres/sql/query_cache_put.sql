-- Remembers the vector of a text that was searched for.
insert into likewise.query_cache (model, query, vector)
values (%(model)s::text, %(query)s::bytea, %(vector)s::real[])
on conflict (model, query) do update
set vector = excluded.vector, last_used = now()
