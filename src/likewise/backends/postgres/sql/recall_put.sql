-- Remembers what was measured of a vector's index.
insert into likewise.recall (schema_name, name, vector, k, index_definition, rows, points)
values (%(schema)s, %(name)s, %(vector)s, %(k)s, %(index_definition)s, %(rows)s, %(points)s::text::jsonb)
on conflict (schema_name, name, vector, k) do update
set index_definition = excluded.index_definition, rows = excluded.rows, points = excluded.points, measured_at = now()
