-- Stores another calibration in a collection's specification, or none.
update likewise.registry
set spec = jsonb_set(spec, '{calibration}', %(calibration)s), updated_at = now()
where schema_name = %(schema)s and name = %(name)s
