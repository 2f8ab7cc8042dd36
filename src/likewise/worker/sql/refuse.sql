-- Says to callers why there is no vector for them.
insert into likewise.refusal (request, sqlstate, message, hint)
select g.request, g.sqlstate, g.message, g.hint
from unnest(%(requests)s::uuid[], %(states)s::text[], %(messages)s::text[], %(hints)s::text[]) as g (request, sqlstate, message, hint)
on conflict (request) do nothing
