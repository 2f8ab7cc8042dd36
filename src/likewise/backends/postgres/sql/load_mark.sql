-- How far the load of a token into a collection is.
select l.position, l.last_id, l.finished
from likewise.load as l
where l.schema_name = %(schema)s and l.name = %(name)s and l.token = %(token)s
