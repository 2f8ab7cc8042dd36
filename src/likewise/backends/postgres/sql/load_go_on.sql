-- The next mark of a load. Changes nothing if another load has gone on with the token.
update likewise.load
set position = %(position)s, last_id = %(last_id)s, finished = %(finished)s, updated_at = now()
where schema_name = %(schema)s and name = %(name)s and token = %(token)s and position = %(before)s and not finished
