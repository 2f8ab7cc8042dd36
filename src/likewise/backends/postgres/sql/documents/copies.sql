-- Of some contents, the document that holds each: the first, if there are several.
select distinct on (d.sha256) d.sha256, d.id, d.source
from likewise.documents as d
where d.schema_name = %(schema)s and d.collection = %(collection)s and d.tenant = %(tenant)s and d.owner = %(owner)s
    and coalesce(d.settings -> 'metadata', jsonb_build_object()) = %(metadata)s
    and d.state = 'stored' and d.sha256 = any (%(digests)s)
order by d.sha256, d.id
