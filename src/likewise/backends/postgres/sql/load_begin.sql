-- The first mark of a load. Changes nothing if another load has begun with the token.
insert into likewise.load (schema_name, name, token, position, last_id, finished)
values (%(schema)s, %(name)s, %(token)s, %(position)s, %(last_id)s, %(finished)s)
on conflict do nothing
