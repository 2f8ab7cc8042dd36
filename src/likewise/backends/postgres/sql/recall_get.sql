-- What was measured of a vector's index.
select r.index_definition, r.rows, r.points
from likewise.recall as r
where r.schema_name = %(schema)s and r.name = %(name)s and r.vector = %(vector)s and r.k = %(k)s
