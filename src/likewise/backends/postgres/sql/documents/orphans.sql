-- Copies of documents that have changed, gone, or become another owner's, or have other metadata: nothing like them holds their content any more.
select d.source
from likewise.documents as d
left join likewise.documents as o on o.id = d.duplicate_of and o.state = 'stored' and o.owner = d.owner and o.sha256 = d.sha256
    and o.settings -> 'metadata' is not distinct from d.settings -> 'metadata'
where d.schema_name = %(schema)s and d.collection = %(collection)s and d.tenant = %(tenant)s and d.state = 'duplicate' and o.id is null
