-- Sources of documents after one, in order.
select d.source
from likewise.documents as d
where d.schema_name = %(schema)s and d.collection = %(collection)s and d.tenant = %(tenant)s
    and (%(after)s::text is null or d.source collate "C" > %(after)s::text)
order by d.source collate "C"
limit %(limit)s
